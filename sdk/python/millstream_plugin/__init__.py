"""Write a Millstream plugin in Python: a class that is called for each record of a partition.

A plugin is a WebAssembly component that the broker runs next to the data. Put a class `Plugin` into a
file `plugin.py`; `millstream plugin build` makes the component, with CPython in it:

    from millstream_plugin import Reject

    class Plugin:
        '''Passes on what has a key and is hot, and drops the rest.'''

        def __init__(self, context):
            self.limit = float(context.config.get("limit", "30"))
            self.hot = context.output("hot")

        def handle(self, record, out):
            reading = record.json()
            if record.key is None or "celsius" not in reading:
                raise Reject("a reading needs a key and celsius")
            if reading["celsius"] > self.limit:
                out.emit(self.hot, record)

`Plugin(context)` runs once, before the first record. The object lasts as long as the worker; what must
last longer is kept in `state`. `handle` emits any number of records. An exception rejects the record
and withdraws what was emitted for it; `Retry` has it handled again later, `Abort` fails the call. A plugin
with a method `on_timer` can set `timers`, which call it.

What stands outside of functions runs while the component is built, and so do imports: import at the
top what you need, because no file is there when the plugin runs.

Layout:

- `Context`: what a worker is told when it starts
- `Record`: what comes in
- `Outputs`: what goes out
- `Reject`, `Retry`, `Abort`: a record, or a call, that fails
- `log`, `metrics`, `state`, `timers`: what the host offers
- `tables`, `secrets`, `http`: what it offers besides to plugins whose `plugin.py` imports them
- `testing`: runs a plugin in a test, without a host
"""

from . import log, metrics, state, timers
from .context import Context, Output
from .failures import Abort, Reject, Retry
from .outputs import Outputs
from .records import Record

__all__ = [
    "Abort",
    "Context",
    "Output",
    "Outputs",
    "Record",
    "Reject",
    "Retry",
    "log",
    "metrics",
    "state",
    "timers",
]
