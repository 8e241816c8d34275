//! Sends the HTTP requests of plugins.
//!
//! [`send`] connects to a host, sends one request by HTTP/1.1, over TLS where the host is one of
//! `https`, and hands the answer back with a body that is read as it comes. Everything about it is
//! bounded: how long it takes, how large headers and bodies are.
//!
//! It does not know who may ask whom: that is the grant's part, which the runtime checks. It follows
//! no redirect, keeps no connection for the next request, no cookie and no cache, knows no proxy, and
//! tries nothing twice. It is the only importer of `hyper`, `tokio-rustls` and `rustls-native-certs`.
//!
//! # Layout
//!
//! - [`send`], and what bounds it: [`Timeouts`], [`MAX_RESPONSE_BODY_BYTES`] and others
//! - [`ResponseBody`]: what comes after the head
//! - [`SendError`]: why there is no answer, or no more of it
//! - `roots`: whom TLS trusts: the certificates that the machine trusts, or those of
//!   `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set

mod body;
mod connect;
mod error;
mod roots;
mod send;

pub use body::ResponseBody;
pub use error::SendError;
pub use send::{Timeouts, send};

use std::time::Duration;

/// From the look-up of the name to the end of TLS's handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the connection to the response's head.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two parts of the response's body.
pub const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(10);

/// From the beginning to the end of the response's body, whatever it does in between.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The body of a request, bytes.
pub const MAX_REQUEST_BODY_BYTES: u64 = 8 << 20;

/// The body of a response, bytes.
pub const MAX_RESPONSE_BODY_BYTES: u64 = 8 << 20;

/// The head of a response, bytes. No more of its body lies in memory than this, either, before it is
/// read.
pub const MAX_RESPONSE_HEAD_BYTES: usize = 64 << 10;

/// Connections of this process at once; who wants another waits, within [`CONNECT_TIMEOUT`]. The broker needs
/// descriptors for other things.
pub const MAX_CONNECTIONS: usize = 256;

/// Names that are looked up at once.
pub const MAX_LOOK_UPS_AT_ONCE: usize = 32;

/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;

/// The headers of a response.
pub const MAX_RESPONSE_HEADERS: usize = 100;
