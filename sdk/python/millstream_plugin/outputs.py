"""Writes outcomes, whose layout is that of `wit/batch-handler.wit`."""

from typing import Iterable, List, Optional, Tuple, Union

from .context import Output
from .failures import Failure, Reject, Retry, encoded_reason
from .records import Header, Record

MAX_RECORD_BYTES = 4 << 20
MAX_HEADERS = 256
MAX_HEADER_NAME_BYTES = 1024

_EMIT, _REJECT, _RETRY = 0, 1, 2


class _Of:
    """As the record has it that is passed on."""


_OF_RECORD = _Of()

Content = Union[bytes, str, None]


class Outputs:
    """Takes what a handler emits for the record at hand."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._input = -1
        self._timestamp_ms = 0
        self._last_input = 0
        # Both as they were before the record at hand.
        self._before = (0, 0)

    def emit(
        self,
        output: Output,
        record: Optional[Record] = None,
        *,
        key: Union[Content, _Of] = _OF_RECORD,
        value: Union[Content, _Of] = _OF_RECORD,
        headers: Union[Iterable[Tuple[str, Content]], _Of] = _OF_RECORD,
        timestamp_ms: Union[int, _Of] = _OF_RECORD,
    ) -> None:
        """Emits a record to an output, any number for one input record.

        With `record` that record is passed on, but for what else is named; without it, what is not
        named is not there. The time is that of the record at hand unless it is named. Texts become
        UTF-8.

        Raises `Reject`, which rejects the record at hand, when the new one has more than 4 MiB of
        key, value and headers, more than 256 headers, or a header's name of more than 1024 bytes.
        """
        if record is not None:
            key = record.key if isinstance(key, _Of) else key
            value = record.value if isinstance(value, _Of) else value
            headers = record.headers if isinstance(headers, _Of) else headers
            timestamp_ms = record.timestamp_ms if isinstance(timestamp_ms, _Of) else timestamp_ms
        time = self._timestamp_ms if isinstance(timestamp_ms, _Of) else timestamp_ms
        key_bytes = None if isinstance(key, _Of) else _content(key)
        value_bytes = None if isinstance(value, _Of) else _content(value)
        listed = [] if isinstance(headers, _Of) else [(n.encode(), _content(v)) for n, v in headers]
        _check(key_bytes, value_bytes, listed)

        body = bytearray(b"\0")
        _put(body, time)
        # The offset's delta is 0.
        body.append(0)
        _put_bytes(body, key_bytes)
        _put_bytes(body, value_bytes)
        _put(body, len(listed))
        for name, content in listed:
            _put_bytes(body, name)
            _put_bytes(body, content)
        self._entry(_EMIT)
        _put(self._bytes, output.index)
        _put(self._bytes, len(body))
        self._bytes += body

    def _begin(self, timestamp_ms: int) -> None:
        """Turns to the next record."""
        self._input += 1
        self._timestamp_ms = timestamp_ms
        self._before = (len(self._bytes), self._last_input)

    def _fail(self, failure: Failure) -> None:
        """Withdraws what was emitted for the record at hand, and says why it failed."""
        length, self._last_input = self._before
        del self._bytes[length:]
        if isinstance(failure, Retry):
            self._entry(_RETRY)
            _put(self._bytes, failure.after_ms)
        else:
            self._entry(_REJECT)
        _put_bytes(self._bytes, encoded_reason(failure.reason))

    def _entry(self, kind: int) -> None:
        _put(self._bytes, self._input - self._last_input)
        self._bytes.append(kind)
        self._last_input = self._input


def _content(content: Content) -> Optional[bytes]:
    if content is None or isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytearray, memoryview)):
        return bytes(content)
    raise TypeError(f"bytes or a text are emitted, not {type(content).__name__}")


def _check(
    key: Optional[bytes], value: Optional[bytes], headers: List[Tuple[bytes, Optional[bytes]]]
) -> None:
    """Refuses what the host would refuse."""
    length = len(key or b"") + len(value or b"")
    for name, content in headers:
        if len(name) > MAX_HEADER_NAME_BYTES:
            raise Reject(
                f"an output has a header's name of {len(name)} bytes, more than {MAX_HEADER_NAME_BYTES}"
            )
        length += len(name) + len(content or b"")
    if length > MAX_RECORD_BYTES:
        raise Reject(f"an output has {length} bytes, more than {MAX_RECORD_BYTES}")
    if len(headers) > MAX_HEADERS:
        raise Reject(f"an output has {len(headers)} headers, more than {MAX_HEADERS}")


def _put(to: bytearray, number: int) -> None:
    raw = (number << 1) ^ (number >> 63)
    while raw >= 0x80:
        to.append(raw & 0x7F | 0x80)
        raw >>= 7
    to.append(raw)


def _put_bytes(to: bytearray, content: Optional[bytes]) -> None:
    if content is None:
        to.append(1)
    else:
        _put(to, len(content))
        to += content
