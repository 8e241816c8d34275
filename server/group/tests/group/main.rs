//! The coordinator by scripts and by properties, in virtual time.
//!
//! - `script`: runs a transcript and compares; the one place that touches the API for the scripts
//! - `home`: workers where partitions are led
//! - `join`, `handover`, `commit`, `reset`, `topic`, `admin`, `restart`: scripts, one file per subject
//! - `bounds`: what is too long or too much
//! - `assign`: properties of the assignment function
//! - `model`: random traffic against clients that check what they are told
//! - `record`: the bytes in the log
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what supports a test fails like the test"
)]

mod admin;
mod assign;
mod bounds;
mod commit;
mod handover;
mod home;
mod join;
mod model;
mod record;
mod reset;
mod restart;
mod script;
mod topic;
