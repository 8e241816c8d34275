//! What makes a worker exactly-once: its journal, and what it does about records that fail.
//!
//! A pure core. It knows no guest, no log and no clock: it says what to write, what to send and
//! when to try again, and a shell does it.
//!
//! # The journal
//!
//! A worker (one deployment at one input partition) has a journal: a compacted partition of its
//! own, beside its input. One batch of it is one [`Commit`], and counts as a whole or not at all:
//! how far the input is done, what was emitted, which records wait to be tried again, what the
//! guest's state and timers have become. The input offset moves by nothing else.
//!
//! What was emitted is sent to the output partitions only once its commit is durable, under the
//! worker's own producer id and a sequence of that output partition, both from the journal. The
//! output's log drops every sequence up to the last that it has from this producer, without a
//! limit of time. So after a crash everything that may not have arrived is sent again, byte for
//! byte, and it does not matter whether the guest would compute it again.
//!
//! # Outputs that go out first
//!
//! Keeping outputs in the journal costs a copy. Where a plugin declares that it is deterministic, its
//! outputs can go out before the commit, under a second producer of the worker with sequences of their
//! own ([`CommitBuilder::emit_direct`]). A crash in between leaves outputs that no commit knows; the same
//! records are handled again before anything else is, come to the same batches with the same
//! sequences, and the output's log drops what it has. What is not sure to come again as it was, timers
//! and records that are tried again, goes through the journal.
//!
//! # The contract with the shell
//!
//! 1. On a start it reads the journal from its beginning into a [`Recovery`], which gives the
//!    [`Journal`] and the [`Sending`]s that may not have arrived. It sends these first. If it has kept
//!    [`Journal::records`] of some moment elsewhere, it reads these and what has come since.
//! 2. For every turn it fills a [`CommitBuilder`], sends [`Commit::direct`] and waits until that has
//!    arrived, appends [`Commit::batch`] to the journal, and when that is acknowledged tells
//!    [`Journal::committed`], which gives the [`Sending`]. It sends
//!    it, and tells [`Journal::settled`] when all of it is acknowledged.
//! 3. Sendings go out, and are settled, in the order of their commits.
//! 4. When an append fails, it throws the journal away and begins with 1.
//!
//! # Layout
//!
//! - [`Journal`], [`Recovery`]: what the journal says, and how it is read back
//! - [`CommitBuilder`], [`Commit`], [`Sending`]: one step of it
//! - [`ParkedRecord`], [`ParkedRecords`]: records that wait to be tried again, and those behind them
//! - [`LetterPlace`]: which dead letters were handed back, so that none is twice
//! - [`Timer`], [`Timers`]: what the guest has set to be called later
//! - [`StateWriter`]: the version of the plugin whose state it is, so that another one can take it over
//! - [`Bite`], [`Verdict`], [`verdict`]: how a failure is narrowed down to its record, and what
//!   becomes of that
//! - [`limits`]: the bounds

pub mod planted;

mod commit;
mod failure;
mod journal;
pub mod limits;
mod parked;
mod record;
mod timers;
mod writer;

pub use commit::{Commit, CommitBuilder, CommitError, OutputBatch, Sending};
pub use failure::{Bite, Verdict, last_resort, verdict};
pub use journal::{Journal, JournalError, Recovery};
pub use parked::{ParkedRecord, ParkedRecords};
pub use record::LetterPlace;
pub use timers::{Timer, TimerId, Timers};
pub use writer::{Heir, StateWriter};
