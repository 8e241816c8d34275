//! Joins records with a table: what is known of the thing that a record names is added to the record.
//!
//! The table is a compacted topic that somebody keeps: seismic networks by their code, customers by
//! their number. A record is joined with what the table has when the record is handled.
//!
//! # Layout
//!
//! - `settings`: the configuration
//! - `lookup`: what of a record is looked up
//! - `object`: adding a field to an object

mod lookup;
mod object;
mod settings;

use std::error::Error;

use millstream_plugin::tables::Table;
use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, json, log, metrics};

use crate::settings::{Missing, Settings};

/// One worker.
pub struct Enrich {
    settings: Settings,
    reference: Table,
    enriched: Output,
    /// The object being written; kept for its memory.
    json: Vec<u8>,
}

/// Reads the configuration (`field`, `as`, `take`, `missing`), the table `reference` and the output
/// `enriched`.
pub fn init(context: &Context) -> Result<Enrich, Box<dyn Error>> {
    let worker = Enrich {
        settings: Settings::configured(context)?,
        reference: context.table("reference")?,
        enriched: context.output("enriched")?,
        json: Vec::new(),
    };
    log::info(format_args!("{}", worker.settings));
    Ok(worker)
}

/// Emits the record with what the table has of it.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut Enrich,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let Enrich {
        settings,
        reference,
        enriched,
        json,
    } = worker;
    // A deletion is joined with nothing.
    let Some(value) = record.value() else {
        return out.emit(*enriched, &NewRecord::of(&record));
    };
    let [before, looked_up] = json::fields(value, [&settings.add, settings.field_name()])?;
    if before.is_some() {
        let name = &settings.add;
        return Err(Failure::reject(format_args!(
            "the record has a `{name}` already"
        )));
    }
    let key = settings.lookup.key(&record, looked_up)?;
    let Some(known) = reference.get(&key)? else {
        metrics::counter_add("missing", 1);
        return match settings.missing {
            Missing::Pass => out.emit(*enriched, &NewRecord::of(&record)),
            Missing::Drop => Ok(()),
            Missing::Reject => {
                let key = String::from_utf8_lossy(&key);
                Err(Failure::reject(format_args!("the table has no `{key}`")))
            }
        };
    };
    json.clear();
    object::with_field(value, &settings.add, json, |json| {
        settings.take(&known, json)
    })?;
    metrics::counter_add("joined", 1);
    out.emit(*enriched, &NewRecord::of(&record).with_value(json))
}
