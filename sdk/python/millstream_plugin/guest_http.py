"""Requests by `wasi:http`, of a component whose world has it."""

from contextlib import nullcontext

from componentize_py_types import Err
from wit_world.imports import outgoing_handler, streams, types

from .failures import FinalHttpError, PassingHttpError
from .http import Request, Response, _address

_WRITE_BYTES = 4096
_READ_BYTES = 64 << 10

_METHODS = {
    "GET": types.Method_Get,
    "HEAD": types.Method_Head,
    "POST": types.Method_Post,
    "PUT": types.Method_Put,
    "DELETE": types.Method_Delete,
    "OPTIONS": types.Method_Options,
    "PATCH": types.Method_Patch,
}

_IN_WORDS = {
    types.ErrorCode_ConnectionRefused: "the connection was refused",
    types.ErrorCode_ConnectionTimeout: "the connection took too long",
    types.ErrorCode_ConnectionLimitReached: "the call has sent as many requests as it may",
    types.ErrorCode_HttpResponseTimeout: "the response took too long",
    types.ErrorCode_HttpResponseIncomplete: "the response is incomplete",
    types.ErrorCode_HttpRequestBodySize: "the request's body is too large",
    types.ErrorCode_HttpResponseBodySize: "the response's body is too large",
}


def send(request: Request) -> Response:
    """Sends it, and reads all that comes back. What is handed out later is released earlier."""
    scheme, authority, path = _address(request.url)
    place = f"{scheme}://{authority}"
    outgoing = _outgoing(request, scheme, authority, path)
    body = outgoing.body() if request.body else None
    try:
        sent = outgoing_handler.handle(outgoing, _options(request.timeout_ms))
    except Err as error:
        with body or nullcontext():
            raise _told(error.value, place) from None
    with sent:
        if body is not None:
            _write(body, request.body)
        with sent.subscribe() as waits:
            waits.block()
        answered = sent.get()
        if answered is None or isinstance(answered, Err):
            raise _incomplete(place)
        if isinstance(answered.value, Err):
            raise _told(answered.value.value, place)
        with answered.value.value as response:
            status = response.status()
            with response.headers() as fields:
                headers = fields.entries()
            with response.consume() as incoming:
                content = _read(incoming, place)
    return Response(status, content, headers)


def _outgoing(request, scheme, authority, path):
    fields = types.Fields()
    headers = list(request.headers)
    names = [name.lower() for name, _ in headers]
    if request.body and "content-length" not in names:
        headers.append(("content-length", str(len(request.body)).encode()))
    for name, value in headers:
        _accepted(lambda: fields.append(name, value), "header", name)
    outgoing = types.OutgoingRequest(fields)
    known = _METHODS.get(request.method)
    method = known() if known else types.Method_Other(request.method)
    _accepted(lambda: outgoing.set_method(method), "method", request.method)
    given = types.Scheme_Https() if scheme == "https" else types.Scheme_Http()
    _accepted(lambda: outgoing.set_scheme(given), "address", request.url)
    _accepted(lambda: outgoing.set_authority(authority), "address", request.url)
    _accepted(lambda: outgoing.set_path_with_query(path), "address", request.url)
    return outgoing


def _accepted(call, what, which):
    try:
        call()
    except Err:
        raise FinalHttpError(f'no request: the {what} "{which}"') from None


def _options(timeout_ms):
    if timeout_ms is None:
        return None
    options = types.RequestOptions()
    ns = int(timeout_ms * 1_000_000)
    # The broker bounds all three, and refuses none.
    options.set_connect_timeout(ns)
    options.set_first_byte_timeout(ns)
    options.set_between_bytes_timeout(ns)
    return options


def _write(body, content):
    """If it fails, the response says why."""
    try:
        with body.write() as stream:
            for at in range(0, len(content), _WRITE_BYTES):
                stream.blocking_write_and_flush(content[at : at + _WRITE_BYTES])
    except Err:
        with body:
            return
    try:
        types.OutgoingBody.finish(body, None)
    except Err:
        pass


def _read(body, place):
    content = bytearray()
    with body.stream() as stream:
        while True:
            try:
                content += stream.blocking_read(_READ_BYTES)
            except Err as ended:
                if isinstance(ended.value, streams.StreamError_Closed):
                    return bytes(content)
                with ended.value.value as error:
                    code = types.http_error_code(error)
                    how = error.to_debug_string() if code is None else None
                raise PassingHttpError(f"the request failed: {how}") if how else _told(code, place)


def _incomplete(place):
    return PassingHttpError(f"the request failed: {place}: the response is incomplete")


def _told(code, place):
    """An error code as one of ours."""
    if isinstance(code, types.ErrorCode_HttpRequestDenied):
        return FinalHttpError(f"requests to {place} are not granted")
    kind = type(code)
    name = kind.__name__.removeprefix("ErrorCode_")
    if kind in (
        types.ErrorCode_HttpRequestUriInvalid,
        types.ErrorCode_HttpRequestMethodInvalid,
        types.ErrorCode_HttpRequestUriTooLong,
    ):
        return FinalHttpError(f"no request: {name} for {place}")
    if isinstance(code, types.ErrorCode_InternalError):
        how = code.value or name
    elif isinstance(code, types.ErrorCode_DnsError):
        how = code.value.rcode or "no address"
    else:
        how = _IN_WORDS.get(kind, name)
    return PassingHttpError(f"the request failed: {place}: {how}")
