//! Requests by `wasi:http`.

use std::time::Duration;

use super::{Address, HttpError, Request, Response};
use crate::bindings::http_client::wasi::http::outgoing_handler;
use crate::bindings::http_client::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use crate::bindings::http_client::wasi::io::streams::StreamError;

/// What is written at once.
const WRITE_BYTES: usize = 4096;

/// What is read at once.
const READ_BYTES: u64 = 64 << 10;

pub(super) fn send(request: &Request, address: &Address<'_>) -> Result<Response, HttpError> {
    let outgoing = outgoing(request, address)?;
    let body = match request.body.as_slice() {
        [] => None,
        bytes => {
            let refused = |()| HttpError::Invalid("the header `content-length`".to_owned());
            Some((outgoing.body().map_err(refused)?, bytes))
        }
    };
    let options = options(request.timeout);
    let told = |code| told(code, address);
    let sent = outgoing_handler::handle(outgoing, options).map_err(told)?;
    if let Some((body, bytes)) = body {
        // If it fails, the response says why.
        let _ = write(body, bytes);
    }
    sent.subscribe().block();
    let response = match sent.get() {
        Some(Ok(response)) => response.map_err(told)?,
        Some(Err(())) | None => return Err(incomplete()),
    };
    let status = response.status();
    let headers = response.headers().entries();
    let body = response.consume().map_err(|()| incomplete())?;
    let body = read(&body).map_err(|ended| match ended {
        Ended::By(code) => told(code),
        Ended::InWords(how) => HttpError::Failed(how),
    })?;
    Ok(Response {
        status,
        headers,
        body,
    })
}

fn incomplete() -> HttpError {
    HttpError::Failed("the response is incomplete".to_owned())
}

fn outgoing(request: &Request, address: &Address<'_>) -> Result<OutgoingRequest, HttpError> {
    let invalid = |what: &str, which: &str| HttpError::Invalid(format!("the {what} {which:?}"));
    let headers = Fields::new();
    for (name, value) in &request.headers {
        let appended = headers.append(name, value);
        appended.map_err(|_| invalid("header", name))?;
    }
    if !request.body.is_empty() && !headers.has("content-length") {
        let length = request.body.len().to_string();
        let appended = headers.append("content-length", length.as_bytes());
        appended.map_err(|_| invalid("header", "content-length"))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    };
    let set = outgoing.set_method(&method);
    set.map_err(|()| invalid("method", &request.method))?;
    let scheme = if address.https {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let set = outgoing
        .set_scheme(Some(&scheme))
        .and_then(|()| outgoing.set_authority(Some(address.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&address.path)));
    set.map_err(|()| invalid("address", &request.url))?;
    Ok(outgoing)
}

fn options(timeout: Option<Duration>) -> Option<RequestOptions> {
    let ns = u64::try_from(timeout?.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    // The broker bounds all three, and refuses none.
    let _ = options.set_connect_timeout(Some(ns));
    let _ = options.set_first_byte_timeout(Some(ns));
    let _ = options.set_between_bytes_timeout(Some(ns));
    Some(options)
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), ()> {
    let stream = body.write()?;
    for part in bytes.chunks(WRITE_BYTES) {
        stream.blocking_write_and_flush(part).map_err(|_| ())?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|_| ())
}

/// Why a body ended before its end.
enum Ended {
    By(ErrorCode),
    InWords(String),
}

/// All of a body.
fn read(body: &IncomingBody) -> Result<Vec<u8>, Ended> {
    let taken = |()| Ended::InWords("the response's body is taken".to_owned());
    let stream = body.stream().map_err(taken)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(part) => bytes.extend_from_slice(&part),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                let in_words = || Ended::InWords(error.to_debug_string());
                return Err(http_error_code(&error).map_or_else(in_words, Ended::By));
            }
        }
    }
}

/// An error code in words.
fn told(code: ErrorCode, address: &Address<'_>) -> HttpError {
    let scheme = if address.https { "https" } else { "http" };
    let host = format!("{scheme}://{}", address.authority);
    let how = match code {
        ErrorCode::HttpRequestDenied => return HttpError::Denied(host),
        ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriTooLong => {
            return HttpError::Invalid(format!("{code:?} for {host}"));
        }
        ErrorCode::InternalError(Some(how)) => how,
        ErrorCode::DnsError(dns) => dns.rcode.unwrap_or_else(|| "no address".to_owned()),
        ErrorCode::ConnectionRefused => "the connection was refused".to_owned(),
        ErrorCode::ConnectionTimeout => "the connection took too long".to_owned(),
        ErrorCode::ConnectionLimitReached => {
            "the call has sent as many requests as it may".to_owned()
        }
        ErrorCode::HttpResponseTimeout => "the response took too long".to_owned(),
        ErrorCode::HttpResponseIncomplete => "the response is incomplete".to_owned(),
        ErrorCode::HttpRequestBodySize(_) => "the request's body is too large".to_owned(),
        ErrorCode::HttpResponseBodySize(_) => "the response's body is too large".to_owned(),
        code => format!("{code:?}"),
    };
    HttpError::Failed(format!("{host}: {how}"))
}
