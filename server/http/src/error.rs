//! Why there is no answer, or no more of it.

use std::error::Error;
use std::io;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No address has this name, or it cannot be found out now.
    #[error("no address of the host: {0}")]
    NoAddress(io::Error),
    /// Nobody is there who accepts the connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// Both sides do not agree on TLS, or the host's certificate is not trusted.
    #[error("no TLS: {0}")]
    Tls(io::Error),
    /// The connection took too long.
    #[error("the connection took too long")]
    ConnectTimeout,
    /// The response, or its next part, took too long.
    #[error("the response took too long")]
    ResponseTimeout,
    /// The request's body is larger than it may be.
    #[error("a request's body of more than {limit} bytes")]
    RequestTooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// The response's body is larger than it may be.
    #[error("a response's body of more than {limit} bytes")]
    ResponseTooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// The connection ended before the response did.
    #[error("the response is incomplete")]
    Incomplete,
    /// The host does not speak HTTP, or the connection broke.
    #[error("{0}")]
    Protocol(String),
}

impl From<hyper::Error> for SendError {
    fn from(error: hyper::Error) -> Self {
        // What our own bodies say comes back within, and so does the end of a connection.
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(Self::RequestTooLarge { limit }) = inner.downcast_ref() {
                return Self::RequestTooLarge { limit: *limit };
            }
            let io: Option<&io::Error> = inner.downcast_ref();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
                return Self::Incomplete;
            }
            source = inner.source();
        }
        if error.is_incomplete_message() {
            return Self::Incomplete;
        }
        let told = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::Protocol(told)
    }
}
