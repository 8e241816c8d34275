//! One partition's replica: an epoch-sealed quorum log.
//!
//! A [`Replica`] is what one broker knows and decides of one partition: whether it leads or follows,
//! what it has promised, what is committed. It is a pure core. [`Replica::step`] takes the time and
//! an [`Input`], and says in [`Effect`]s what is to be done; a shell does it.
//!
//! What it does _not_ do: it holds no record and reads none (it knows a log by its borders and its
//! epochs, see [`LogView`]), has no clock and no network, appoints nobody, and does not know which
//! clients wait.
//!
//! # The protocol
//!
//! Metadata appoints a leader for an epoch. The leader *seals* the epoch: replicas promise, on their
//! disks, to follow no older one, and say where their logs end. Of half of the trusted replicas, the
//! highest end by (epoch, offset) has everything that a majority can have acknowledged. The leader
//! makes its own log equal to that one, appends `EpochStart` unless the log is empty, and leads:
//! followers take its entries where the entry before agrees, cut off what differs, and acknowledge
//! what is on their disks. An entry of its epoch that a majority has acknowledged is committed, and
//! everything before it.
//! `server/docs/replication.md` has the whole of it.
//!
//! # The order of calls
//!
//! The shell owns the log. For every partition, one call after the other:
//!
//! 1. [`Replica::step`] with what has happened;
//! 2. every effect, in order. [`Effect::Write`], [`Effect::WriteEpochStart`], [`Effect::Truncate`]
//!    and [`Effect::Restart`] are done before the next step, and then the log's real end is told by
//!    [`Input::Written`], whatever has become of the write; or that there was no room for a restart. The
//!    others take their time.
//!
//! A leader's shell appends what clients send by itself, in the epoch of [`Replica::leading`], and
//! tells it by [`Input::Written`] as well. It answers clients below [`Replica::high_watermark`].
//!
//! # Layout
//!
//! - [`replica`](Replica): the state, its inputs, promises; `follower`, `sealing`, `leader`: the
//!   three roles; `durable`: what is kept besides the log; `effect`: inputs and effects; `message`: what replicas say to each other
//! - `view`: what is known of the log; `set`: majorities, also while the replicas change
//! - [`limits`]: every limit, by name
//!
//! # Example
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use millstream_replication::{
//!     Appointment, DirectoryId, Durability, Durable, Effect, Input, LogView, Replica, ReplicaSet,
//! };
//!
//! // A new partition with one replica: broker 1 is appointed, promises, and leads.
//! let mut effects = Vec::new();
//! let durable = Durable::assigned(DirectoryId(1), 0);
//! let mut replica = Replica::open(1, durable, LogView::default(), &mut effects);
//! replica.step(0, Input::Appointed(Appointment {
//!     version: 1,
//!     epoch: 1,
//!     leader: 1,
//!     replicas: ReplicaSet::new(&[1]).unwrap(),
//!     directories: BTreeMap::from([(1, DirectoryId(1))]),
//!     durability: Durability::Sync,
//!     accepted: None,
//! }), &mut effects);
//! let Some(Effect::Persist(promise)) = effects.pop() else { panic!("it promises first") };
//! replica.step(0, Input::Persisted(promise), &mut effects);
//! assert_eq!(effects.pop(), Some(Effect::Activated { epoch: 1 }));
//! // It appends three records, and then they are on its disk.
//! replica.step(0, Input::Written { end: 3 }, &mut effects);
//! assert_eq!((replica.leading(), replica.high_watermark()), (Some(1), 0));
//! replica.step(0, Input::Flushed { offset: 3 }, &mut effects);
//! assert_eq!(replica.high_watermark(), 3);
//! ```

pub mod planted;

mod durable;
mod effect;
mod follower;
mod leader;
pub mod limits;
mod message;
mod replica;
mod sealing;
mod set;
mod view;

pub use durable::{DirectoryId, Durable};
pub use effect::{Appointment, Deposition, Durability, Effect, Input};
pub use leader::FollowerStatus;
pub use message::{Ack, Message};
pub use replica::{Replica, Role};
pub use set::ReplicaSet;
pub use view::{LogView, Position, Run, Span};

/// A broker's number in the cluster.
pub type BrokerId = u32;
