//! Picks the strong earthquakes out of a feed, and keys them by the network that reported them.
//!
//! In: one JSON object a record. Out, on `alerts`: for each record whose `mag` is at least
//! `min-mag`, some of its fields. What is weaker, or has no magnitude, is dropped; what is not such
//! an object is rejected.

use std::borrow::Cow;
use std::error::Error;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, json, log};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The threshold of a deployment that sets none.
const DEFAULT_MIN_MAG: f64 = 4.5;

/// One worker.
pub struct QuakeAlert {
    min_mag: f64,
    alerts: Output,
    /// The alert being written; kept for its memory.
    json: Vec<u8>,
}

/// What is told of a strong earthquake: fields of the event, as they were written there.
#[derive(Serialize, Deserialize)]
struct Alert<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    time: &'a RawValue,
    #[serde(borrow)]
    mag: &'a RawValue,
    #[serde(borrow)]
    place: Option<&'a RawValue>,
    /// The seismic network that reported it: the record's key.
    #[serde(borrow)]
    net: Cow<'a, str>,
    #[serde(borrow)]
    lon: &'a RawValue,
    #[serde(borrow)]
    lat: &'a RawValue,
    #[serde(borrow)]
    depth_km: Option<&'a RawValue>,
}

/// Reads the configuration: `min-mag`, and the output `alerts`.
pub fn init(context: &Context) -> Result<QuakeAlert, Box<dyn Error>> {
    let min_mag = match context.config("min-mag") {
        None => DEFAULT_MIN_MAG,
        Some(text) => text
            .parse()
            .ok()
            .filter(|min_mag: &f64| min_mag.is_finite())
            .ok_or_else(|| format!("min-mag must be a number, not `{text}`"))?,
    };
    let alerts = context.output("alerts")?;
    log::info(format_args!("alerts from magnitude {min_mag}"));
    Ok(QuakeAlert {
        min_mag,
        alerts,
        json: Vec::new(),
    })
}

/// Gives an alert for a strong earthquake.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut QuakeAlert,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let value = record
        .value()
        .ok_or_else(|| Failure::reject("the record has no value"))?;
    // All that is looked at of most records.
    let [mag] = json::fields(value, ["mag"])?;
    let mag: Option<f64> = mag.map_or(Ok(None), serde_json::from_str)?;
    if mag.is_none_or(|mag| mag < worker.min_mag) {
        return Ok(());
    }
    let alert: Alert<'_> = serde_json::from_slice(value)?;
    worker.json.clear();
    serde_json::to_writer(&mut worker.json, &alert)?;
    out.emit(
        worker.alerts,
        &NewRecord::new(&worker.json).with_key(alert.net.as_bytes()),
    )
}
