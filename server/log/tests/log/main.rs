//! The log through its public API: scripts, a model, crashes at every step, damage, real files.

// The lint's exception for tests covers the functions marked as such, not what they call.
#![allow(clippy::panic)]

mod compaction;
mod crash;
mod crash_random;
mod damage;
mod disk;
mod faults;
mod followers;
mod harness;
mod model;
mod readers;
mod scripts;
mod start;
