//! Links over QUIC, between brokers that consist of nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;
mod hostile;
mod log;
mod node;
mod reconnecting;
mod replicating;
mod stalled;
