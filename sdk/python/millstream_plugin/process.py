"""Runs a plugin over the records, or the timers, of a call."""

from operator import attrgetter
from typing import Any, Callable, Iterable

from .failures import Abort, Failure, Reject, reason_of
from .outputs import Outputs
from .records import records
from .timers import Timer


def process(plugin: Any, batches: bytes) -> bytes:
    """The outcomes of all records. Raises `Abort` when the call as a whole fails."""
    return _outcomes(plugin.handle, records(batches), attrgetter("timestamp_ms"))


def fire(plugin: Any, timers: Iterable[Timer]) -> bytes:
    """The outcomes of all timers. Raises `Abort` when the call as a whole fails."""
    return _outcomes(plugin.on_timer, timers, attrgetter("at_ms"))


def _outcomes(handle: Callable, inputs: Iterable[Any], time_of: Callable[[Any], int]) -> bytes:
    out = Outputs()
    for given in inputs:
        out._begin(time_of(given))
        try:
            handle(given, out)
        except Abort:
            raise
        except Failure as failure:
            out._fail(failure)
        except MemoryError as error:
            raise Abort("the worker's memory is full") from error
        except Exception as error:  # Whatever a handler raises is about its record.
            out._fail(Reject(reason_of(error)))
    return bytes(out._bytes)
