//! Every order of a few steps of one partition's replicas.
//!
//! A [`Partition`] is a [`stateright::Model`] whose replicas are the broker's own core,
//! [`millstream_replication::Replica`], so that what is checked is what runs. Around it is the
//! least of what a broker is: a log in the page cache and what of it is on the disk, the durable
//! record, what is being persisted; a network that loses, delays, reorders and repeats; a metadata
//! quorum that is one variable. Processes crash (also in the middle of a write), machines lose
//! their power, disks are emptied, replica sets change. [`Bounds`] says how often.
//!
//! What it does _not_ do: time passes nowhere, so that nothing is asked again by itself (a network
//! that repeats whatever was ever sent does as much); a record is a number; followers' reads and
//! the broker's own bookkeeping are elsewhere.
//!
//! # What makes it small
//!
//! Each of these leaves every outcome reachable that matters to the rules:
//!
//! - A message stays in the network and may be delivered at any time and again; losing it is never
//!   delivering it. It is forgotten once its receiver has durably promised a newer epoch, is not in
//!   the role that it is for and cannot be again, or is a leader that knows it all: the core ignores
//!   it then. While nothing can fail any more, what says nothing new to a follower is forgotten too.
//! - What is on a disk is a prefix of what is in the page cache, because the core has a cut made
//!   durable before anything is written behind it.
//! - A metadata decision is told to those whom it makes do something: the leader that it appoints,
//!   whoever leads or seals, and a follower together with the first message that it would not heed
//!   otherwise.
//! - While no power can be lost any more, a flush is done at once, and while no process can crash
//!   any more either, so is what is persisted: a late answer is then the network's.
//! - The first epoch is broker 1's: replicas are alike until one is appointed.
//!
//! Beyond that, replicas are not renamed to find more states alike: their numbers are inside the
//! cores.
//!
//! # Layout
//!
//! - [`bounds`]: how much of everything; `state`: replicas, network, metadata
//! - `shell`: what a broker does with a core's effects; `faults`: what befalls it
//! - `steps`: which steps there are, and taking one; `relevance`: what can still have a consequence;
//!   `asserts`: assertions of the core that fail
//! - `ghost`: what was committed, by whom; [`rules`]: what must hold, and what must happen
//! - [`walks`]: random walks, where there are too many states; [`report`]: a check's outcome, for
//!   who reads it

mod asserts;
pub mod bounds;
mod faults;
mod ghost;
mod relevance;
pub mod report;
pub mod rules;
mod shell;
mod state;
mod steps;
pub mod walks;

pub use bounds::Bounds;
pub use state::{Entry, Letter, State};
pub use steps::{Action, Partition};
