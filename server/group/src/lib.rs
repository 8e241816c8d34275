//! The consumer-group coordinator: who owns which partition, and how far each group has come.
//!
//! A pure core. It knows no network, no log, no clock and no randomness: it takes inputs and
//! returns an [`Outcome`] of records to append and effects to perform. It reads no partition
//! either: what a position means in offsets is asked from the shell
//! ([`Effect::ResolveStarts`]), and high watermarks are looked up through a closure.
//!
//! # The contract with the shell
//!
//! One [`Coordinator`] serves one partition of the internal, compacted offsets topic, and all the
//! groups whose names hash there. What is durable about a group, its committed offsets and its
//! generation, changes through [`Coordinator::replay`] alone: on load the shell replays the log;
//! in live traffic every method replays the records it returns before it returns, so that the next
//! request sees them. Members and their partitions are volatile: a member lives as long as its
//! stream.
//!
//! The shell
//!
//! 1. calls one method at a time, in any order, as fast as requests come;
//! 2. appends the records of the outcomes in the order of the calls, the records of one outcome
//!    together in one batch where they fit;
//! 3. performs an outcome's effects, and delivers its response, when its records *and those of
//!    every outcome before it* are durable. An outcome without records waits for the ones before
//!    it as well, and so does what a read ([`Coordinator::describe`] and its like) has returned;
//! 4. on a failed append discards the coordinator, closes the streams of its members (they join
//!    again) and loads a new one from the log.
//!
//! So requests pipeline under one group commit of the disk, nothing is ever said that a crash can
//! take back, and load, fail-over and live traffic take one path. A [`Effect::Send`] to a member
//! whose stream has ended meanwhile is dropped.
//!
//! # The life of a partition within a group
//!
//! ```text
//!   free ──(target found, no offset)──> resolving ──(start committed)──┐
//!    │ ^                                                               v
//!    │ └──(released, or the owner is gone)── revoking <──(moves)── owned
//!    └──────────────(target found, offset known)───────────────────────^
//! ```
//!
//! A partition never has two owners: the next one gets it when the last one has said that it
//! released it, or is gone. There is no time-out on a release: a slow handler delays only the
//! partitions it was asked for, and what has died is found out by its connection.
//!
//! # Workers at home
//!
//! A worker that says on which broker it runs gets the partitions which that broker leads, and
//! gives them up when another one does ([`Coordinator::topic_updated`]). Of two workers on one
//! broker the newer one gets them: the older one is of a process that is gone, or soon will be.
//! While no worker is where a partition is led, nobody owns it, though its start is found out and
//! committed as that of any other: whoever comes goes on from there. In a group in which some member has
//! a home, one that has none stands by.
//!
//! # Generations
//!
//! A group's generation rises with every change of the target assignment and with every reset, and
//! each rise is a record, so a generation is never used twice. A member that only stands by
//! changes nothing and writes nothing.
//!
//! # Layout
//!
//! - [`Coordinator`]: the entry points, one method per request
//! - [`assign`]: the pure function that shares partitions among members
//! - [`record`]: what is written to the log, and its encoding
//! - `homes`: the same for workers, by who leads what
//! - [`Effect`], [`Outcome`]: what the shell has to do
//! - [`error`]: the errors of each operation, and their codes on the wire
//! - [`limits`]: the bounds
//!
//! # Example
//!
//! ```
//! use millstream_group::{Coordinator, Effect, Join, Limits, MemberHandle, Topic};
//! use millstream_protocol::api::group::{CoordinatorMessage, MemberKind};
//! use millstream_protocol::api::offsets::Position;
//! use millstream_protocol::TopicId;
//! use uuid::Uuid;
//!
//! let orders = Topic { name: "orders".into(), topic_id: TopicId(Uuid::from_u128(7)), partitions: 1, leaders: vec![] };
//! let mut coordinator = Coordinator::new(Limits::default(), [orders]);
//!
//! let joined = coordinator.join(Join {
//!     group: "billing".into(),
//!     member: MemberHandle(1),
//!     member_name: "till-1".into(),
//!     principal: "CN=till".into(),
//!     kind: MemberKind::Client,
//!     home: None,
//!     topics: vec!["orders".into()],
//!     start: Position::Latest,
//! });
//! assert_eq!(joined.response, Ok(()));
//!
//! // Nothing is committed for orders-0 yet: the shell is asked what `Latest` means there, and the
//! // answer becomes the group's first committed offset.
//! let Some(Effect::ResolveStarts { group, starts }) = joined.effects.last() else { unreachable!() };
//! let resolved = starts.iter().map(|start| start.clone().at(42)).collect();
//! let started = coordinator.starts_resolved(group, resolved, 1_700_000_000_000);
//! let Some(Effect::Send { message: CoordinatorMessage::Assign { partitions, .. }, .. }) =
//!     started.effects.first()
//! else {
//!     unreachable!()
//! };
//! assert_eq!(partitions[0].offset, 42);
//! ```

pub mod planted;

pub mod assign;
mod commit;
mod coordinator;
mod describe;
mod durable;
mod effect;
pub mod error;
mod group;
mod homes;
pub mod limits;
mod member;
mod moves;
mod plan;
pub mod record;
mod reset;
mod slot;
mod topics;

pub use coordinator::Coordinator;
pub use describe::PartitionEnds;
pub use effect::{Effect, Outcome, ResolvedStart, StartWanted};
pub use limits::Limits;
pub use member::{Join, MemberHandle};
pub use record::{CommittedOffset, Record};
pub use reset::Reset;
pub use topics::Topic;
