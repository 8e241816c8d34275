//! The image by its commands, by random histories, and by its bytes.
//!
//! - `cluster`: a cluster in the making, shared by the other files
//! - one file per kind of command
//! - `format`: the bytes of records and snapshots; `wire`: those of what brokers tell each other
//! - `journals`: topics whose partitions are where others are
//! - `model`: random commands, from `commands`, against the invariants
//! - `steward`: what the steward decides; `steward_beats`: how it hears of brokers, and what it tells;
//!   `steward_world`: what comes of it, whatever happens; `steward_cost`: how long it takes
//! - `plans`: what plans say; `plan_histories`: that carried out they come to an end
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what supports a test fails like the test"
)]

mod alter_topic;
mod brokers;
mod cluster;
mod commands;
mod create_topic;
mod delete_topic;
mod deployments;
mod format;
mod journals;
mod leaders;
mod loops;
mod loss;
mod model;
mod placement;
mod plan_histories;
mod plans;
mod producer_ids;
mod reassignment;
mod registration;
mod replicas;
mod shadows;
mod steward;
mod steward_beats;
mod steward_cost;
mod steward_world;
mod tokens;
mod wire;
