"""Timers: a plugin has itself called later, when records, or the clock on the wall, have reached a time.

A plugin that sets timers has a method `on_timer` in its `plugin.py`, which is called with those whose time
has come:

    class Plugin:
        def handle(self, record, out):
            hour = record.timestamp_ms // HOUR_MS
            count(hour)
            timers.set(Clock.RECORD_TIME, str(hour), (hour + 1) * HOUR_MS)

        def on_timer(self, timer, out):
            out.emit(self.counts, key=timer.key, value=state.get(timer.key))

A timer is known by its clock and its key, a text or bytes: setting it again moves it. Timers belong to the
deployment and the partition, outlive the worker, and count if and only if the call does, as the state.
`on_timer` emits, and fails, as `handle` does; a record without a time has that of the timer.

The clock of the records stands at the greatest timestamp that the worker has handled: it never goes back,
and stands still while no records come. In one call 10000 timers are set and cancelled at most. A failure
is a `TimerError`: of a key of more than 1024 bytes (`TimerTooLarge`), which rejects the record unless it is
caught; of too many timers (`TimerQuotaExceeded`), of a timer in `Plugin.__init__` (`TimerReadOnly`), or of
one in a plugin without `on_timer` (`NoTimerHandler`), which fail the call."""

import enum
from typing import NamedTuple, Union

from . import host
from .failures import NoTimerHandler, TimerError, TimerQuotaExceeded, TimerReadOnly, TimerTooLarge
from .state import Bytes, _bytes

__all__ = [
    "Clock",
    "NoTimerHandler",
    "Timer",
    "TimerError",
    "TimerQuotaExceeded",
    "TimerReadOnly",
    "TimerTooLarge",
    "cancel",
    "set",
]


class Clock(enum.Enum):
    """What a timer's time is measured by."""

    RECORD_TIME = "record-time"
    """The greatest timestamp of all records that the worker has handled."""
    WALL_TIME = "wall-time"
    """The broker's clock."""


class Timer(NamedTuple):
    """A timer whose time has come. It is gone, unless it is set again."""

    clock: Clock
    """The clock that has reached it."""
    key: bytes
    """The key it was set with."""
    at_ms: int
    """The time it was set for, milliseconds since 1970. It fires at that time or later."""


def set(clock: Union[Clock, str], key: Bytes, at_ms: int) -> None:
    """Sets a timer: it fires once its clock has reached `at_ms`, milliseconds since 1970. In the past is
    allowed: it fires soon."""
    at_ms = int(at_ms)
    if not -(1 << 63) <= at_ms < 1 << 63:
        raise ValueError(f"a timer's time has at most 64 bits: {at_ms}")
    host.current.timer_set(Clock(clock), _bytes(key), at_ms)


def cancel(clock: Union[Clock, str], key: Bytes) -> None:
    """Cancels a timer, if there is one."""
    host.current.timer_cancel(Clock(clock), _bytes(key))
