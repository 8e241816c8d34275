"""Figures for the operator, which `millstream plugin describe` shows.

A name has 1 to 64 bytes: ASCII letters, digits and `_`, the first a letter. What breaks that rule is
dropped, and the log tells of the first."""

from . import host


def counter_add(name: str, delta: int = 1) -> None:
    """Adds to a counter, which begins at 0."""
    host.current.counter_add(name, delta)


def gauge_set(name: str, value: float) -> None:
    """Sets a gauge. What is not a finite number is dropped."""
    host.current.gauge_set(name, float(value))
