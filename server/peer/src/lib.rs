//! The links between the brokers of a cluster.
//!
//! A broker [links](Links) to every other one: it opens a connection, says what its replicas say to
//! theirs, with the entries of logs, and calls their services. What comes back comes on a connection
//! that the other one has opened. A broker that is spoken to serves the streams with
//! [`serve_replication`]; calls it answers by itself.
//!
//! What it does _not_ do: it knows no log (only [`Entries`], which it reads when it is their turn), no
//! metadata and no consensus: what a call carries is bytes. It listens nowhere: brokers are reached
//! where clients reach them. It keeps nothing that was not sent: a message without a link is lost, which
//! the replicas' protocol allows, and [`Inbox::linked`] says when to ask again.
//!
//! # What is bounded
//!
//! What waits for a peer is, for each partition, one range of its log that is still to be read and
//! [a few short messages](limits::MAX_WORDS_PER_PARTITION). A peer that does not read thus costs no
//! memory beyond what its connection has in flight, and delays nobody else. What was received is
//! handed on with [`Room`] that the broker gives back when it is written. What followers are sent of old entries,
//! which are read from the disk, is bounded in time ([`Limits::catch_up_bytes_per_second`](limits::Limits)).
//!
//! # Example
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use millstream_peer::limits::Limits;
//! use millstream_peer::{Inbox, Introduction, Links, LinksConfig, PeerService, transport};
//! use millstream_protocol::TopicPartition;
//! use millstream_replication::Message;
//! use millstream_transport::{Connector, Identity};
//!
//! # async fn example(
//! #     identity: &Identity,
//! #     introduction: Introduction,
//! #     inbox: Arc<dyn Inbox>,
//! #     partition: TopicPartition,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let connector = Connector::new(identity, transport())?;
//! let limits = Limits::default();
//! let links = Links::start(LinksConfig { introduction, connector, limits }, inbox);
//! links.set_peers(BTreeMap::from([(2, "10.0.0.2:9092".to_owned())]));
//!
//! let request = Bytes::from_static(b"what the service understands");
//! let limit = Duration::from_secs(1);
//! let answer = links.call(2, PeerService::Consensus, request, limit).await?;
//! links.send(2, partition, Message::Seal { epoch: 7 }, None);
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`Links`]: the links of one broker; `link`: one connection, made anew when it ends
//! - `outbox`: what waits for one peer, merged and in turns; `mailbox`: the same between threads
//! - `replicate`: the side of a replication stream that opens it; `serve`: the side that accepts it
//! - `throttle`: what may be sent of old entries
//! - `gather`: what goes into one frame; `wire`: a frame's bytes; `check`: whether what came holds together
//! - `call`: requests and answers; `introduction`: who may call
//! - [`Entries`]: what a link reads; [`Inbox`]: who is told
//! - [`limits`]: every limit, by name

mod backoff;
mod call;
mod check;
mod entries;
mod gather;
mod inbox;
mod introduction;
pub mod limits;
mod link;
mod links;
mod mailbox;
mod outbox;
mod replicate;
mod serve;
mod throttle;
mod wire;

pub use call::CallError;
pub use check::{EntriesFault, FrameFault};
pub use entries::{Entries, Piece};
pub use inbox::{Inbox, Received, ReceivedBatch, Room};
pub use introduction::check_introduction;
pub use links::{Links, LinksConfig, transport};
pub use millstream_protocol::api::peer::{Introduction, PeerService};
pub use serve::{ServeError, serve_replication};
