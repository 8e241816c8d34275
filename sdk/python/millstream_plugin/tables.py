"""What others keep, by key: compacted topics that the deployment names as its tables.

    from millstream_plugin import tables

    class Plugin:
        def __init__(self, context):
            self.places = tables.Table("places")
            self.joined = context.output("joined")

        def handle(self, record, out):
            place = self.places.get(record.value)
            if place is None:
                raise Reject("no such place")
            out.emit(self.joined, record, value=place)

A table has the latest value of each key of its topic, and moves on as the topic does: also within a call. A
look-up sees it as it is at that moment, whatever the time of the record at hand. When the first record is
handled, each table has all that its topic had when the worker began.

`plugin.py` imports this module at its top, also when it is another file that looks up: by that,
`millstream plugin build` makes a component that has tables, and deployments without any refuse it."""

from typing import Optional

from . import host
from .failures import TableKeyTooLarge, UnknownTable
from .state import Bytes, _bytes

__all__ = ["Table", "TableKeyTooLarge", "UnknownTable"]


class Table:
    """A table of the deployment."""

    def __init__(self, name: str):
        """The table of this name. When the deployment names none so, this raises `UnknownTable`: in
        `Plugin.__init__`, the worker does not start."""
        declared = host.current.table_names()
        if name not in declared:
            raise UnknownTable.among(name, declared)
        self.name = name
        """The deployment's name for it."""

    def get(self, key: Bytes) -> Optional[bytes]:
        """The value of a key as it is now, or `None` when there is none. Texts become UTF-8.

        A key of more than 1024 bytes raises `TableKeyTooLarge`, which rejects the record unless it is
        caught."""
        return host.current.table_get(self.name, _bytes(key))
