"""Lines for the plugin's log, which `millstream plugin logs` shows. `print` writes there as well."""

import sys

from . import host


def _line(level: int, message: object) -> None:
    frame = sys._getframe(2)
    place = f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
    host.current.log(level, place, str(message))


def trace(message: object) -> None:
    """Very detailed."""
    _line(0, message)


def debug(message: object) -> None:
    """For the author."""
    _line(1, message)


def info(message: object) -> None:
    """For the operator."""
    _line(2, message)


def warn(message: object) -> None:
    """Something to look at."""
    _line(3, message)


def error(message: object) -> None:
    """Something failed."""
    _line(4, message)


def critical(message: object) -> None:
    """Nothing works."""
    _line(5, message)
