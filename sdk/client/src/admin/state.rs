//! What the workers of a deployment remember.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;

use bytes::Bytes;
use millstream_protocol::PartitionIndex;
use millstream_protocol::api::Request as AnyRequest;
use millstream_protocol::api::state::{
    OpenState, StateEntrySize, StateFrame, StateOrigin, StateQuery,
};
use millstream_protocol::limits::MAX_STATE_PAYLOAD_BYTES;
use millstream_transport::{FrameReceiver, FrameSender};

use super::{Admin, Request};
use crate::client::Client;
use crate::error::{Error, Result, StreamError};
use crate::stream::receive_with_payload;

impl Admin {
    /// What the workers of a deployment remember: of each worker the state at one moment, however
    /// long the reading takes. Await the builder to open the stream.
    ///
    /// ```no_run
    /// # async fn example(client: millstream::Client) -> millstream::Result<()> {
    /// use millstream::StateItem;
    ///
    /// let mut state = client.admin().plugin_state("dedupe").prefix("id/").await?;
    /// while let Some(item) = state.next().await? {
    ///     match item {
    ///         StateItem::Worker(of) => println!("{}-{} at {}", of.topic, of.partition, of.offset),
    ///         StateItem::Entry { key, value } => println!("{key:?}: {value:?}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`](crate::ErrorCode::UnknownDeployment), and
    /// [`ErrorCode::NotReady`](crate::ErrorCode::NotReady) when a worker that is asked does not run;
    /// both come with the first item.
    pub fn plugin_state(&self, name: impl Into<String>) -> PluginStateBuilder {
        PluginStateBuilder {
            client: self.client.clone(),
            request: OpenState {
                name: name.into(),
                topic: None,
                partition: None,
                query: StateQuery::Prefix {
                    prefix: Vec::new(),
                    limit: u64::MAX,
                },
            },
        }
    }
}

/// Which part of a state; made by [`Admin::plugin_state`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "the stream is opened when this is awaited"]
pub struct PluginStateBuilder {
    client: Client,
    request: OpenState,
}

impl PluginStateBuilder {
    /// Of the workers at this input topic alone.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.request.topic = Some(topic.into());
        self
    }

    /// Of the workers at this partition alone.
    pub fn partition(mut self, partition: PartitionIndex) -> Self {
        self.request.partition = Some(partition);
        self
    }

    /// The entry with this key alone.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.request.query = StateQuery::Key(key.into());
        self
    }

    /// The entries whose keys begin with this.
    pub fn prefix(mut self, begins_with: impl Into<Vec<u8>>) -> Self {
        let prefix = begins_with.into();
        let limit = match self.request.query {
            StateQuery::Prefix { limit, .. } => limit,
            StateQuery::Key(_) => u64::MAX,
        };
        self.request.query = StateQuery::Prefix { prefix, limit };
        self
    }

    /// At most so many entries of each worker, those with the smallest keys.
    pub fn limit(mut self, entries: u64) -> Self {
        if let StateQuery::Prefix { limit, .. } = &mut self.request.query {
            *limit = entries;
        }
        self
    }

    async fn open(self) -> Result<PluginState> {
        let request = AnyRequest::OpenState(self.request);
        let (sender, receiver) = self.client.open_stream(request).await?;
        Ok(PluginState {
            streams: Some((sender, receiver)),
            entries: Entries::default(),
        })
    }
}

impl IntoFuture for PluginStateBuilder {
    type Output = Result<PluginState>;
    type IntoFuture = Request<PluginState>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Something in a stream of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateItem {
    /// The entries that follow are of this worker.
    Worker(StateOrigin),
    /// An entry.
    Entry {
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
}

/// What the workers of a deployment remember, one worker after the other, in the order of the keys.
pub struct PluginState {
    /// The sender is held on to: dropped, it would end the stream.
    streams: Option<(FrameSender, FrameReceiver)>,
    entries: Entries,
}

/// Entries that have come.
#[derive(Default)]
struct Entries {
    sizes: VecDeque<StateEntrySize>,
    bytes: Bytes,
}

impl Entries {
    fn next(&mut self) -> Option<StateItem> {
        let size = self.sizes.pop_front()?;
        Some(StateItem::Entry {
            key: self.bytes.split_to(size.key_bytes as usize),
            value: self.bytes.split_to(size.value_bytes as usize),
        })
    }

    /// Takes the entries of a frame, which must be as long as they say.
    fn take(&mut self, sizes: Vec<StateEntrySize>, bytes: Bytes) -> Result<()> {
        let claimed = sizes
            .iter()
            .map(|size| u64::from(size.key_bytes) + u64::from(size.value_bytes))
            .sum::<u64>();
        if claimed != bytes.len() as u64 {
            let lie = StreamError::Unexpected("entries of another length than they have");
            return Err(Error::ConnectionLost(lie));
        }
        *self = Self {
            sizes: sizes.into(),
            bytes,
        };
        Ok(())
    }
}

impl PluginState {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    ///
    /// The broker refuses, or the connection is lost. Nothing comes after it.
    pub async fn next(&mut self) -> Result<Option<StateItem>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            let Some((_, receiver)) = &mut self.streams else {
                return Ok(None);
            };
            let received = receive_with_payload(receiver, MAX_STATE_PAYLOAD_BYTES).await;
            let taken = match received {
                Ok(Some((StateFrame::Worker(origin), _))) => {
                    return Ok(Some(StateItem::Worker(origin)));
                }
                Ok(Some((StateFrame::Entries(sizes), payload))) => {
                    self.entries.take(sizes, payload)
                }
                Ok(None) => {
                    self.streams = None;
                    return Ok(None);
                }
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                self.streams = None;
                return Err(error);
            }
        }
    }
}

impl fmt::Debug for PluginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginState").finish_non_exhaustive()
    }
}
