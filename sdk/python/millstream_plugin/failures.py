"""A record, or a call, that could not be handled."""

import traceback
from typing import Optional, Sequence

MAX_REASON_BYTES = 4096
MAX_RETRY_MS = 86_400_000

# The deployment's own back-off goes before, if it is longer.
HTTP_RETRY_MS = 100


class Failure(Exception):
    """Why a record or a call could not be handled: the reason is for the operator."""

    def __init__(self, reason: object):
        super().__init__(str(reason))
        self.reason = str(reason)


class Reject(Failure):
    """The record is bad and will always be. It goes where the deployment sends such records."""


class Retry(Failure):
    """The record cannot be handled now, but perhaps later: not before `after_ms` milliseconds have
    passed, a day at most."""

    def __init__(self, after_ms: int, reason: object):
        super().__init__(reason)
        self.after_ms = min(max(int(after_ms), 0), MAX_RETRY_MS)


class Abort(Failure):
    """The worker cannot go on, whatever the record. Nothing of the call counts; a new worker handles
    the same records later."""


class TimerError(Failure):
    """A timer was not set or cancelled."""


class TimerTooLarge(TimerError, Reject):
    """The key has too many bytes. That rejects the record unless it is caught: it always will be so."""

    def __init__(self, what: object):
        super().__init__(f"too large for a timer: {what}")


class TimerQuotaExceeded(TimerError, Abort):
    """The call would set and cancel too many timers, and fails unless it is caught."""

    def __init__(self, what: object):
        super().__init__(f"too many timers: {what}")


class TimerReadOnly(TimerError, Abort):
    """Timers cannot be changed before the first record: the worker does not start."""

    def __init__(self) -> None:
        super().__init__("timers cannot be changed before the first record")


class NoTimerHandler(TimerError, Abort):
    """The timer would have nothing to call: the call that sets it fails."""

    def __init__(self) -> None:
        super().__init__("timers need a method `on_timer` in `Plugin`")


class UnknownTable(Abort):
    """The deployment has no table of this name."""

    @classmethod
    def among(cls, name: str, declared: Sequence[str]) -> "UnknownTable":
        """None has the name, but these are there."""
        there = ", ".join(f"`{table}`" for table in declared) or "none"
        return cls(f"the deployment has no table `{name}` (it has {there})")


class TableKeyTooLarge(Reject):
    """The key has too many bytes. That rejects the record unless it is caught: it always will be so."""

    def __init__(self, what: object):
        super().__init__(f"too large for a table: {what}")


class HttpError(Failure):
    """A request had no response, or one with a status that tells of a failure."""

    status: Optional[int]
    """The status, if there is a response."""


class FinalHttpError(HttpError, Reject):
    """The same request would come to the same another time. That rejects the record unless it is caught."""

    def __init__(self, reason: object, status: Optional[int] = None):
        super().__init__(reason)
        self.status = status


class PassingHttpError(HttpError, Retry):
    """Another time the request may have a response. The record is tried again unless this is caught."""

    def __init__(self, reason: object, status: Optional[int] = None):
        Retry.__init__(self, HTTP_RETRY_MS, reason)
        self.status = status


class NotImported(Abort):
    """A module was used that `plugin.py` does not import: the component lacks what it needs."""

    def __init__(self, module: str):
        super().__init__(not_imported(module))


def not_imported(module: str) -> str:
    """What to write for a module to be there."""
    return (
        f"`millstream_plugin.{module}` is used, but not imported by plugin.py: "
        f"write `from millstream_plugin import {module}` at its top"
    )


def reason_of(error: BaseException) -> str:
    """What an exception says: its kind and where in the plugin it was raised, if it is not one of
    ours."""
    if isinstance(error, Failure):
        return error.reason
    text = traceback.format_exception_only(error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<")]
    if not own:
        return text
    place = own[-1]
    # The innermost line of the plugin itself says more than one of a library below it.
    for frame in own:
        if frame.filename.endswith("plugin.py"):
            place = frame
    return f"{text} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"


def encoded_reason(reason: str) -> bytes:
    """As many of its characters as a reason may have, in UTF-8."""
    whole = reason.encode("utf-8", "replace")
    if len(whole) <= MAX_REASON_BYTES:
        return whole
    return whole[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
