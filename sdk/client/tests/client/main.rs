//! The client against a broker in memory that can be made to fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod broker;
mod cluster;
mod connection;
mod consume;
mod group;
mod leaders;
mod produce;
mod recovery;
mod replicas;
mod silence;
