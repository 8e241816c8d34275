"""What the component of a plugin with timers exports: as `component`, and what is called by them."""

import plugin
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import timers as imported

from . import component, host, timers
from .component import BatchHandler, Lifecycle  # noqa: F401
from .failures import Abort
from .process import fire

if not hasattr(plugin.Plugin, "on_timer"):
    raise TypeError("plugin.py names `on_timer`, but `Plugin` has no such method")


class TimerHandler(exports.TimerHandler):
    """What is called with timers."""

    def handle(self, fired):
        given = [timers.Timer(timers.Clock[it.clock.name], it.key, it.at_ms) for it in fired]
        try:
            return fire(component.worker, given)
        except Abort as abort:
            raise Err(abort.reason) from abort


class _Guest(component.Guest):
    """The host as a component with timers sees it."""

    def timer_set(self, clock, key, at_ms):
        _called(imported.set, imported.Clock[clock.name], key, at_ms)

    def timer_cancel(self, clock, key):
        _called(imported.cancel, imported.Clock[clock.name], key)


def _called(function, *arguments):
    try:
        function(*arguments)
    except Err as error:
        raise _error_of(error.value) from None


def _error_of(error):
    if isinstance(error, imported.Error_TooLarge):
        return timers.TimerTooLarge(error.value)
    if isinstance(error, imported.Error_QuotaExceeded):
        return timers.TimerQuotaExceeded(error.value)
    return timers.TimerReadOnly()


host.current = _Guest()
