//! Picks the strong earthquakes out of a feed, and keys them by the network that reported them.
//!
//! In: one JSON object a record. Out, on `alerts`: for each record whose `mag` is at least
//! `min-mag`, some of its fields. What is weaker, or has no magnitude, is dropped; what is not such
//! an object is rejected.

use std::error::Error;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, json, log};

/// The threshold of a deployment that sets none.
const DEFAULT_MIN_MAG: f64 = 4.5;

/// One worker.
pub struct QuakeAlert {
    min_mag: f64,
    alerts: Output,
    /// The alert being written; kept for its memory.
    json: Vec<u8>,
}

/// What is told of a strong earthquake: these fields of the event, as they were written there, each
/// behind these words.
const TOLD: [(&str, &str); 8] = [
    ("id", r#"{"id":"#),
    ("time", r#","time":"#),
    ("mag", r#","mag":"#),
    ("place", r#","place":"#),
    ("net", r#","net":"#),
    ("lon", r#","lon":"#),
    ("lat", r#","lat":"#),
    ("depth_km", r#","depth_km":"#),
];

/// Those of them that an event may lack.
const OPTIONAL: [&str; 2] = ["place", "depth_km"];

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
    let Some(mag) = mag.filter(|mag| *mag != "null") else {
        return Ok(());
    };
    let Some(magnitude) = json::number(mag) else {
        return Err(Failure::reject(format_args!(
            "`mag` must be a number, not {mag}"
        )));
    };
    if magnitude < worker.min_mag {
        return Ok(());
    }
    alert(worker, value, out)
}

/// Not a part of what most records go through: they are spared its preparations.
#[inline(never)]
fn alert(worker: &mut QuakeAlert, event: &[u8], out: &mut Outputs<'_>) -> Result<(), Failure> {
    let values = json::fields(event, TOLD.map(|(name, _)| name))?;
    worker.json.clear();
    for ((name, before), value) in TOLD.into_iter().zip(values) {
        let value = match value {
            Some(value) => value,
            None if OPTIONAL.contains(&name) => "null",
            None => return Err(Failure::reject(format!("missing field `{name}`"))),
        };
        worker.json.extend_from_slice(before.as_bytes());
        worker.json.extend_from_slice(value.as_bytes());
    }
    worker.json.push(b'}');
    // The seismic network that reported it is the record's key.
    let [_, _, _, _, net, ..] = values;
    let net: String = serde_json::from_str(net.unwrap_or_default())?;
    out.emit(
        worker.alerts,
        &NewRecord::new(&worker.json).with_key(net.as_bytes()),
    )
}
