//! The earthquakes of the fixture, and the alerts that must come of them.

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;

use crate::artifacts;

/// The events in the fixture.
pub const EVENTS: usize = 1_707;

/// Those of magnitude [`STRONG`] and above.
pub const ALERTS: usize = 85;

/// The least magnitude of an alert.
pub const STRONG: f64 = 4.5;

/// One event, or an alert: the fields that both have.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Quake {
    /// Its id, unique.
    pub id: String,
    /// Its magnitude.
    pub mag: Option<f64>,
    /// The network that reported it.
    pub net: String,
    /// The line of the file.
    #[serde(skip)]
    pub line: String,
}

impl Quake {
    /// Whether an alert must come of it.
    pub fn is_strong(&self) -> bool {
        self.mag.is_some_and(|mag| mag >= STRONG)
    }
}

/// The file.
pub fn path() -> std::path::PathBuf {
    artifacts::workspace().join("tests/fixtures/earthquakes.ndjson")
}

/// All events, in the file's order.
pub fn events() -> Vec<Quake> {
    let text = fs::read_to_string(path()).expect("the fixture");
    let events: Vec<Quake> = text
        .lines()
        .map(|line| {
            let quake: Quake = serde_json::from_str(line).expect("an event");
            Quake {
                line: line.to_owned(),
                ..quake
            }
        })
        .collect();
    assert_eq!(events.len(), EVENTS);
    events
}

/// The ids of the events that an alert must come of.
pub fn strong_ids(events: &[Quake]) -> BTreeSet<String> {
    let strong = events.iter().filter(|event| event.is_strong());
    let ids: BTreeSet<_> = strong.map(|event| event.id.clone()).collect();
    assert_eq!(ids.len(), ALERTS);
    ids
}
