"""Reads record batches, whose layout is that of `wit/batch-handler.wit`."""

import json
from struct import Struct
from typing import Any, Iterator, List, Optional, Tuple

# Base offset, length, attributes, base and max timestamp, number of records.
_HEADER = Struct(">QI4xx4xH4xqq14xI")
_LENGTH_END = 12
_APPEND_TIME_BIT = 0x08

Header = Tuple[str, Optional[bytes]]


class Record:
    """A record as it comes in."""

    __slots__ = ("offset", "timestamp_ms", "key", "value", "_batch", "_headers_at")

    offset: int
    """Its position in the partition. Offsets rise, and may have gaps."""
    timestamp_ms: int
    """Its time, milliseconds since 1970."""
    key: Optional[bytes]
    """What decides its partition, if it has one."""
    value: Optional[bytes]
    """The payload. `None` in a compacted topic: the key is deleted."""

    @property
    def headers(self) -> List[Header]:
        """Names and values beside the record, in their order. They are read when they are asked for."""
        batch = self._batch
        count, at = _varint(batch, self._headers_at)
        headers = []
        for _ in range(count):
            name, at = _bytes(batch, at)
            value, at = _bytes(batch, at)
            headers.append(((name or b"").decode(), value))
        return headers

    def header(self, name: str) -> Optional[bytes]:
        """The value of the first header of this name; `None` when there is none, or it has none."""
        return next((value for header, value in self.headers if header == name), None)

    def text(self) -> str:
        """The value as UTF-8."""
        return (self.value or b"").decode()

    def json(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value or b"")

    def __repr__(self) -> str:
        return f"<record at offset {self.offset}, key {self.key!r}, value {self.value!r}>"


def _varint(batch: bytes, at: int) -> Tuple[int, int]:
    """A zigzag number, and where it ends."""
    byte = batch[at]
    at += 1
    raw = byte & 0x7F
    shift = 7
    while byte >= 0x80:
        byte = batch[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        shift += 7
    return (raw >> 1) ^ -(raw & 1), at


def _bytes(batch: bytes, at: int) -> Tuple[Optional[bytes], int]:
    """Bytes with their length in front (-1 is none), and where they end."""
    length, at = _varint(batch, at)
    if length < 0:
        return None, at
    return batch[at : at + length], at + length


def records(batches: bytes) -> Iterator[Record]:
    """The records of one or more batches, one after the other."""
    batch_at = 0
    while batch_at < len(batches):
        base_offset, length, attributes, base_ms, max_ms, count = _HEADER.unpack_from(batches, batch_at)
        at = batch_at + _HEADER.size
        append_ms = max_ms if attributes & _APPEND_TIME_BIT else None
        for _ in range(count):
            # Numbers of one byte, which most are, are read in place: a call costs more than the rest.
            byte = batches[at]
            if byte < 0x80:
                end = at + 1 + ((byte >> 1) ^ -(byte & 1))
                at += 2
            else:
                length_of, at = _varint(batches, at)
                end = at + length_of
                at += 1
            byte = batches[at]
            if byte < 0x80:
                timestamp_delta = (byte >> 1) ^ -(byte & 1)
                at += 1
            else:
                timestamp_delta, at = _varint(batches, at)
            byte = batches[at]
            if byte < 0x80:
                offset_delta = (byte >> 1) ^ -(byte & 1)
                at += 1
            else:
                offset_delta, at = _varint(batches, at)
            record = Record()
            record.offset = base_offset + offset_delta
            record.timestamp_ms = base_ms + timestamp_delta if append_ms is None else append_ms
            record.key, at = _bytes(batches, at)
            record.value, at = _bytes(batches, at)
            record._batch = batches
            record._headers_at = at
            yield record
            at = end
        batch_at += _LENGTH_END + length
