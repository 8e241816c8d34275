"""What the host offers. In a test, a host of its own in memory takes its place."""

from typing import Dict, List, Optional, Tuple

LEVELS = ("trace", "debug", "info", "warn", "error", "critical")

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 1 << 20


class StateError(Exception):
    """The state could not be read or written: a key or value is too large, the changes of the call
    are, or it is not yet time to write."""


class Memory:
    """A host for tests: it keeps what it is told."""

    def __init__(self) -> None:
        self.lines: List[Tuple[str, str]] = []
        self.metrics: Dict[str, float] = {}
        self.state: Dict[bytes, bytes] = {}

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


def _check(what: str, content: bytes, limit: int) -> None:
    if len(content) > limit:
        raise StateError(f"a {what} of {len(content)} bytes, more than {limit}")


current = Memory()
"""The host of this process. A component puts its own here."""
