//! The ceiling of the network: what QUIC itself carries between two processes, under the same
//! identities and transport settings as broker and client, with nobody behind it.
//!
//! A client opens a stream with one [`Request`] of a fixed size:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | what is asked: 0 sink, 1 source, 2 echo |
//! | 1 | 8 | bytes that the client sends (sink), wants (source), or sends in each request (echo), big-endian |
//! | 9 | 8 | bytes of each answer (echo), big-endian |

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_transport::{
    Connection, Connector, Listener, RawReceiver, RawSender, TransportConfig,
};
use tokio::runtime::Handle;

use super::identities::{Identities, SERVER_NAME};
use super::payload::Payload;
use super::schedule::Schedule;
use super::stats::{LatencyFigures, LatencyRecorder};

/// What is given to QUIC at once: as a full record batch is.
const CHUNK_BYTES: usize = millstream::limits::DEFAULT_BATCH_BYTES;

/// The bytes that open a stream.
const REQUEST_BYTES: usize = 17;

/// The answer to a sink when all has arrived.
const RECEIPT: Bytes = Bytes::from_static(&[1]);

/// The largest request or answer of an echo.
const MAX_ECHO_BYTES: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// The client sends these many bytes, the server answers when all have arrived.
    Sink { bytes: u64 },
    /// The server sends these many bytes.
    Source { bytes: u64 },
    /// The server answers every so many bytes with so many.
    Echo {
        request_bytes: u64,
        answer_bytes: u64,
    },
}

impl Request {
    fn encode(self) -> Bytes {
        let (kind, first, second) = match self {
            Self::Sink { bytes } => (0, bytes, 0),
            Self::Source { bytes } => (1, bytes, 0),
            Self::Echo {
                request_bytes,
                answer_bytes,
            } => (2, request_bytes, answer_bytes),
        };
        let mut out = BytesMut::with_capacity(REQUEST_BYTES);
        out.put_u8(kind);
        out.put_u64(first);
        out.put_u64(second);
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> anyhow::Result<Self> {
        let (kind, first, second) = (
            bytes.try_get_u8()?,
            bytes.try_get_u64()?,
            bytes.try_get_u64()?,
        );
        let echo = 1..=MAX_ECHO_BYTES;
        match kind {
            0 => Ok(Self::Sink { bytes: first }),
            1 => Ok(Self::Source { bytes: first }),
            2 if echo.contains(&first) && echo.contains(&second) => Ok(Self::Echo {
                request_bytes: first,
                answer_bytes: second,
            }),
            _ => bail!("an unknown request of kind {kind}"),
        }
    }
}

/// The server: it answers whoever connects until it is dropped.
pub(super) async fn serve(listener: Listener) {
    let payload = Payload::new();
    while let Some(incoming) = listener.accept().await {
        let payload = payload.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.accept().await else {
                return;
            };
            while let Ok((sender, receiver)) = connection.accept_raw().await {
                let payload = payload.clone();
                // A client that goes away ends its streams: nothing to tell.
                tokio::spawn(async move { answer(sender, Reader::new(receiver), &payload).await });
            }
        });
    }
}

/// Listens where the server listens: on loopback, on a free port.
pub(super) fn listen(identities: &Identities) -> anyhow::Result<Listener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(Listener::bind(
        address,
        &identities.server()?,
        TransportConfig::server(),
    )?)
}

async fn answer(
    mut sender: RawSender,
    mut reader: Reader,
    payload: &Payload,
) -> anyhow::Result<()> {
    match Request::decode(reader.exactly(REQUEST_BYTES).await?)? {
        Request::Sink { bytes } => {
            reader.skip(bytes).await?;
            sender.write(RECEIPT).await?;
        }
        Request::Source { bytes } => send(&mut sender, payload, bytes).await?,
        Request::Echo {
            request_bytes,
            answer_bytes,
        } => {
            let answer = payload.bytes(0, answer_bytes as usize);
            while reader.skip(request_bytes).await.is_ok() {
                sender.write(answer.clone()).await?;
            }
        }
    }
    sender.finish()?;
    Ok(())
}

async fn send(sender: &mut RawSender, payload: &Payload, bytes: u64) -> anyhow::Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let length = (bytes - sent).min(CHUNK_BYTES as u64);
        sender.write(payload.bytes(sent, length as usize)).await?;
        sent += length;
    }
    Ok(())
}

/// A stream of which known numbers of bytes are read.
struct Reader {
    receiver: RawReceiver,
    /// What was received beyond what was asked for.
    rest: Bytes,
}

impl Reader {
    fn new(receiver: RawReceiver) -> Self {
        Self {
            receiver,
            rest: Bytes::new(),
        }
    }

    async fn chunk(&mut self) -> anyhow::Result<Bytes> {
        if !self.rest.is_empty() {
            return Ok(std::mem::take(&mut self.rest));
        }
        self.receiver
            .read()
            .await?
            .context("the stream ended early")
    }

    async fn skip(&mut self, bytes: u64) -> anyhow::Result<()> {
        let mut missing = bytes;
        while missing > 0 {
            let mut chunk = self.chunk().await?;
            if chunk.len() as u64 > missing {
                self.rest = chunk.split_off(missing as usize);
            }
            missing -= chunk.len() as u64;
        }
        Ok(())
    }

    async fn exactly(&mut self, bytes: usize) -> anyhow::Result<Bytes> {
        let mut out = BytesMut::with_capacity(bytes);
        while out.len() < bytes {
            let mut chunk = self.chunk().await?;
            self.rest = chunk.split_off(chunk.len().min(bytes - out.len()));
            out.put(chunk);
        }
        Ok(out.freeze())
    }
}

/// The client: two connections, as a producer and a consumer have.
pub(super) struct RawClient {
    up: Connection,
    down: Connection,
    payload: Payload,
}

impl RawClient {
    pub(super) async fn connect(
        identities: &Identities,
        address: &str,
        payload: Payload,
    ) -> anyhow::Result<Self> {
        let connect = async || {
            let connector = Connector::new(&identities.client()?, TransportConfig::client())?;
            anyhow::Ok(connector.connect(address, SERVER_NAME).await?)
        };
        Ok(Self {
            up: connect().await?,
            down: connect().await?,
            payload,
        })
    }

    /// Sends `bytes`; the seconds until the server has them.
    pub(super) async fn up(&self, bytes: u64) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let (mut sender, receiver) = self.up.open_raw().await?;
        sender.write(Request::Sink { bytes }.encode()).await?;
        send(&mut sender, &self.payload, bytes).await?;
        Reader::new(receiver).skip(RECEIPT.len() as u64).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Receives `bytes`; the seconds it takes.
    pub(super) async fn down(&self, bytes: u64) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let (mut sender, receiver) = self.down.open_raw().await?;
        sender.write(Request::Source { bytes }.encode()).await?;
        Reader::new(receiver).skip(bytes).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Sends and receives `bytes` at the same time, on two connections; the seconds until both are
    /// done.
    pub(super) async fn both(&self, bytes: u64) -> anyhow::Result<f64> {
        let (up, down) = tokio::try_join!(self.up(bytes), self.down(bytes))?;
        Ok(up.max(down))
    }

    /// Requests and answers of these sizes on one stream, by the schedule.
    pub(super) async fn round_trips(
        &self,
        schedule: Schedule,
        request_bytes: usize,
        answer_bytes: usize,
    ) -> anyhow::Result<LatencyFigures> {
        let (mut sender, receiver) = self.up.open_raw().await?;
        let echo = Request::Echo {
            request_bytes: request_bytes as u64,
            answer_bytes: answer_bytes as u64,
        };
        sender.write(echo.encode()).await?;
        let (request, handle) = (self.payload.bytes(0, request_bytes), Handle::current());
        let start = Instant::now();
        let pace = tokio::task::spawn_blocking(move || {
            schedule.pace(start, |_| handle.block_on(sender.write(request.clone())))?;
            anyhow::Ok(sender.finish()?)
        });
        let mut reader = Reader::new(receiver);
        let mut latencies = LatencyRecorder::new()?;
        for index in 0..schedule.total() {
            reader.skip(answer_bytes as u64).await?;
            if schedule.counts(index) {
                latencies.record(start.elapsed().saturating_sub(schedule.due(index)));
            }
        }
        pace.await??;
        Ok(latencies.figures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_were_written() {
        for request in [
            Request::Sink { bytes: u64::MAX },
            Request::Source { bytes: 1 },
            Request::Echo {
                request_bytes: 1024,
                answer_bytes: 32,
            },
        ] {
            assert_eq!(request.encode().len(), REQUEST_BYTES);
            assert_eq!(Request::decode(request.encode()).unwrap(), request);
        }
        let endless = Request::Echo {
            request_bytes: 0,
            answer_bytes: MAX_ECHO_BYTES + 1,
        };
        assert!(Request::decode(endless.encode()).is_err());
        assert!(Request::decode(Bytes::from_static(&[9; REQUEST_BYTES])).is_err());
        assert!(Request::decode(Bytes::from_static(&[0; 3])).is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_byte_and_every_answer_arrives() {
        let folder = tempfile::tempdir().unwrap();
        let identities = Identities::create(folder.path()).unwrap();
        let listener = listen(&identities).unwrap();
        let address = listener.local_addr().to_string();
        let server = tokio::spawn(serve(listener));
        let client = RawClient::connect(&identities, &address, Payload::new())
            .await
            .unwrap();
        let bytes = 3 * CHUNK_BYTES as u64 + 7;
        for seconds in [
            client.up(bytes).await,
            client.down(bytes).await,
            client.both(bytes).await,
        ] {
            assert!(seconds.unwrap() > 0.0);
        }
        let schedule = Schedule {
            per_second: 10_000,
            warm_up: 10,
            counted: 50,
        };
        let figures = client.round_trips(schedule, 1024, 32).await.unwrap();
        assert_eq!(figures.count, 50);
        server.abort();
    }
}
