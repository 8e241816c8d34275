//! The input, and what must come of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use crate::errors::{Exit, Problem};

/// The least magnitude of an alert.
pub(super) const MIN_MAGNITUDE: f64 = 4.5;

/// An event, as far as it matters here: of the input, and of an alert.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Quake {
    pub(super) id: String,
    pub(super) mag: Option<f64>,
    pub(super) net: String,
    pub(super) place: Option<String>,
}

impl Quake {
    pub(super) fn is_strong(&self) -> bool {
        self.mag.is_some_and(|mag| mag >= MIN_MAGNITUDE)
    }
}

/// The events of a file, in its order.
#[derive(Clone, Debug)]
pub(super) struct Quakes {
    path: PathBuf,
    /// Each event's id and its line.
    events: Vec<(String, String)>,
    /// The strong ones by id.
    strong: BTreeMap<String, Quake>,
}

impl Quakes {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut quakes = Self {
            path: path.to_owned(),
            events: Vec::new(),
            strong: BTreeMap::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let quake: Quake = serde_json::from_str(line)
                .with_context(|| format!("line {} of {} is no event", index + 1, path.display()))?;
            quakes.events.push((quake.id.clone(), line.to_owned()));
            if quake.is_strong() {
                quakes.strong.insert(quake.id.clone(), quake);
            }
        }
        Ok(quakes)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The events: id and line.
    pub(super) fn events(&self) -> &[(String, String)] {
        &self.events
    }

    /// How many alerts there must be.
    pub(super) fn alerts_expected(&self) -> usize {
        self.strong.len()
    }
}

/// The alerts that came, checked one by one against the input.
#[derive(Clone, Debug, Default)]
pub(super) struct Alerts {
    seen: BTreeMap<String, u64>,
    count: u64,
}

impl Alerts {
    /// Takes an alert, if it is one: strong, keyed by its network, and of an event of the input.
    pub(super) fn take(
        &mut self,
        quakes: &Quakes,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Quake, Problem> {
        let text = || String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let alert: Quake = serde_json::from_slice(value.unwrap_or_default()).map_err(|error| {
            difference(format!(
                "an alert is not JSON of an event: {error}: {}",
                text()
            ))
        })?;
        if !alert.is_strong() {
            return Err(difference(format!(
                "alert {} is weaker than {MIN_MAGNITUDE}",
                alert.id
            )));
        }
        if key != Some(alert.net.as_bytes()) {
            let key = String::from_utf8_lossy(key.unwrap_or_default()).into_owned();
            return Err(difference(format!(
                "alert {} of network {} has the key {key:?}",
                alert.id, alert.net
            )));
        }
        if quakes
            .strong
            .get(&alert.id)
            .is_none_or(|event| event.mag != alert.mag || event.net != alert.net)
        {
            return Err(difference(format!(
                "alert {} is not as the event in the input",
                alert.id
            )));
        }
        self.count += 1;
        *self.seen.entry(alert.id.clone()).or_default() += 1;
        Ok(alert)
    }

    /// Alerts taken, duplicates too.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Is every alert there that must be?
    pub(super) fn are_complete(&self, quakes: &Quakes) -> bool {
        self.seen.len() == quakes.alerts_expected()
    }

    /// Did each come exactly once?
    pub(super) fn verify(&self, quakes: &Quakes) -> Result<(), Problem> {
        if let Some(missing) = quakes.strong.keys().find(|id| !self.seen.contains_key(*id)) {
            return Err(difference(format!("there is no alert of event {missing}")));
        }
        match self.seen.iter().find(|(_, times)| **times > 1) {
            Some((id, times)) => Err(difference(format!(
                "the alert of event {id} came {times} times"
            ))),
            None => Ok(()),
        }
    }
}

/// A verification found a difference.
pub(super) fn difference(message: String) -> Problem {
    Problem::new(Exit::Damaged, message)
        .advise("this is a fault of the program's own: please report it with this output")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quakes(text: &str) -> Quakes {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.ndjson");
        fs::write(&path, text).unwrap();
        Quakes::read(&path).unwrap()
    }

    const INPUT: &str = r#"{"id":"a","mag":4.5,"net":"us","place":"x","felt":3}
{"id":"b","mag":4.4,"net":"us","place":null}
{"id":"c","mag":null,"net":"ak","place":"y"}
{"id":"d","mag":6.1,"net":"ak","place":"y"}
"#;

    #[test]
    fn the_input_is_as_its_origin_says() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/earthquakes.ndjson");
        let quakes = Quakes::read(&path).unwrap();
        assert_eq!(
            (quakes.events().len(), quakes.alerts_expected()),
            (1_707, 85)
        );
    }

    #[test]
    fn every_strong_event_once_is_right() {
        let quakes = quakes(INPUT);
        let mut alerts = Alerts::default();
        alerts
            .take(
                &quakes,
                Some(b"us"),
                Some(br#"{"id":"a","mag":4.5,"net":"us"}"#),
            )
            .unwrap();
        assert!(!alerts.are_complete(&quakes));
        insta::assert_snapshot!(alerts.verify(&quakes).unwrap_err(), @"there is no alert of event d");
        alerts
            .take(
                &quakes,
                Some(b"ak"),
                Some(br#"{"id":"d","mag":6.1,"net":"ak"}"#),
            )
            .unwrap();
        assert!(alerts.are_complete(&quakes));
        alerts.verify(&quakes).unwrap();
        alerts
            .take(
                &quakes,
                Some(b"ak"),
                Some(br#"{"id":"d","mag":6.1,"net":"ak"}"#),
            )
            .unwrap();
        insta::assert_snapshot!(alerts.verify(&quakes).unwrap_err(), @"the alert of event d came 2 times");
        assert_eq!(alerts.count(), 3);
    }

    #[test]
    fn what_is_no_alert_is_named() {
        let quakes = quakes(INPUT);
        let fault = |key: &[u8], value: &str| {
            Alerts::default()
                .take(&quakes, Some(key), Some(value.as_bytes()))
                .unwrap_err()
                .to_string()
        };
        insta::assert_snapshot!(fault(b"us", "{"), @"an alert is not JSON of an event: EOF while parsing an object at line 1 column 1: {");
        insta::assert_snapshot!(fault(b"us", r#"{"id":"b","mag":4.4,"net":"us"}"#), @"alert b is weaker than 4.5");
        insta::assert_snapshot!(fault(b"ak", r#"{"id":"a","mag":4.5,"net":"us"}"#), @r#"alert a of network us has the key "ak""#);
        insta::assert_snapshot!(fault(b"us", r#"{"id":"a","mag":4.6,"net":"us"}"#), @"alert a is not as the event in the input");
        insta::assert_snapshot!(fault(b"us", r#"{"id":"e","mag":5.0,"net":"us"}"#), @"alert e is not as the event in the input");
    }
}
