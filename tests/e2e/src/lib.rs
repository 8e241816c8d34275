//! The harness of the end-to-end tests: the real program as child processes, on loopback, each
//! broker with a folder, a profile and a port of its own.
//!
//! It builds the program once per test process, starts it, kills it, and ends what it started. It
//! waits for conditions, never for time. It knows nothing of the broker's insides: what it sees is
//! what a user sees.
//!
//! # Layout
//!
//! - [`artifacts`]: the program and the plugins, built once
//! - [`broker`]: a broker that can be killed and started again
//! - [`cluster`]: several brokers of one cluster
//! - [`chaos`]: a cluster to which everything happens that may
//! - [`command`]: runs of the command line, and what came of them
//! - [`deployment`]: deployments of the example plugins, and how far they are
//! - [`process`]: a child process that does not outlive the test
//! - [`patience`]: waiting for a condition
//! - [`load`]: numbered records from several idempotent producers
//! - [`storm`]: workers that meet bad records; [`reckoning`]: whether each record has counted once
//! - [`http_server`]: a server that plugins ask
//! - [`history`]: what a topic holds, and whether that is what was acknowledged
//! - [`wire`]: frames and bytes as only a test would send them
//! - [`quakes`]: the earthquakes of the fixture
//! - [`memory`]: how much memory a process comes to hold
//! - [`random`]: numbers from a seed
//!
//! ```no_run
//! use millstream_e2e::broker::Broker;
//!
//! # async fn example() -> millstream::Result<()> {
//! let mut broker = Broker::start();
//! let client = broker.client().await;
//! client.admin().create_topic("orders").await?;
//! broker.kill();
//! broker.restart();
//! assert_eq!(client.admin().list_topics().await?.len(), 1);
//! # Ok(())
//! # }
//! ```

#![allow(clippy::panic, reason = "a harness fails the test that uses it")]

pub mod artifacts;
pub mod broker;
mod broker_log;
pub mod chaos;
pub mod cluster;
pub mod command;
pub mod deployment;
pub mod history;
pub mod http_server;
pub mod load;
pub mod memory;
pub mod patience;
pub mod process;
pub mod quakes;
pub mod random;
pub mod reckoning;
pub mod siege;
pub mod small_disk;
pub mod storm;
pub mod wire;
