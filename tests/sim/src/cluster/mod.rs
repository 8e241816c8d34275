//! A cluster of cores in one event queue.
//!
//! A run is drawn from its seed: brokers, replicas, durability, the network's weather, clocks that
//! differ and drift, and what goes wrong and when. The brokers have the real core of replication and
//! the real log, on a disk in memory that loses what was not synced, by sectors. The metadata quorum
//! is one node that does not fail. Producers are idempotent and try again until they have an answer;
//! consumers read from any broker. An oracle sees all acknowledgements, all reads and all high
//! watermarks.
//!
//! In most runs every replica lets old records go, by size or by deletion, so that the logs of replicas that
//! were away or have lost their disk begin late. Some producers send as workers do: what they have sent once
//! may come again at any time.
//!
//! Some runs have a group of consumers, and some have workers, with their real cores on the brokers that lead the
//! groups' log and the workers' journals. The oracle knows what each member may be given, and what each worker has
//! to emit.
//!
//! Faults: processes are killed, machines lose power one by one and all at once, processes stand
//! still, links are cut in one direction or both, packets are lost, late, repeated and out of order,
//! syncs fail or do nothing, bits flip, disks are replaced by empty ones, disks are full, replicas
//! change, leaderships move. No more disks are lost at a time than leave what can be sealed.
//!
//! When the faults are over, all replicas must have everything, and every producer its answers; the group
//! must have read everything, and workers have handled it, once. The
//! same seed gives the same run.

#[macro_use]
pub mod planted;

mod broker;
mod client;
mod dice;
mod env;
mod layout;
mod member;
mod metadata;
mod network;
mod oracle;
mod packet;
mod plan;
mod queue;
mod report;
mod run;
mod stream;
mod world;

pub use report::Report;
pub use run::{Failure, Options, Outcome, run, run_many};
