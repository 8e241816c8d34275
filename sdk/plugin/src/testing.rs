//! Run a handler in a test, natively.
//!
//! ```
//! use millstream_plugin::testing::{self, Outcome};
//! use millstream_plugin::{Context, Failure, NewRecord, Outputs, Record};
//!
//! fn handle(record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let value = record.value().ok_or_else(|| Failure::reject("no value"))?;
//!     let loud = out.output("loud")?;
//!     out.emit(loud, &NewRecord::new(&value.to_ascii_uppercase()))
//! }
//!
//! let context = Context::new("shout", "words", 0).with_output("loud");
//! let outcomes = testing::run(&context, &[NewRecord::new(b"hi"), NewRecord::tombstone(b"k")], handle)?;
//! let [Outcome::Emitted(loud), Outcome::Rejected { input: 1, reason }] = &outcomes[..] else {
//!     panic!("{outcomes:?}");
//! };
//! assert_eq!((loud.output.as_str(), loud.value.as_deref()), ("loud", Some(&b"HI"[..])));
//! assert_eq!(reason, "no value");
//! # Ok::<(), String>(())
//! ```
//!
//! # State
//!
//! The [`state`](crate::state) that a handler finds is in memory and belongs to the thread. As in a
//! broker, what a call that fails as a whole has written is taken back. What a test itself writes,
//! between calls, counts at once. Tests that share a thread begin with [`clear_state`]; the same goes
//! for [`metrics`] and [`clear_metrics`], for [`timers`] and [`clear_timers`], and for tables
//! ([`put_in_table`]) and [`clear_tables`].

use crate::context::{Context, Output};
use crate::failure::Failure;
#[cfg(not(target_arch = "wasm32"))]
use crate::http::{HttpError, Request, Response};
use crate::outputs::{NewRecord, Outputs};
#[cfg(not(target_arch = "wasm32"))]
use crate::process::fire as fire_all;
use crate::process::process;
use crate::record::Record;
#[cfg(not(target_arch = "wasm32"))]
use crate::timers::{Clock, Timer};
use crate::varint::Reader;
#[cfg(not(target_arch = "wasm32"))]
use crate::{metrics as measured, state as kept, timers as set};

/// What became of an input record. A record that is dropped has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A record was emitted.
    Emitted(Emitted),
    /// The record was rejected.
    Rejected {
        /// Which of the input records.
        input: usize,
        /// Why.
        reason: String,
    },
    /// The record is to be handled again.
    Retried {
        /// Which of the input records.
        input: usize,
        /// Not before this has passed, milliseconds.
        after_ms: u32,
        /// Why.
        reason: String,
    },
}

/// An emitted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// For which of the input records.
    pub input: usize,
    /// The output's name.
    pub output: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Has `handler` handle `records`, as one batch that begins at offset 0, and returns the outcomes in
/// order. Records without a time have the time 0.
///
/// # Errors
///
/// The call as a whole failed, with this reason.
pub fn run<H>(
    context: &Context,
    records: &[NewRecord<'_>],
    handler: H,
) -> Result<Vec<Outcome>, String>
where
    H: FnMut(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
{
    let mut out = Vec::new();
    process(context, &batch(records), &mut out, handler)?;
    outcomes(context, &out).ok_or_else(|| "the outcomes cannot be read".to_owned())
}

/// The [`state`](crate::state) of this thread: all keys in order, with their values.
#[cfg(not(target_arch = "wasm32"))]
pub fn state() -> Vec<(Vec<u8>, Vec<u8>)> {
    kept::memory::entries()
}

/// Empties the [`state`](crate::state) of this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn clear_state() {
    kept::memory::clear();
}

/// Fires the [`timers`](crate::timers) of this thread that are due when `clock` stands at `now_ms`, in
/// one call, and returns the outcomes in order: their inputs are the timers.
///
/// # Errors
///
/// The call as a whole failed, with this reason. The timers are gone nevertheless.
#[cfg(not(target_arch = "wasm32"))]
pub fn fire<H>(
    context: &Context,
    clock: Clock,
    now_ms: i64,
    handler: H,
) -> Result<Vec<Outcome>, String>
where
    H: FnMut(Timer<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
{
    let due = set::memory::take_due(clock, now_ms);
    let timers = due.iter().map(|(key, at_ms)| Timer {
        clock,
        key,
        at_ms: *at_ms,
    });
    let mut out = Vec::new();
    fire_all(context, timers, &mut out, handler)?;
    outcomes(context, &out).ok_or_else(|| "the outcomes cannot be read".to_owned())
}

/// The [`timers`](crate::timers) of this thread: clock, key and time of each.
#[cfg(not(target_arch = "wasm32"))]
pub fn timers() -> Vec<(Clock, Vec<u8>, i64)> {
    set::memory::list()
}

/// Cancels the [`timers`](crate::timers) of this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn clear_timers() {
    set::memory::clear();
}

/// A measured value: see [`metrics`](crate::metrics).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// It only rises, from 0.
    Counter(u64),
    /// The value last set.
    Gauge(f64),
}

/// What was measured on this thread, in the order of the names.
#[cfg(not(target_arch = "wasm32"))]
pub fn metrics() -> Vec<(String, Metric)> {
    measured::memory::list()
}

/// Forgets what was measured on this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn clear_metrics() {
    measured::memory::clear();
}

/// Sets a secret of this thread: see [`secrets`](crate::secrets).
#[cfg(not(target_arch = "wasm32"))]
pub fn set_secret(name: &str, value: &str) {
    crate::secrets::memory::set(name, value);
}

/// Adds an empty table to those of this thread, unless it is there: see [`tables`](crate::tables).
#[cfg(not(target_arch = "wasm32"))]
pub fn add_table(table: &str) {
    crate::tables::memory::add(table);
}

/// Sets the value of a key in a table of this thread, which is made when it is not there.
#[cfg(not(target_arch = "wasm32"))]
pub fn put_in_table(table: &str, key: &[u8], value: &[u8]) {
    crate::tables::memory::set(table, key, Some(value));
}

/// Takes a key out of a table of this thread, as a record without a value does.
#[cfg(not(target_arch = "wasm32"))]
pub fn delete_from_table(table: &str, key: &[u8]) {
    crate::tables::memory::set(table, key, None);
}

/// Forgets the tables of this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn clear_tables() {
    crate::tables::memory::clear();
}

/// Has requests of this thread answered by a function: see [`http`](crate::http).
#[cfg(not(target_arch = "wasm32"))]
pub fn answer_http(answer: impl Fn(&Request) -> Result<Response, HttpError> + 'static) {
    crate::http::memory::answer(answer);
}

/// Encodes `records` as one batch that begins at offset 0. Its checksum is left out: the host checks
/// it, a guest does not.
pub fn batch(records: &[NewRecord<'_>]) -> Vec<u8> {
    let mut section = Vec::new();
    for (offset_delta, record) in (0..).zip(records) {
        record.encode(&mut section, offset_delta);
    }
    let count = records.len() as u32;
    let mut batch = Vec::with_capacity(61 + section.len());
    batch.extend_from_slice(&0u64.to_be_bytes());
    batch.extend_from_slice(&(49 + section.len() as u32).to_be_bytes());
    batch.extend_from_slice(&0u32.to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&0u32.to_be_bytes());
    batch.extend_from_slice(&0u16.to_be_bytes());
    batch.extend_from_slice(&count.saturating_sub(1).to_be_bytes());
    batch.extend_from_slice(&0i64.to_be_bytes());
    let max_timestamp_ms = records.iter().map(|record| record.timestamp_ms_or(0)).max();
    batch.extend_from_slice(&max_timestamp_ms.unwrap_or(0).to_be_bytes());
    batch.extend_from_slice(&[0xff; 14]);
    batch.extend_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(&section);
    batch
}

/// Reads what [`process`] has written. `None`: it cannot be read.
pub fn outcomes(context: &Context, bytes: &[u8]) -> Option<Vec<Outcome>> {
    let mut reader = Reader::new(bytes);
    let mut input = 0;
    let mut outcomes = Vec::new();
    while !reader.is_empty() {
        input += reader.length()?;
        outcomes.push(match reader.byte()? {
            0 => Outcome::Emitted(emitted(context, input, &mut reader)?),
            1 => Outcome::Rejected {
                input,
                reason: reason(&mut reader)?,
            },
            2 => {
                let after_ms = u32::try_from(reader.varint()?).ok()?;
                Outcome::Retried {
                    input,
                    after_ms,
                    reason: reason(&mut reader)?,
                }
            }
            _ => return None,
        });
    }
    Some(outcomes)
}

fn reason(reader: &mut Reader<'_>) -> Option<String> {
    String::from_utf8(reader.optional_bytes()??.to_vec()).ok()
}

fn emitted(context: &Context, input: usize, reader: &mut Reader<'_>) -> Option<Emitted> {
    let output = Output(u32::try_from(reader.varint()?).ok()?);
    let output = context.outputs().get(output.0 as usize)?.clone();
    let record = Record::decode(reader, 0, 0)?;
    let header =
        |header: crate::Header<'_>| (header.name.to_owned(), header.value.map(<[u8]>::to_vec));
    Some(Emitted {
        input,
        output,
        timestamp_ms: record.timestamp_ms(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(header).collect(),
    })
}
