//! Requests to the hosts that the deployment is granted.
//!
//! ```
//! use millstream_plugin::{Failure, NewRecord, Outputs, Record, http, testing};
//!
//! /// Emits what a service says of each record.
//! fn handle(record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let request = http::Request::post("https://geo.example.com/v1/place")
//!         .header("content-type", "application/json")
//!         .body(record.value().unwrap_or_default());
//!     let response = request.send()?.successful()?;
//!     let places = out.output("places")?;
//!     out.emit(places, &NewRecord::new(response.body()))
//! }
//!
//! # let context = millstream_plugin::Context::new("places", "quakes", 0).with_output("places");
//! testing::answer_http(|request| {
//!     assert_eq!(request.url(), "https://geo.example.com/v1/place");
//!     Ok(http::Response::new(200, request.body_bytes().to_ascii_uppercase()))
//! });
//! let outcomes = testing::run(&context, &[NewRecord::new(b"here")], handle)?;
//! let [testing::Outcome::Emitted(place)] = &outcomes[..] else {
//!     panic!("{outcomes:?}");
//! };
//! assert_eq!(place.value.as_deref(), Some(&b"HERE"[..]));
//! # Ok::<(), String>(())
//! ```
//!
//! A host is granted as `http=https://geo.example.com`; a plugin that sends requests is refused by a
//! deployment that is granted none. In `init` no request is sent. Natively, requests are answered by what
//! [`testing::answer_http`](crate::testing::answer_http) was given, for each thread its own.
//!
//! # More than once
//!
//! What a handler emits counts once. A request does not: a call that fails, or that a crash interrupts,
//! is made again and sends again. A host that changes something should bear it, or be told by something
//! in the request, such as an `idempotency-key` made of topic, partition and offset.
//!
//! # How long
//!
//! [`Request::send`] waits for the whole response. The records of a call wait for one another: one call of
//! a plugin that is granted hosts has at most 100 records, each call may send 1,000 requests, and lasts no
//! longer than sixty times its deadline by the clock.

#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::failure::Failure;

#[cfg(target_arch = "wasm32")]
use self::guest as backend;
#[cfg(not(target_arch = "wasm32"))]
use self::memory as backend;

/// How long to wait before a record is tried again whose request has failed: the deployment's own
/// back-off, if that is longer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A request that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

/// What has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Why there is no response.
///
/// As a [`Failure`] (the operator `?`), what [is final](Self::is_final) rejects the record, and everything
/// else has it tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The deployment is not granted this host.
    Denied(String),
    /// This is no address, method or header: which one, and what is wrong.
    Invalid(String),
    /// The request, or its response, failed: how, in words.
    Failed(String),
    /// The response is there, and tells of a failure: its status.
    Status(u16),
}

/// Sends a `GET` and waits for the response, as [`Request::send`] does.
///
/// # Errors
///
/// [`HttpError`]; a status that tells of a failure is none.
pub fn get(url: &str) -> Result<Response, HttpError> {
    Request::get(url).send()
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header. `host`, `connection` and `transfer-encoding` are the broker's.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body, at most 8 MiB.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Waits no longer than this for the connection, the response, and each further part of it. The
    /// broker has limits of its own, which are not made longer: 5 seconds for the connection, 10 for the
    /// response, 30 for all of it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers, names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        named(&self.headers)
    }

    /// The body.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Sends it, and waits for the whole response: its body may have 8 MiB. No redirect is followed.
    ///
    /// # Errors
    ///
    /// There is no response, or not all of it. A status that tells of a failure is no error: see
    /// [`Response::successful`].
    pub fn send(&self) -> Result<Response, HttpError> {
        let address = Address::read(&self.url)?;
        backend::send(self, &address)
    }
}

impl Response {
    /// A response, for a test.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same with one more header, for a test.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// The status: 200 is well.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers, names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        named(&self.headers)
    }

    /// The first header of this name, if there is one and it is text. Names are the same in upper and
    /// lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// This response, if its status is one of success: 200 to 299.
    ///
    /// # Errors
    ///
    /// [`HttpError::Status`].
    pub fn successful(self) -> Result<Self, HttpError> {
        match self.status {
            200..300 => Ok(self),
            status => Err(HttpError::Status(status)),
        }
    }
}

fn named(headers: &[(String, Vec<u8>)]) -> impl Iterator<Item = (&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()))
}

impl HttpError {
    /// Whether the same request would come to the same another time: the host is not granted, the request
    /// is no request, or its status says so (300 to 499, but for 408, 425 and 429).
    pub fn is_final(&self) -> bool {
        match self {
            Self::Denied(_) | Self::Invalid(_) => true,
            Self::Failed(_) => false,
            Self::Status(status) => {
                (300..500).contains(status) && ![408, 425, 429].contains(status)
            }
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(host) => write!(f, "requests to {host} are not granted"),
            Self::Invalid(what) => write!(f, "no request: {what}"),
            Self::Failed(how) => write!(f, "the request failed: {how}"),
            Self::Status(status) => write!(f, "the response has the status {status}"),
        }
    }
}

// `HttpError` is no `Error`: as one, it would always reject the record.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        if error.is_final() {
            Self::reject(error)
        } else {
            Self::retry(RETRY_AFTER, error)
        }
    }
}

/// For an `init` that returns any error.
impl From<HttpError> for Box<dyn Error> {
    fn from(error: HttpError) -> Self {
        error.to_string().into()
    }
}

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    https: bool,
    authority: &'a str,
    /// Path and query.
    path: String,
}

impl<'a> Address<'a> {
    fn read(url: &'a str) -> Result<Self, HttpError> {
        let invalid = || HttpError::Invalid(format!("the address {url:?}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(invalid()),
        };
        // What follows `#` is for the one who asks.
        let (rest, _) = rest.split_once('#').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(invalid());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            https,
            authority,
            path: format!("{slash}{path}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (url, https, authority, path) in [
            ("https://a.test", true, "a.test", "/"),
            (
                "http://a.test:81/b/c?d=e/f#g",
                false,
                "a.test:81",
                "/b/c?d=e/f",
            ),
            ("https://a.test?b", true, "a.test", "/?b"),
        ] {
            let expected = Address {
                https,
                authority,
                path: path.to_owned(),
            };
            assert_eq!(Address::read(url), Ok(expected), "{url}");
        }
        for url in ["a.test", "ftp://a.test", "https://", "https:///path", ""] {
            assert!(
                matches!(Address::read(url), Err(HttpError::Invalid(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn what_may_be_better_later_is_retried() {
        let retried = |error: HttpError| Failure::from(error) != Failure::reject("");
        assert!(retried(HttpError::Failed("late".to_owned())));
        for (status, is_final) in [(301, true), (404, true), (429, false), (503, false)] {
            let error = Response::new(status, "").successful().unwrap_err();
            assert_eq!(error.is_final(), is_final, "{status}");
        }
        assert!(HttpError::Denied("a.test".to_owned()).is_final());
        assert_eq!(Response::new(204, "").successful().unwrap().status(), 204);
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let response = Response::new(200, "").with_header("Retry-After", "7");
        assert_eq!(response.header("retry-after"), Some("7"));
        assert_eq!(response.header("age"), None);
    }

    #[test]
    fn natively_what_nobody_answers_fails() {
        let error = get("https://a.test").unwrap_err();
        assert!(error.to_string().contains("answer_http"), "{error}");
    }
}
