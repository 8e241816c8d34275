"""Runs a plugin over the records of a call."""

from typing import Any

from .failures import Abort, Failure, Reject, reason_of
from .outputs import Outputs
from .records import records


def process(plugin: Any, batches: bytes) -> bytes:
    """The outcomes of all records. Raises `Abort` when the call as a whole fails."""
    out = Outputs()
    handle = plugin.handle
    for record in records(batches):
        out._begin(record.timestamp_ms)
        try:
            handle(record, out)
        except Abort:
            raise
        except Failure as failure:
            out._fail(failure)
        except MemoryError as error:
            raise Abort("the worker's memory is full") from error
        except Exception as error:  # Whatever a handler raises is about its record.
            out._fail(Reject(reason_of(error)))
    return bytes(out._bytes)
