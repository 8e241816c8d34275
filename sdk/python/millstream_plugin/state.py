"""Keys and values that outlive the worker.

They belong to the deployment and the partition, and what a call writes counts if and only if the call
does. Texts become UTF-8. A key has at most 1024 bytes, a value 1 MiB; what breaks a limit raises
`StateError`, which rejects the record unless it is caught. Before the first record, in
`Plugin.__init__`, state is read and not written."""

from typing import Iterator, Optional, Tuple, Union

from . import host
from .host import StateError

__all__ = ["StateError", "delete", "get", "put", "scan"]

_PAGE_ENTRIES = 1000

Bytes = Union[bytes, str]


def _bytes(content: Bytes) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content)


def get(key: Bytes) -> Optional[bytes]:
    """The value of a key, or `None` when there is none."""
    return host.current.state_get(_bytes(key))


def put(key: Bytes, value: Bytes) -> None:
    """Sets the value of a key."""
    host.current.state_put(_bytes(key), _bytes(value))


def delete(key: Bytes) -> None:
    """Deletes a key and its value, if it has one."""
    host.current.state_delete(_bytes(key))


def scan(prefix: Bytes = b"") -> Iterator[Tuple[bytes, bytes]]:
    """The entries whose keys begin with `prefix`, in the order of their keys. They are read page by
    page, so what is written meanwhile may show."""
    after, more = None, True
    while more:
        entries, more = host.current.state_page(_bytes(prefix), after, _PAGE_ENTRIES)
        yield from entries
        if entries:
            after = entries[-1][0]
