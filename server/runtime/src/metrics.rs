//! What a guest measures: a bounded table of counters and gauges. And what it was seen to ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names that one worker may use.
pub const MAX_METRICS: usize = 128;

/// A name, bytes.
pub const MAX_METRIC_NAME_BYTES: usize = 64;

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// It only rises, from 0 when the worker starts.
    Counter(u64),
    /// The value last set. Finite.
    Gauge(f64),
}

/// What a worker's guest has measured. Its instances come and go; this stays, and the next one
/// measures on in it.
#[derive(Default)]
pub struct GuestMetrics(Mutex<Metrics>);

impl GuestMetrics {
    /// Names and values, in the order of the names. Also what a call measured that then failed.
    pub fn list(&self) -> Vec<(String, Metric)> {
        self.lock().list()
    }

    /// Measurements dropped because they broke a rule.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped()
    }

    /// Those keys of a configuration that no instance has asked for. None as long as that says nothing: once
    /// all of it was read at once.
    pub fn unasked<'a>(&self, config: &'a [(String, String)]) -> Vec<&'a str> {
        let measured = self.lock();
        if measured.has_read_all {
            return Vec::new();
        }
        let keys = config.iter().map(|(key, _)| key.as_str());
        keys.filter(|key| !measured.asked.contains(*key)).collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Metrics> {
        // Measuring leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for GuestMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.list()).finish()
    }
}

/// The measurements of one worker.
#[derive(Default)]
pub(crate) struct Metrics {
    values: BTreeMap<String, Metric>,
    dropped: u64,
    /// Keys of the configuration, and no others.
    asked: BTreeSet<String>,
    has_read_all: bool,
}

/// Why a measurement was dropped: the end of a sentence.
pub(crate) type Dropped = &'static str;

impl Metrics {
    /// The guest was told the value of this key.
    pub(crate) fn asked_for(&mut self, key: &str) {
        if !self.asked.contains(key) {
            self.asked.insert(key.to_owned());
        }
    }

    /// The guest was told the whole configuration.
    pub(crate) fn read_all(&mut self) {
        self.has_read_all = true;
    }

    pub(crate) fn counter_add(&mut self, name: &str, delta: u64) -> Result<(), Dropped> {
        let added = match self.values.get_mut(name) {
            Some(Metric::Counter(count)) => {
                *count = count.saturating_add(delta);
                Ok(())
            }
            Some(Metric::Gauge(_)) => Err("it is a gauge"),
            None => self.begin(name, Metric::Counter(delta)),
        };
        self.count(added)
    }

    pub(crate) fn gauge_set(&mut self, name: &str, value: f64) -> Result<(), Dropped> {
        let set = match self.values.get_mut(name) {
            _ if !value.is_finite() => Err("its value is not a finite number"),
            Some(Metric::Gauge(current)) => {
                *current = value;
                Ok(())
            }
            Some(Metric::Counter(_)) => Err("it is a counter"),
            None => self.begin(name, Metric::Gauge(value)),
        };
        self.count(set)
    }

    /// Takes a new name, and its first value.
    fn begin(&mut self, name: &str, first: Metric) -> Result<(), Dropped> {
        check_name(name)?;
        if self.values.len() >= MAX_METRICS {
            return Err("there are too many names");
        }
        self.values.insert(name.to_owned(), first);
        Ok(())
    }

    fn count(&mut self, done: Result<(), Dropped>) -> Result<(), Dropped> {
        self.dropped += u64::from(done.is_err());
        done
    }

    fn list(&self) -> Vec<(String, Metric)> {
        let copy = |(name, metric): (&String, &Metric)| (name.clone(), *metric);
        self.values.iter().map(copy).collect()
    }

    /// How many measurements were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Names are what every system of metrics takes.
fn check_name(name: &str) -> Result<(), Dropped> {
    if name.len() > MAX_METRIC_NAME_BYTES {
        return Err("its name is too long");
    }
    let first_is_letter = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest_is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !(first_is_letter && rest_is_plain) {
        return Err("its name is not of letters, digits and `_`, the first a letter");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_rise_and_gauges_are_set() {
        let mut metrics = Metrics::default();
        metrics.counter_add("seen", 2).unwrap();
        metrics.counter_add("seen", 3).unwrap();
        metrics.gauge_set("depth_km", 10.5).unwrap();
        metrics.gauge_set("depth_km", -1.0).unwrap();
        metrics.counter_add("all", u64::MAX).unwrap();
        metrics.counter_add("all", 1).unwrap();
        let expect = [
            ("all".to_owned(), Metric::Counter(u64::MAX)),
            ("depth_km".to_owned(), Metric::Gauge(-1.0)),
            ("seen".to_owned(), Metric::Counter(5)),
        ];
        assert_eq!(metrics.list(), expect);
        assert_eq!(metrics.dropped(), 0);
    }

    #[test]
    fn what_breaks_a_rule_is_dropped_and_counted() {
        let mut metrics = Metrics::default();
        metrics.counter_add("seen", 1).unwrap();
        metrics.gauge_set("depth", 1.0).unwrap();
        let before = metrics.list();
        let long = "n".repeat(MAX_METRIC_NAME_BYTES + 1);
        for name in ["", "1st", "_", "a-b", "größe", "a b", "a\n", &long] {
            metrics.counter_add(name, 1).unwrap_err();
        }
        assert_eq!(metrics.gauge_set("seen", 1.0), Err("it is a counter"));
        assert_eq!(metrics.counter_add("depth", 1), Err("it is a gauge"));
        metrics.gauge_set("depth", f64::NAN).unwrap_err();
        metrics.gauge_set("depth", f64::INFINITY).unwrap_err();
        assert_eq!(metrics.list(), before);
        assert_eq!(metrics.dropped(), 12);
        metrics.counter_add(&long[1..], 1).unwrap();
    }

    #[test]
    fn names_are_limited() {
        let mut metrics = Metrics::default();
        for number in 0..MAX_METRICS {
            metrics.counter_add(&format!("n{number}"), 1).unwrap();
        }
        let expect = Err("there are too many names");
        assert_eq!(metrics.counter_add("more", 1), expect);
        metrics.counter_add("n0", 1).unwrap();
        assert_eq!(metrics.list().len(), MAX_METRICS);
    }
}
