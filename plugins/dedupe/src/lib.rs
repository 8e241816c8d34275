//! Drops records that have been seen before: the first of each id passes, the others within a window
//! of the records' own time do not.
//!
//! What has been seen is kept as state, so that a restart, or another broker, goes on with it; and it
//! is forgotten with the window, so that it does not grow for ever.
//!
//! # Layout
//!
//! - `window`: a length of time, from the configuration
//! - `id`: where a record's id is
//! - `seen`: the state: ids, when they were last seen, and how they are forgotten

mod id;
mod seen;

use std::error::Error;

use millstream_plugin::{
    Context, Failure, NewRecord, Output, Outputs, Record, duration, log, metrics,
};

use crate::id::IdSource;
use crate::seen::{Seen, Sighting};

/// The window of a deployment that sets none.
const DEFAULT_WINDOW: &str = "24h";

/// One worker.
pub struct Dedupe {
    id: IdSource,
    seen: Seen,
    unique: Output,
}

/// Reads the configuration (`window`, `field`) and the output `unique`.
pub fn init(context: &Context) -> Result<Dedupe, Box<dyn Error>> {
    let window = context.config("window").unwrap_or(DEFAULT_WINDOW);
    let window_ms = duration::parse_ms(window).map_err(|error| format!("window {error}"))?;
    let worker = Dedupe {
        id: IdSource::configured(context)?,
        seen: Seen::open(window_ms).map_err(|failure| failure.reason().to_owned())?,
        unique: context.output("unique")?,
    };
    log::info(format_args!("{} passes once within {window}", worker.id));
    Ok(worker)
}

/// Emits the record unless its id has been seen.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut Dedupe,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let id = worker.id.of(&record)?;
    let at_ms = record.timestamp_ms();
    let sighting = worker.seen.look(id, at_ms)?;
    // Emits before it remembers: a record that cannot be emitted is rejected, and was not seen.
    match sighting {
        Sighting::Again { .. } => metrics::counter_add("duplicates_dropped", 1),
        Sighting::First { .. } => out.emit(worker.unique, &NewRecord::of(&record))?,
        Sighting::Late => {
            metrics::counter_add("late_passed", 1);
            out.emit(worker.unique, &NewRecord::of(&record))?;
        }
    }
    worker.seen.note(id, at_ms, sighting)?;
    let forgotten = worker.seen.sweep()?;
    if forgotten > 0 {
        metrics::counter_add("ids_forgotten", forgotten);
    }
    Ok(())
}
