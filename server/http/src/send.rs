//! One request.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, uri};
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use millstream_protocol::api::grants::HttpHost;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::body::{RequestBody, ResponseBody};
use crate::connect::connect;
use crate::error::SendError;
use crate::{
    BETWEEN_BYTES_TIMEOUT, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, MAX_CONNECTIONS,
    MAX_RESPONSE_BODY_BYTES, MAX_RESPONSE_HEAD_BYTES, MAX_RESPONSE_HEADERS, REQUEST_TIMEOUT,
};

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The name, the connection, TLS.
    pub connect: Duration,
    /// From then on until the response's head is there.
    pub first_byte: Duration,
    /// Between two parts of its body.
    pub between_bytes: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            first_byte: FIRST_BYTE_TIMEOUT,
            between_bytes: BETWEEN_BYTES_TIMEOUT,
        }
    }
}

impl Timeouts {
    /// The same, but for what is shorter where it is asked for.
    pub fn at_most(
        self,
        connect: Option<Duration>,
        first_byte: Option<Duration>,
        between_bytes: Option<Duration>,
    ) -> Self {
        let shorter = |own: Duration, asked: Option<Duration>| asked.map_or(own, |it| it.min(own));
        Self {
            connect: shorter(self.connect, connect),
            first_byte: shorter(self.first_byte, first_byte),
            between_bytes: shorter(self.between_bytes, between_bytes),
        }
    }
}

/// Sends a request to a host and waits for the head of its response. Of the request's address only path
/// and query count. Dropping the future, or the response's body, ends the connection.
///
/// To be called within a tokio run-time.
///
/// # Errors
///
/// [`SendError`]. Whether the host has received the request, and done what it says, is not known then.
pub async fn send<B>(
    host: &HttpHost,
    request: Request<B>,
    timeouts: Timeouts,
) -> Result<Response<ResponseBody>, SendError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    static PLACES: Semaphore = Semaphore::const_new(MAX_CONNECTIONS);

    let began = Instant::now();
    let ends = began + REQUEST_TIMEOUT;
    let by = (began + timeouts.connect).min(ends);
    let connecting = async {
        // It is never closed.
        let place = PLACES.acquire().await.ok();
        Ok::<_, SendError>((place, connect(host).await?))
    };
    let connected = timeout_at(by, connecting).await;
    let (place, stream) = connected.map_err(|_| SendError::ConnectTimeout)??;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
        .max_headers(MAX_RESPONSE_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    // What goes wrong with it, the response's body says.
    let driver = Driver(tokio::spawn(async move {
        let _place = place;
        // Also when nobody reads what there is.
        let _ = timeout_at(ends, connection).await;
    }));
    let mut request = request.map(RequestBody::new);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(
        || Uri::from_static("/"),
        |path| {
            let mut parts = uri::Parts::default();
            parts.path_and_query = Some(path);
            Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
        },
    );
    let by = (Instant::now() + timeouts.first_byte).min(ends);
    let response = timeout_at(by, sender.send_request(request)).await;
    let response = response.map_err(|_| SendError::ResponseTimeout)??;
    let claimed = response.body().size_hint().lower();
    if claimed > MAX_RESPONSE_BODY_BYTES {
        let limit = MAX_RESPONSE_BODY_BYTES;
        return Err(SendError::ResponseTooLarge { limit });
    }
    let between = timeouts.between_bytes;
    Ok(response.map(|incoming| ResponseBody::new(incoming, between, ends, driver)))
}

/// What moves a connection's bytes. It ends with who reads them.
#[derive(Debug)]
pub(crate) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_makes_nothing_longer() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(3_600));
        let usual = Timeouts::default();
        assert_eq!(usual.at_most(None, None, None), usual);
        let asked = usual.at_most(Some(short), Some(long), None);
        let expected = Timeouts {
            connect: short,
            ..usual
        };
        assert_eq!(asked, expected);
    }
}
