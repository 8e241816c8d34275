"""What the host offers. In a test, a host of its own in memory takes its place."""

from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .failures import (
    NoTimerHandler,
    PassingHttpError,
    TableKeyTooLarge,
    TimerQuotaExceeded,
    TimerReadOnly,
    TimerTooLarge,
    UnknownTable,
)

LEVELS = ("trace", "debug", "info", "warn", "error", "critical")

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1 << 20
MAX_TIMER_KEY_BYTES = 1024
MAX_TIMER_CHANGES = 10_000
MAX_TABLE_KEY_BYTES = 1024


class StateError(Exception):
    """The state could not be read or written: a key or value is too large, the changes of the call
    are, or it is not yet time to write."""


class Memory:
    """A host for tests: it keeps what it is told."""

    def __init__(self, handles_timers: bool = True) -> None:
        self.lines: List[Tuple[str, str]] = []
        self.metrics: Dict[str, float] = {}
        self.state: Dict[bytes, bytes] = {}
        # By their clocks and keys, the times of those that wait.
        self.timers: Dict[Tuple[Any, bytes], int] = {}
        # Those that the call under way has set or cancelled; none before the first.
        self.changed_timers: Optional[Set[Tuple[Any, bytes]]] = set()
        self._handles_timers = handles_timers
        self.tables: Dict[str, Dict[bytes, bytes]] = {}
        self.secrets: Dict[str, str] = {}
        self.answer_http: Optional[Callable[[Any], Any]] = None

    def log(self, level: int, context: str, message: str) -> None:
        self.lines.append((LEVELS[level], message))

    def counter_add(self, name: str, delta: int) -> None:
        self.metrics[name] = self.metrics.get(name, 0) + delta

    def gauge_set(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def state_get(self, key: bytes) -> Optional[bytes]:
        _check("key", key, MAX_KEY_BYTES)
        return self.state.get(key)

    def state_put(self, key: bytes, value: bytes) -> None:
        _check("key", key, MAX_KEY_BYTES)
        _check("value", value, MAX_VALUE_BYTES)
        self.state[key] = value

    def state_delete(self, key: bytes) -> None:
        _check("key", key, MAX_KEY_BYTES)
        self.state.pop(key, None)

    def state_page(
        self, prefix: bytes, after: Optional[bytes], limit: int
    ) -> Tuple[List[Tuple[bytes, bytes]], bool]:
        keys = sorted(
            key
            for key in self.state
            if key.startswith(prefix) and (after is None or key > after)
        )
        return [(key, self.state[key]) for key in keys[:limit]], len(keys) > limit

    def timer_set(self, clock: Any, key: bytes, at_ms: int) -> None:
        self._change_timer(clock, key)
        self.timers[clock, key] = at_ms

    def timer_cancel(self, clock: Any, key: bytes) -> None:
        self._change_timer(clock, key)
        self.timers.pop((clock, key), None)

    def _change_timer(self, clock: Any, key: bytes) -> None:
        if not self._handles_timers:
            raise NoTimerHandler()
        if self.changed_timers is None:
            raise TimerReadOnly()
        if len(key) > MAX_TIMER_KEY_BYTES:
            raise TimerTooLarge(f"a key of {len(key)} bytes, more than {MAX_TIMER_KEY_BYTES}")
        is_new = (clock, key) not in self.changed_timers
        if is_new and len(self.changed_timers) >= MAX_TIMER_CHANGES:
            raise TimerQuotaExceeded(
                f"the call would set and cancel more than {MAX_TIMER_CHANGES} timers"
            )
        self.changed_timers.add((clock, key))

    def take_due(self, clock: Any, now_ms: int) -> List[Tuple[bytes, int]]:
        """Takes the timers that are due, those of an earlier time first."""
        due = sorted(
            (at_ms, key) for (of, key), at_ms in self.timers.items() if of == clock and at_ms <= now_ms
        )
        for _, key in due:
            del self.timers[clock, key]
        return [(key, at_ms) for at_ms, key in due]

    def table_names(self) -> List[str]:
        return list(self.tables)

    def table_get(self, table: str, key: bytes) -> Optional[bytes]:
        if table not in self.tables:
            raise UnknownTable.among(table, self.table_names())
        if len(key) > MAX_TABLE_KEY_BYTES:
            raise TableKeyTooLarge(f"a key of {len(key)} bytes, more than {MAX_TABLE_KEY_BYTES}")
        return self.tables[table].get(key)

    def secret_get(self, name: str) -> Optional[str]:
        return self.secrets.get(name)

    def http_send(self, request: Any) -> Any:
        if self.answer_http is None:
            raise PassingHttpError(
                "the request failed: nothing answers it: give `testing.Worker` an `answer_http`"
            )
        return self.answer_http(request)


def _check(what: str, content: bytes, limit: int) -> None:
    if len(content) > limit:
        raise StateError(f"a {what} of {len(content)} bytes, more than {limit}")


current = Memory()
"""The host of this process. A component puts its own here."""
