//! Counts the earthquakes of each network in windows of time, with their mean and greatest magnitude.
//!
//! A window's result is emitted when it is over: when a record of a later time has come. A timer tells;
//! until then the figures are kept as state, so that a restart, or another broker, goes on with them.
//!
//! # Layout
//!
//! - `duration`: a length of time, from the configuration
//! - `event`: what is read of an earthquake
//! - `figures`: count, mean and maximum
//! - `windows`: the state: figures by window and network, and what is late

mod event;
mod figures;
mod windows;

use std::error::Error;

use millstream_plugin::timers::Timer;
use millstream_plugin::{
    Context, Failure, NewRecord, Output, Outputs, Record, duration, log, metrics,
};
use serde::Serialize;

use crate::event::Event;
use crate::windows::{Window, Windows};

/// The window of a deployment that sets none.
const DEFAULT_WINDOW: &str = "1h";

/// One worker.
pub struct QuakeStats {
    windows: Windows,
    stats: Output,
    /// Where late records go, if that is declared.
    late: Option<Output>,
    /// The result being written; kept for its memory.
    json: Vec<u8>,
}

/// What a network has reported in a window.
#[derive(Serialize)]
struct Stats<'a> {
    net: &'a str,
    /// The window, milliseconds since the Unix epoch.
    from: i64,
    /// Not within it any more.
    to: i64,
    count: u64,
    mean_mag: f64,
    max_mag: f64,
}

/// Reads the configuration: `window`, and the outputs `stats` and, if there is one, `late`.
pub fn init(context: &Context) -> Result<QuakeStats, Box<dyn Error>> {
    let window = context.config("window").unwrap_or(DEFAULT_WINDOW);
    let window_ms = duration::parse_ms(window).map_err(|error| format!("window {error}"))?;
    let worker = QuakeStats {
        windows: Windows::open(window_ms).map_err(|failure| failure.reason().to_owned())?,
        stats: context.output("stats")?,
        late: context.output("late").ok(),
        json: Vec::new(),
    };
    log::info(format_args!("figures for each {window}"));
    Ok(worker)
}

/// Adds the event to the figures of its window.
#[millstream_plugin::handler(init = init, timer = window_over)]
pub fn handle(
    worker: &mut QuakeStats,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let at_ms = record.timestamp_ms();
    let window = worker.windows.of(at_ms);
    let late = worker.windows.is_over(window);
    // What is rejected has its time nevertheless: the broker's clock goes by it as well.
    worker.windows.reach(at_ms)?;
    let event = Event::read(&record)?;
    if late {
        metrics::counter_add("late_records", 1);
        return match worker.late {
            Some(late) => out.emit(late, &NewRecord::of(&record)),
            None => Ok(()),
        };
    }
    match event.mag {
        Some(mag) => worker.windows.add(window, &event.net, mag),
        None => Ok(()),
    }
}

/// Emits the figures of a window that is over.
pub fn window_over(
    worker: &mut QuakeStats,
    timer: Timer<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    worker.windows.reach(timer.at_ms())?;
    let Some((window, net, figures)) = worker.windows.take(timer.key())? else {
        return Ok(());
    };
    let Window { from_ms, to_ms } = window;
    let stats = Stats {
        net: &net,
        from: from_ms,
        to: to_ms,
        count: figures.count(),
        mean_mag: figures.mean(),
        max_mag: figures.max(),
    };
    worker.json.clear();
    serde_json::to_writer(&mut worker.json, &stats)?;
    metrics::counter_add("windows_closed", 1);
    // The last moment of the window: windows of the same length downstream are then the same.
    let result = NewRecord::new(&worker.json)
        .with_key(net.as_bytes())
        .with_timestamp_ms(to_ms - 1);
    out.emit(worker.stats, &result)
}
