"""Runs a plugin in a test, without a host.

    from millstream_plugin import testing
    from plugin import Plugin

    worker = testing.Worker(Plugin, outputs=["hot"], config={"limit": "20"})
    assert worker.call(b'{"celsius": 25}') == [testing.Emitted("hot", value=b'{"celsius": 25}')]

State, timers, log lines and metrics are those of the worker: `worker.state`, `worker.timers`,
`worker.lines`, `worker.metrics`. Timers fire when the test says how late it is:

    worker.fire(Clock.RECORD_TIME, now_ms)

What a plugin finds in tables and secrets is given with it, and may be changed:

    worker = testing.Worker(Plugin, tables={"places": {"pdx": "Portland"}}, secrets={"api-key": "hunter2"})
    worker.tables["places"][b"pdx"] = b"Portland, Oregon"

Requests are answered by a function, which gets an `http.Request`:

    testing.Worker(Plugin, answer_http=lambda request: http.Response(200, request.body.upper()))
"""

from struct import pack
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import host
from .context import Context
from .http import Request, Response
from .outputs import Outputs, _put, _put_bytes
from .process import fire, process
from .records import Header, _bytes, _varint
from .state import Bytes
from .state import _bytes as _as_bytes
from .timers import Clock, Timer


class NewRecord(NamedTuple):
    """A record for a call."""

    value: Optional[bytes] = None
    key: Optional[bytes] = None
    headers: Sequence[Header] = ()
    timestamp_ms: int = 0


class Emitted(NamedTuple):
    """A record that a plugin has emitted."""

    output: str
    value: Optional[bytes] = None
    key: Optional[bytes] = None
    headers: Sequence[Header] = ()
    timestamp_ms: int = 0
    input: int = 0
    """Which record, or timer, of the call it comes from, counted from 0."""


class Rejected(NamedTuple):
    """A record, or timer, that a plugin has rejected."""

    reason: str
    input: int = 0


class Retried(NamedTuple):
    """A record, or timer, that is to be handled again."""

    after_ms: int
    reason: str
    input: int = 0


Outcome = Union[Emitted, Rejected, Retried]


class Worker:
    """A plugin at work, with a host of its own."""

    def __init__(
        self,
        plugin: Any,
        *,
        outputs: Iterable[str] = (),
        config: Mapping[str, str] = {},
        deployment: str = "test",
        topic: str = "records",
        partition: int = 0,
        tables: Mapping[str, Mapping[Bytes, Bytes]] = {},
        secrets: Mapping[str, str] = {},
        answer_http: Optional[Callable[[Request], Response]] = None,
    ):
        self._host = host.Memory(handles_timers=hasattr(plugin, "on_timer"))
        self._host.changed_timers = None
        for name, entries in tables.items():
            contents = {_as_bytes(key): _as_bytes(value) for key, value in entries.items()}
            self._host.tables[name] = contents
        self._host.secrets = dict(secrets)
        self._host.answer_http = answer_http
        host.current = self._host
        self._context = Context(deployment, topic, partition, list(outputs), config)
        self._plugin = plugin(self._context)
        self._offset = 0

    def call(self, *records: Union[NewRecord, bytes]) -> List[Outcome]:
        """Has the plugin handle records in one call. Bytes are a record with that value.

        Raises `Abort` when the call fails; state and timers are then as they were before."""
        listed = [r if isinstance(r, NewRecord) else NewRecord(bytes(r)) for r in records]
        outcomes = self._call(lambda: process(self._plugin, batch(listed, self._offset)))
        self._offset += len(listed)
        return outcomes

    def fire(self, clock: Clock, now_ms: int) -> List[Outcome]:
        """Fires the timers that are due when `clock` stands at `now_ms`, in one call, those of an earlier
        time first: `input` of an outcome counts them.

        Raises `Abort` when the call fails; state and timers are then as they were before."""

        def fire_due() -> bytes:
            due = self._host.take_due(clock, now_ms)
            return fire(self._plugin, [Timer(clock, key, at_ms) for key, at_ms in due])

        return self._call(fire_due)

    def _call(self, call: Callable[[], bytes]) -> List[Outcome]:
        host.current = self._host
        state, timers = dict(self._host.state), dict(self._host.timers)
        self._host.changed_timers = set()
        try:
            outcomes = call()
        except Exception:
            self._host.state, self._host.timers = state, timers
            raise
        return list(_outcomes(outcomes, self._context))

    @property
    def state(self) -> Mapping[bytes, bytes]:
        """All that is kept."""
        return self._host.state

    @property
    def timers(self) -> Mapping[Tuple[Clock, bytes], int]:
        """The timers that wait: their times by their clocks and keys."""
        return self._host.timers

    @property
    def tables(self) -> Dict[str, Dict[bytes, bytes]]:
        """The tables: their values by their names and keys."""
        return self._host.tables

    @property
    def secrets(self) -> Dict[str, str]:
        """The secrets: their values by their names."""
        return self._host.secrets

    @property
    def lines(self) -> List[Tuple[str, str]]:
        """The log: levels and messages."""
        return self._host.lines

    @property
    def metrics(self) -> Mapping[str, float]:
        """Counters and gauges by their names."""
        return self._host.metrics


def batch(records: Sequence[NewRecord], base_offset: int = 0) -> bytes:
    """A record batch, as the host hands it over. Its checksum is 0: the guest does not look at it."""
    body = bytearray()
    for delta, record in enumerate(records):
        encoded = bytearray(b"\0")
        _put(encoded, record.timestamp_ms)
        _put(encoded, delta)
        _put_bytes(encoded, record.key)
        _put_bytes(encoded, record.value)
        _put(encoded, len(record.headers))
        for name, value in record.headers:
            _put_bytes(encoded, name.encode())
            _put_bytes(encoded, value)
        _put(body, len(encoded))
        body += encoded
    last = max(len(records) - 1, 0)
    newest = max((record.timestamp_ms for record in records), default=0)
    header = pack(">iBIHIqqqhiI", 0, 2, 0, 0, last, 0, newest, -1, -1, -1, len(records))
    return pack(">QI", base_offset, len(header) + len(body)) + header + bytes(body)


def _outcomes(encoded: bytes, context: Context):
    at = record = 0
    while at < len(encoded):
        delta, at = _varint(encoded, at)
        record += delta
        kind, at = encoded[at], at + 1
        if kind == 0:
            output, at = _varint(encoded, at)
            length, at = _varint(encoded, at)
            end = at + length
            timestamp_ms, at = _varint(encoded, at + 1)
            _, at = _varint(encoded, at)
            key, at = _bytes(encoded, at)
            value, at = _bytes(encoded, at)
            count, at = _varint(encoded, at)
            headers = []
            for _ in range(count):
                name, at = _bytes(encoded, at)
                content, at = _bytes(encoded, at)
                headers.append((name.decode(), content))
            assert at == end, "an entry ends where it says"
            name = context.outputs[output]
            yield Emitted(name, value, key, tuple(headers), timestamp_ms, record)
        elif kind == 1:
            reason, at = _bytes(encoded, at)
            yield Rejected(reason.decode(), record)
        else:
            after_ms, at = _varint(encoded, at)
            reason, at = _bytes(encoded, at)
            yield Retried(after_ms, reason.decode(), record)
