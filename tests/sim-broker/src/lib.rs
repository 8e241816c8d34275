//! Whole brokers and clients in one simulation: the real broker, the real client and their own QUIC over the
//! datagrams of [turmoil], on disks in memory that lose what a power cut may take.
//!
//! One run is one thread of one process: time stands still while something is done and is the same for all that asks
//! for it, all randomness that anything asks the system for comes of the seed ([`entropy`]), and a broker on an executor
//! of one thread does in place what else it leaves to threads. So the same seed gives the same [`trace`]; `--twice`
//! looks whether it does.
//!
//! What is not simulated: TLS makes its keys itself; a few small files of the data directory (identity, incarnation,
//! lock) are real; workers do not run here, as a guest has threads of its own.
//!
//! - [`many`]: many runs, each in a process of its own
//! - [`run`]: a run, from the first broker's start to the verdict
//! - `place`: a broker's place: its disk, and the software that runs there
//! - `clients`: producers, a reader and a group
//! - `faults`: what happens to brokers, disks and the network
//! - `oracle`: whether what the clients were told is true
//! - [`report`]: what the runs have come to
//! - `network`: datagrams; [`entropy`]: dice; [`trace`]: what has happened, in one number
//!
//! [turmoil]: https://docs.rs/turmoil

mod clients;
pub mod entropy;
mod faults;
mod ledger;
pub mod many;
mod network;
mod oracle;
mod place;
pub mod report;
pub mod run;
pub mod trace;
