"""What an operator has given to this deployment alone: passwords, keys, tokens.

    from millstream_plugin import secrets

    class Plugin:
        def handle(self, record, out):
            key = secrets.get("api-key")

Ask when the value is needed: the operator may set it anew at any time. In what the plugin logs, and in its
reasons and errors, the host masks what it has told.

`plugin.py` imports this module at its top, also when it is another file that asks: by that, `millstream
plugin build` makes a component that has secrets, and deployments without any refuse it."""

from typing import Optional

from . import host

__all__ = ["get"]


def get(name: str) -> Optional[str]:
    """The value of a secret as it is now. `None`: the deployment is not granted one of this name, or the
    operator has taken it away."""
    return host.current.secret_get(str(name))
