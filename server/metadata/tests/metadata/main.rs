//! The image by its commands, by random histories, and by its bytes.
//!
//! - `cluster`: a cluster in the making, shared by the other files
//! - one file per kind of command
//! - `format`: the bytes of records and snapshots
//! - `model`: random commands against the invariants
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what supports a test fails like the test"
)]

mod alter_topic;
mod brokers;
mod cluster;
mod create_topic;
mod delete_topic;
mod deployments;
mod format;
mod leaders;
mod loops;
mod model;
mod producer_ids;
mod shadows;
