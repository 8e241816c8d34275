//! `wasi:http`: requests to the hosts that are granted.
//!
//! What requests and responses are to a guest is wasmtime-wasi-http's; sending one is
//! [`millstream_http`]'s. Here stands who may be asked, how often, and how large what a guest says may
//! be.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::uri::Authority;
use http::{Request, Response};
use http_body_util::BodyExt;
use millstream_http::{MAX_REQUEST_BODY_BYTES, MAX_RESPONSE_BODY_BYTES, SendError, Timeouts};
use millstream_protocol::api::grants::HttpHost;
use millstream_protocol::api::plugin::LogLevel;
use tokio::sync::Semaphore;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HostOutgoingRequest as _, IoError, Method,
};
use wasmtime_wasi_http::p2::bindings::sync::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
};

use super::{Access, HostState};
use crate::logs::{HOST_CONTEXT, Logs};

/// Requests that one call of a guest may send.
pub const MAX_HTTP_REQUESTS_PER_CALL: usize = 1_000;

/// Requests of one worker that are under way at once: from their beginning until the response's body is
/// given back.
pub const MAX_HTTP_REQUESTS_AT_ONCE: usize = 16;

/// The headers of one request, bytes, with what it takes to keep them.
const MAX_HEADERS_BYTES: usize = 16 << 10;

/// The path and query of a request, bytes.
const MAX_PATH_BYTES: usize = 8 << 10;

/// The method of a request, bytes.
const MAX_METHOD_BYTES: usize = 32;

/// The host and port of a request, bytes.
const MAX_AUTHORITY_BYTES: usize = 300;

/// What a guest may write of a request's body at once, bytes. Twice that lies in memory.
const WRITE_BYTES: usize = 16 << 10;

const NONE_IN_INIT: &str = "no request is sent in `init`, nor while a state is taken over";

/// Under this name wasmtime-wasi-http links the interface.
const TYPES: &str = "wasi:http/types@0.2.12";

/// The requests of one worker.
pub(super) struct Http {
    context: WasiHttpCtx,
    sender: Sender,
}

/// Sends them.
struct Sender {
    hosts: Vec<HttpHost>,
    logs: Arc<Mutex<Logs>>,
    under_way: Arc<Semaphore>,
    /// Requests of this call.
    sent: usize,
    /// Whether this call is one that may send any.
    may_send: bool,
}

impl Http {
    pub(super) fn new(hosts: &[HttpHost], logs: Arc<Mutex<Logs>>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_HEADERS_BYTES);
        Self {
            context,
            sender: Sender {
                hosts: hosts.to_vec(),
                logs,
                under_way: Arc::new(Semaphore::new(MAX_HTTP_REQUESTS_AT_ONCE)),
                sent: 0,
                may_send: false,
            },
        }
    }

    pub(super) fn begin_call(&mut self, access: Access) {
        self.sender.sent = 0;
        // Whoever deploys waits for `init`, and others wait for them. A state is taken over from what is
        // there, and nothing else works meanwhile.
        self.sender.may_send = access == Access::ReadWrite;
    }
}

/// A response, and what else there is to do for it.
type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl Sender {
    /// The host that a request is for, if it is granted.
    fn granted(&self, request: &Request<WasiBody>) -> Result<HttpHost, Error> {
        let uri = request.uri();
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Error::HttpRequestUriInvalid);
        };
        let port = port(authority).ok_or(Error::HttpRequestUriInvalid)?;
        let mut granted = self.hosts.iter();
        let granted = granted.find(|granted| granted.is(scheme, authority.host(), port));
        granted.cloned().ok_or_else(|| {
            self.warn(&format!(
                "a request to {scheme}://{authority} was denied: the deployment is not granted \
                 http={scheme}://{authority}"
            ));
            Error::HttpRequestDenied
        })
    }

    fn begin(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<impl Future<Output = Result<Sent, Error>> + Send + use<>, Error> {
        let host = self.granted(&request)?;
        // What it would ask for is a connection of its own through the host.
        if request.method() == http::Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        if !self.may_send {
            return Err(Error::InternalError(Some(NONE_IN_INIT.to_owned())));
        }
        if self.sent >= MAX_HTTP_REQUESTS_PER_CALL {
            self.warn(&format!(
                "a request to {host} was denied: the call has sent {MAX_HTTP_REQUESTS_PER_CALL} already"
            ));
            return Err(Error::ConnectionLimitReached);
        }
        let Ok(place) = Arc::clone(&self.under_way).try_acquire_owned() else {
            self.warn(&format!(
                "a request to {host} was denied: {MAX_HTTP_REQUESTS_AT_ONCE} are under way already"
            ));
            return Err(Error::ConnectionLimitReached);
        };
        self.sent += 1;
        let options = options.unwrap_or_default();
        let timeouts = Timeouts::default().at_most(
            options.connect_timeout,
            options.first_byte_timeout,
            options.between_bytes_timeout,
        );
        Ok(async move {
            let response = millstream_http::send(&host, request, timeouts).await;
            let response = response.map_err(told)?;
            let response = response.map(|body| {
                let body = body.map_err(move |error| {
                    // It is under way for as long as there is a body.
                    let _under_way = &place;
                    told(error)
                });
                body.boxed_unsync()
            });
            let nothing = Box::new(std::future::ready(Ok(())));
            Ok((response, nothing as Box<_>))
        })
    }

    fn warn(&self, message: &str) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let message = logs.told(message, crate::logs::MAX_LOG_MESSAGE_BYTES);
        logs.line(LogLevel::Warn, HOST_CONTEXT, &message, Instant::now());
    }
}

impl WasiHttpHooks for Sender {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        match self.begin(request, options) {
            Ok(sent) => Box::new(sent),
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE_BYTES
    }
}

/// The port that an authority names, if it names one; `None` if it is not one, or there is more beside
/// the host than a port.
fn port(authority: &Authority) -> Option<Option<u16>> {
    match authority.as_str().strip_prefix(authority.host())? {
        "" => Some(None),
        rest => Some(Some(rest.strip_prefix(':')?.parse().ok()?)),
    }
}

/// An error as a guest is told it. Where its own words say more than a code would, it has the words.
fn told(error: SendError) -> Error {
    match error {
        SendError::NoAddress(error) => Error::DnsError {
            rcode: Some(error.to_string()),
            info_code: None,
        },
        SendError::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Error::ConnectionRefused
        }
        SendError::ConnectTimeout => Error::ConnectionTimeout,
        SendError::ResponseTimeout => Error::HttpResponseTimeout,
        SendError::RequestTooLarge { .. } => {
            Error::HttpRequestBodySize(Some(MAX_REQUEST_BODY_BYTES))
        }
        SendError::ResponseTooLarge { .. } => {
            Error::HttpResponseBodySize(Some(MAX_RESPONSE_BODY_BYTES))
        }
        SendError::Incomplete => Error::HttpResponseIncomplete,
        SendError::Connect(_) | SendError::Tls(_) | SendError::Protocol(_) => {
            Error::InternalError(Some(error.to_string()))
        }
    }
}

impl HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.sender,
            table: self.quota.table(&mut self.table),
            ctx: &mut self.http.context,
        }
    }
}

/// Links `wasi:http`.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let options = LinkOptions::default();
    outgoing_handler::add_to_linker::<_, WasiHttp>(linker, HostState::http)?;
    types::add_to_linker::<_, WasiHttp>(linker, &options.into(), HostState::http)?;
    add_bounds(linker)?;
    add_error_codes(linker)
}

/// What has ended a response's body is kept as an [`Error`], of which wasmtime-wasi-http's own function finds
/// no code.
fn add_error_codes(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap(
        "http-error-code",
        |mut caller: StoreContextMut<'_, HostState>, (error,): (Resource<IoError>,)| {
            let http = caller.data_mut().http();
            let error = http.table.get(&error)?;
            Ok((error.downcast_ref::<Error>().and_then(code),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The code of an error that a body can end with: see [`told`].
fn code(error: &Error) -> Option<ErrorCode> {
    match error {
        Error::HttpResponseTimeout => Some(ErrorCode::HttpResponseTimeout),
        Error::HttpResponseIncomplete => Some(ErrorCode::HttpResponseIncomplete),
        Error::HttpResponseBodySize(bytes) => Some(ErrorCode::HttpResponseBodySize(*bytes)),
        Error::InternalError(words) => Some(ErrorCode::InternalError(words.clone())),
        _ => None,
    }
}

/// A request is kept by the host, and what it says with it: functions that would take any length are
/// replaced by some that do not.
fn add_bounds(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    type Request = Resource<HostOutgoingRequest>;
    type Set = wasmtime::Result<(Result<(), ()>,)>;
    type Caller<'a> = StoreContextMut<'a, HostState>;

    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut caller: Caller<'_>, (request, method): (Request, Method)| -> Set {
            let mut http = caller.data_mut().http();
            if matches!(&method, Method::Other(name) if name.len() > MAX_METHOD_BYTES) {
                return Ok((Err(()),));
            }
            Ok((http.set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut caller: Caller<'_>, (request, path): (Request, Option<String>)| -> Set {
            let mut http = caller.data_mut().http();
            let too_long = |it: &String| it.len() > MAX_PATH_BYTES;
            if path.as_ref().is_some_and(too_long) {
                return Ok((Err(()),));
            }
            Ok((http.set_path_with_query(request, path)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut caller: Caller<'_>, (request, authority): (Request, Option<String>)| -> Set {
            let mut http = caller.data_mut().http();
            let too_long = |it: &String| it.len() > MAX_AUTHORITY_BYTES;
            if authority.as_ref().is_some_and(too_long) {
                return Ok((Err(()),));
            }
            Ok((http.set_authority(request, authority)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};

    use http_body_util::Empty;

    use super::*;
    use crate::logs::{LogLine, LogSink};

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let port = |text: &str| port(&text.parse::<Authority>().unwrap());
        assert_eq!(port("example.com"), Some(None));
        assert_eq!(port("example.com:81"), Some(Some(81)));
        assert_eq!(port("[::1]:81"), Some(Some(81)));
        assert_eq!(port("example.com:"), None);
        assert_eq!(port("example.com:65616"), None);
        assert_eq!(port("me@example.com"), None);
        assert_eq!(port("example.com@evil.test:81"), None);
    }

    #[test]
    fn so_many_requests_are_under_way_and_no_more() {
        struct Kept(Sender<String>);
        impl LogSink for Kept {
            fn write(&self, line: LogLine) {
                self.0.send(line.message).unwrap();
            }
        }

        let (kept, lines) = mpsc::channel();
        let logs = Arc::new(Mutex::new(Logs::new(Arc::new(Kept(kept)), 10)));
        let mut http = Http::new(&["http://a.test".parse().unwrap()], logs);
        http.begin_call(Access::ReadWrite);
        let mut begin = || {
            let body: WasiBody = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let request = Request::get("http://a.test/").body(body).unwrap();
            http.sender.begin(request, None)
        };
        let mut under_way: Vec<_> = (0..MAX_HTTP_REQUESTS_AT_ONCE)
            .map(|_| begin().ok().unwrap())
            .collect();
        let refused = begin().err().unwrap();
        assert!(
            matches!(refused, Error::ConnectionLimitReached),
            "{refused:?}"
        );
        let line = lines.recv().unwrap();
        assert!(line.ends_with("16 are under way already"), "{line}");
        // The end of one lets the next begin.
        drop(under_way.pop());
        assert!(begin().is_ok());
    }
}
