//! What the workers' guests remember: keyed state, served from memory and a file. And what they look
//! up: of a table, the partition of its topic is what a worker's journal is to its state.
//!
//! A worker's journal is the truth; everything here can be thrown away and is made again from it.
//! What has changed lately lies in memory. When that has grown to a bound, it goes into the
//! worker's file (redb) in one durable transaction, together with how much of the journal the file
//! then holds, so that a start reads the rest of the journal and no more. A worker that remembers
//! little never has a file.
//!
//! This crate reads no journal and knows no guest. It has no thread: what takes long is an object
//! that the caller runs where it may block ([`Flush`]), and everything that touches a file may
//! block. It is the only importer of `redb`.
//!
//! # The way of a store
//!
//! 1. [`States::open`] finds a worker's file, if there is one that can still be trusted, and says up
//!    to where it holds the journal ([`Loading::checkpoint`]).
//! 2. The changes behind that are read from the journal into [`Loading::set`]; [`Loading::finish`]
//!    makes a [`Store`] of it.
//! 3. The changes of every commit that counts go into [`Store::apply`], if [`Store::admits`] them.
//! 4. When [`Store::wants_flush`], [`Store::begin_flush`] sets aside what has changed, to be
//!    written by [`Flush::run`] while the worker goes on. There is one flush of a store at a time:
//!    whoever wants another waits for it, which is what bounds the memory.
//! 5. After any error, the store is opened anew.
//!
//! # Layout
//!
//! - [`States`]: the folder of all files of a kind on a broker, and the memory that all stores share
//! - [`Loading`]: a store that is being read back
//! - [`Store`], [`Growth`]: a worker's state
//! - [`Flush`], [`Checkpoint`]: what goes into the file
//! - [`Snapshot`], [`Page`]: the state as it was at one moment, for a person
//! - [`limits`]: the bounds

mod checkpoint;
mod error;
mod file;
mod flush;
mod layers;
pub mod limits;
mod loading;
mod overlay;
mod snapshot;
mod states;
mod store;

pub use checkpoint::Checkpoint;
pub use error::{StateError, StateFull};
pub use flush::Flush;
pub use loading::Loading;
pub use snapshot::{Entry, Page, PageRequest, Snapshot};
pub use states::{HasRoom, JournalExtent, StateConfig, States};
pub use store::{Admission, Growth, StandsFor, Store};
