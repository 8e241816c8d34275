//! The cluster's metadata quorum.
//!
//! Some nodes agree on one list of records, and so on one [`Image`]: a majority has each record on
//! its disks before it counts. The agreement is raft's, by openraft, of which this crate is the only
//! importer and which its interface does not show.
//!
//! What it does _not_ do: it has no network (requests of peers are handed in and out as bytes, see
//! [`Peers`]), does not decide what a command may do (that is [`millstream_metadata`]), knows no
//! partition's log, and forwards nothing to a leader: it says who leads.
//!
//! # What is agreed on
//!
//! A command is validated on the leader against its image, and becomes a record, which is proposed
//! together with the *revision* of that image: the index of the last entry that has changed it. A node
//! that applies the entry compares this number with the revision of its own image. If they differ,
//! something has come in between, and the record does nothing, on every node alike; the proposer
//! validates again. So a record is applied to the image that it was validated against, and to no
//! other, whoever led in between and however late the entry was committed.
//!
//! The obvious ways are worse. A lock from validation until the record is applied does not hold once
//! a proposal has timed out: its entry may be committed behind the next one's validation. And if
//! commands were agreed on and validated where they are applied, two releases with different rules, or
//! two nodes with different limits, would come to different images from the same log; that log would
//! hold commands, a second format to keep for ever.
//!
//! That a command is refused, or has nothing to change, is said only after the leader has made certain
//! that it leads and that its image is the newest.
//!
//! # On disk
//!
//! A directory with the vote and a few borders, the newest snapshot, and the log. Everything is
//! synced before it is answered for. After a failure, a full disk among them, nothing is tried again: the
//! node stops, and another start finds out what is durable. A start applies the committed entries behind the snapshot
//! again. A directory of another cluster or node, of a later release, or one in which something
//! is missing that was durable, is refused.
//!
//! The types of openraft are a part of the entries and messages, and of their formats; so it is
//! pinned, and tests hold the bytes.
//!
//! # Layout
//!
//! - [`Consensus`]: the node; `members`: changes of who takes part
//! - [`Config`], [`limits`], [`timing`]: what it is told, its bounds, its waits
//! - [`Peers`]; `rpc`: the way to other nodes, and what is said on it
//! - [`Status`], [`Applied`]: what a node knows
//! - [`error`]: the errors of each operation
//! - `store`: the log, the state machine and the files on the disk
//! - `types`, `codec`: what openraft is told of our types; values in bytes
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use millstream_consensus::{Call, Config, Consensus, NodeId, PeerError, Peers, Role};
//! use millstream_log::storage::MemoryStorage;
//! use millstream_metadata::Command;
//! use uuid::Uuid;
//!
//! /// The way to nobody.
//! #[derive(Debug)]
//! struct Alone;
//!
//! impl Peers for Alone {
//!     fn call(&self, to: NodeId, _request: Bytes, _timeout: Duration) -> Call<'_> {
//!         let reason = format!("there is no node {to}");
//!         Box::pin(async { Err(PeerError::Unreachable { reason }) })
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (cluster_id, storage) = (Uuid::from_u128(1), Arc::new(MemoryStorage::new()));
//! let config = Config::new(cluster_id, 1, storage, "/metadata", 0x5eed);
//! let node = Consensus::start(config, Arc::new(Alone)).await?;
//! node.initialize([1].into()).await?;
//! node.status_when(|status| status.role == Role::Leader).await?;
//! node.propose(Command::FormCluster { cluster_id }).await?;
//! assert_eq!(node.image().cluster_id(), Some(cluster_id));
//! node.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`Image`]: millstream_metadata::Image

mod codec;
mod config;
mod consensus;
pub mod error;
pub mod limits;
mod members;
mod peers;
mod rpc;
mod status;
mod store;
pub mod timing;
mod types;

pub use config::{Config, NodeId};
pub use consensus::Consensus;
pub use error::{
    InitializeError, MembersError, ProposeError, ReadError, StartError, Stopped, StorageFailed,
};
pub use limits::Limits;
pub use peers::{Call, PeerError, Peers};
pub use status::{Role, Status};
pub use store::Applied;
