//! The cores of the cluster, checked and simulated.
//!
//! - [`model`]: every order of a few steps of a partition's replicas, driven through the very core
//!   that the broker runs (a model for [stateright](https://docs.rs/stateright))
//! - [`cluster`]: many seeds of many steps, with the real log on a disk that loses and spoils what
//!   a disk may, a network that does what a network may, and an oracle that knows what was promised:
//!   by logs, to groups, and of workers

pub mod cluster;
pub mod model;
#[cfg(planted)]
pub mod planted;
