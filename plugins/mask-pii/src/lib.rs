//! Masks, drops or hashes the fields of JSON objects that say who somebody is.
//!
//! In: one JSON object a record. Out, on `masked`: the same record, with the values of the configured
//! fields redacted and every other byte as it was. What is no JSON object is rejected, and the reason
//! cites nothing of it: a reason is kept in places that are not made for personal data.
//!
//! # Layout
//!
//! - `fields`: which fields, from the configuration
//! - `method`: what becomes of their values
//! - `redact`: finds the values in a text and puts the others in their place
//! - `cursor`: moves through the text
//! - `content`: what a name or a string in it says

mod content;
mod cursor;
mod fields;
mod method;
mod redact;

use std::error::Error;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, log, metrics};

use crate::fields::Fields;
use crate::method::Method;
use crate::redact::redact;

/// One worker.
pub struct MaskPii {
    fields: Fields,
    method: Method,
    masked: Output,
    /// The value being written; kept for its memory.
    json: Vec<u8>,
}

/// Reads the configuration (`fields`, `mode`, `keep-last`, `salt`) and the output `masked`.
pub fn init(context: &Context) -> Result<MaskPii, Box<dyn Error>> {
    let fields = context
        .config("fields")
        .ok_or("fields must name at least one field")?;
    let worker = MaskPii {
        fields: Fields::parse(fields)?,
        method: Method::configured(context)?,
        masked: context.output("masked")?,
        json: Vec::new(),
    };
    log::info(format_args!("{} `{fields}`", worker.method));
    Ok(worker)
}

/// Emits the record with its fields redacted.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut MaskPii,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let Some(value) = record.value() else {
        // A deletion: whoever is deleted from the input is deleted from the output.
        return out.emit(worker.masked, &NewRecord::of(&record));
    };
    worker.json.clear();
    let redacted = redact(value, &worker.fields, &worker.method, &mut worker.json)?;
    if redacted > 0 {
        metrics::counter_add("values_redacted", redacted);
    }
    out.emit(
        worker.masked,
        &NewRecord::of(&record).with_value(&worker.json),
    )
}
