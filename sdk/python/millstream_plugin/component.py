"""What the component exports. It is imported while the component is built, and nowhere else."""

# Modules that the standard library imports when it first needs them: when the plugin runs it is too late.
import _strptime  # noqa: F401
import encodings.ascii  # noqa: F401
import encodings.cp1252  # noqa: F401
import encodings.idna  # noqa: F401
import encodings.latin_1  # noqa: F401
import encodings.utf_16  # noqa: F401
import encodings.utf_32  # noqa: F401
import encodings.utf_8_sig  # noqa: F401
import importlib
import sys
from collections.abc import Mapping

import plugin
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import logging, metrics, state, store

from . import host
from .context import Context
from .failures import (
    Abort,
    NotImported,
    NoTimerHandler,
    TableKeyTooLarge,
    UnknownTable,
    not_imported,
    reason_of,
)
from .process import process

# The world was picked by the words of `plugin.py`: what was made of them is looked at here.
if hasattr(plugin.Plugin, "on_timer") and not hasattr(exports, "TimerHandler"):
    raise TypeError(
        "`Plugin` has an `on_timer` that plugin.py does not name: write `on_timer = …` into the class"
    )


def _imported(interface):
    """What the world imports of this name, if anything."""
    try:
        return importlib.import_module(f"wit_world.imports.{interface}")
    except ModuleNotFoundError:
        return None


def _check(module, has):
    """Whether what the world has for a module of the SDK is what has become of the words."""
    used = f"millstream_plugin.{module}" in sys.modules
    if used and not has:
        raise ImportError(not_imported(module))
    if has and not used:
        raise ImportError(
            f"plugin.py names `millstream_plugin.{module}` and does not import it: write "
            f"`from millstream_plugin import {module}` at its top, or leave it out"
        )
    # A function that imports it later, when no file is there, finds it and is told what is missing.
    importlib.import_module(f"millstream_plugin.{module}")


tables, secrets = _imported("tables"), _imported("secrets")
handler = _imported("outgoing_handler")
_check("tables", tables)
_check("secrets", secrets)
_check("http", handler)
requests = handler and importlib.import_module("millstream_plugin.guest_http")

worker = None
"""The plugin, once `Lifecycle.init` has made it."""


class Config(Mapping):
    """The configuration, asked of the host key by key: it sees what is asked for, and can tell what is not."""

    def __getitem__(self, key):
        value = store.get(key) if isinstance(key, str) else None
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self):
        return iter(dict(store.get_all()))

    def __len__(self):
        return len(store.get_all())

    def __repr__(self):
        return repr(dict(store.get_all()))


class Lifecycle(exports.Lifecycle):
    """How a worker starts."""

    def init(self, ctx):
        global worker
        context = Context(ctx.deployment, ctx.topic, ctx.partition, ctx.outputs, Config())
        try:
            worker = plugin.Plugin(context)
        except Exception as error:
            raise Err(reason_of(error)) from error


class BatchHandler(exports.BatchHandler):
    """What is called with records."""

    def handle(self, batches):
        try:
            return process(worker, batches)
        except Abort as abort:
            raise Err(abort.reason) from abort


class Guest:
    """The host as a component sees it."""

    def log(self, level, context, message):
        logging.log(logging.Level(level), context, message)

    def counter_add(self, name, delta):
        metrics.counter_add(name, delta)

    def gauge_set(self, name, value):
        metrics.gauge_set(name, value)

    def state_get(self, key):
        return _state(state.get, key)

    def state_put(self, key, value):
        _state(state.put, key, value)

    def state_delete(self, key):
        _state(state.delete, key)

    def state_page(self, prefix, after, limit):
        page = _state(state.scan, prefix, after, limit)
        return [(entry.key, entry.value) for entry in page.entries], page.more

    def timer_set(self, clock, key, at_ms):
        raise NoTimerHandler()

    def timer_cancel(self, clock, key):
        raise NoTimerHandler()

    def table_names(self):
        return _there(tables, "tables").names()

    def table_get(self, table, key):
        try:
            return _there(tables, "tables").get(table, key)
        except Err as error:
            too_large = isinstance(error.value, tables.Error_TooLarge)
            raise (TableKeyTooLarge if too_large else UnknownTable)(error.value.value) from None

    def secret_get(self, name):
        return _there(secrets, "secrets").get(name)

    def http_send(self, request):
        return _there(requests, "http").send(request)


def _there(imported, module):
    if imported is None:
        raise NotImported(module)
    return imported


def _state(function, *arguments):
    try:
        return function(*arguments)
    except Err as error:
        reason = getattr(error.value, "value", "the state cannot be written before the first record")
        raise host.StateError(reason) from None


host.current = Guest()

# What is printed becomes a line of the log when it is printed.
sys.stdout.reconfigure(line_buffering=True)
