"""Requests to the hosts that the deployment is granted.

    from millstream_plugin import http

    class Plugin:
        def handle(self, record, out):
            headers = {"content-type": "application/json"}
            response = http.post("https://geo.example.com/v1/place", record.value, headers=headers)
            out.emit(self.places, record, value=response.successful().body)

A host is granted as `http=https://geo.example.com`. In `Plugin.__init__` no request is sent. Each call waits
for the whole response, and no redirect is followed; a body has at most 8 MiB there and back.

A failure is an `HttpError`. One that would be the same another time is a `FinalHttpError`, which rejects the
record unless it is caught: the host is not granted, or the request is none. Every other one, of a request
that had no response, is a `PassingHttpError`, which has the record tried again. A status that tells of a
failure is none of either, unless `Response.successful` is asked.

What a handler emits counts once. A request does not: a call that fails, or that a crash interrupts, is made
again and sends again. A host that changes something should bear it, or be told by something in the request,
such as an `idempotency-key` made of topic, partition and offset. The records of a call wait for one another:
one call of a plugin that is granted hosts has at most 100 records, each call may send 1,000 requests, and
lasts no longer than sixty times its deadline by the clock.

`plugin.py` imports this module at its top, also when it is another file that asks: by that, `millstream
plugin build` makes a component that sends requests, and deployments without any host refuse it."""

import json
from typing import Any, Iterable, Mapping, NamedTuple, Optional, Tuple, Union

from . import host
from .failures import FinalHttpError, HttpError, PassingHttpError
from .state import Bytes, _bytes

__all__ = [
    "FinalHttpError",
    "HttpError",
    "PassingHttpError",
    "Request",
    "Response",
    "get",
    "post",
    "request",
]

Headers = Union[Mapping[str, Bytes], Iterable[Tuple[str, Bytes]]]

_MAX_TIMEOUT_MS = 86_400_000

# What may be better another time, of the statuses from 300 to 499.
_PASSING = (408, 425, 429)


class Request(NamedTuple):
    """A request, as a test is asked to answer it."""

    method: str
    url: str
    headers: Tuple[Tuple[str, bytes], ...] = ()
    body: bytes = b""
    timeout_ms: Optional[int] = None


class Response:
    """What has come back."""

    def __init__(self, status: int, body: Bytes = b"", headers: Headers = ()):
        self.status = status
        """200 is well."""
        self.body = _bytes(body)
        self.headers = _listed(headers)
        """Names and values."""

    def header(self, name: str) -> Optional[bytes]:
        """The value of the first header of this name, in upper or lower case, or `None`."""
        wanted = name.lower()
        return next((value for other, value in self.headers if other.lower() == wanted), None)

    def text(self) -> str:
        """The body as UTF-8. Raises `UnicodeDecodeError`, which rejects the record unless it is caught."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError`, which rejects the record unless it is caught."""
        return json.loads(self.body)

    def successful(self) -> "Response":
        """This response, if its status is one of success: 200 to 299.

        Any other raises an `HttpError`: a final one from 300 to 499, but for 408, 425 and 429."""
        if 200 <= self.status < 300:
            return self
        is_final = 300 <= self.status < 500 and self.status not in _PASSING
        kind = FinalHttpError if is_final else PassingHttpError
        raise kind(f"the response has the status {self.status}", self.status)


def get(url: str, *, headers: Headers = (), timeout_ms: Optional[int] = None) -> Response:
    """Sends a `GET`, as `request` does."""
    return request("GET", url, headers=headers, timeout_ms=timeout_ms)


def post(
    url: str, body: Bytes = b"", *, headers: Headers = (), timeout_ms: Optional[int] = None
) -> Response:
    """Sends a `POST`, as `request` does."""
    return request("POST", url, headers=headers, body=body, timeout_ms=timeout_ms)


def request(
    method: str,
    url: str,
    *,
    headers: Headers = (),
    body: Bytes = b"",
    timeout_ms: Optional[int] = None,
) -> Response:
    """Sends a request and waits for the whole response. The headers `host`, `connection` and
    `transfer-encoding` are the broker's.

    With `timeout_ms`, it waits no longer than that for the connection, the response, and each further part of
    it. The broker has limits of its own, which are not made longer: 5 seconds for the connection, 10 for the
    response, 30 for all of it.

    Raises an `HttpError` when there is no response."""
    _address(url)
    if timeout_ms is not None and not 0 <= timeout_ms <= _MAX_TIMEOUT_MS:
        raise ValueError(f"a timeout is 0 to {_MAX_TIMEOUT_MS} milliseconds, not {timeout_ms}")
    return host.current.http_send(Request(str(method), url, _listed(headers), _bytes(body), timeout_ms))


def _listed(headers: Headers) -> Tuple[Tuple[str, bytes], ...]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((str(name), _bytes(value)) for name, value in pairs)


def _address(url: str) -> Tuple[str, str, str]:
    """The scheme, the host with its port, and path and query."""
    scheme, found, rest = url.partition("://")
    # What follows `#` is for the one who asks.
    rest = rest.partition("#")[0]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not found or scheme not in ("http", "https") or not authority:
        raise FinalHttpError(f'no request: the address "{url}"')
    return scheme, authority, path if path.startswith("/") else f"/{path}"
