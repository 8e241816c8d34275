//! Nodes in one process that elect, agree, fail and come back.

// The lint's exception for tests covers the functions marked as such, not what they call.
#![allow(clippy::panic)]

mod agreement;
mod disks;
mod failures;
mod harness;
mod members;
mod messages;
