//! The record batch, from outside: written and read, compared with Kafka's, and attacked.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod hostile;
mod kafka;
mod records;
mod roundtrip;
