//! Figures for the operator: counters and gauges.
//!
//! They belong to the instance and begin anew with it. They tell what was done, not what came of it:
//! records that are handled again are counted again. What must be right belongs to
//! [`state`](crate::state) or to an output.
//!
//! A name has 1 to 64 bytes: ASCII letters, digits and `_`, the first a letter. It is that of a counter
//! or of a gauge. A worker has at most 128. What breaks one of these rules is dropped, and the log
//! tells of it.
//!
//! ```
//! use millstream_plugin::testing::{self, Metric};
//! use millstream_plugin::metrics;
//!
//! metrics::counter_add("alerts", 1);
//! metrics::counter_add("alerts", 1);
//! metrics::gauge_set("last_magnitude", 4.6);
//! assert_eq!(
//!     testing::metrics(),
//!     [
//!         ("alerts".to_owned(), Metric::Counter(2)),
//!         ("last_magnitude".to_owned(), Metric::Gauge(4.6)),
//!     ]
//! );
//! ```
//!
//! Natively, they are in memory, for each thread its own: see
//! [`testing::metrics`](crate::testing::metrics). The rules of names are the host's, and not checked
//! there.

/// Adds to a counter, which begins at 0.
pub fn counter_add(name: &str, delta: u64) {
    backend::counter_add(name, delta);
}

/// Sets a gauge. What is not a finite number is dropped.
pub fn gauge_set(name: &str, value: f64) {
    backend::gauge_set(name, value);
}

#[cfg(target_arch = "wasm32")]
use crate::bindings::millstream::plugin::metrics as backend;
#[cfg(not(target_arch = "wasm32"))]
use memory as backend;

/// What a handler has measured when it runs natively.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use crate::testing::Metric;

    thread_local! {
        static VALUES: RefCell<BTreeMap<String, Metric>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn counter_add(name: &str, delta: u64) {
        change(name, Metric::Counter(0), |metric| {
            if let Metric::Counter(count) = metric {
                *count = count.saturating_add(delta);
            }
        });
    }

    pub(super) fn gauge_set(name: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        change(name, Metric::Gauge(value), |metric| {
            if let Metric::Gauge(current) = metric {
                *current = value;
            }
        });
    }

    fn change(name: &str, first: Metric, change: impl FnOnce(&mut Metric)) {
        VALUES.with_borrow_mut(|values| change(values.entry(name.to_owned()).or_insert(first)));
    }

    /// Names and values, in the order of the names.
    pub(crate) fn list() -> Vec<(String, Metric)> {
        let copy = |(name, metric): (&String, &Metric)| (name.clone(), *metric);
        VALUES.with_borrow(|values| values.iter().map(copy).collect())
    }

    /// Forgets all.
    pub(crate) fn clear() {
        VALUES.with_borrow_mut(BTreeMap::clear);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{self, Metric};

    #[test]
    fn a_name_stays_what_it_was_first() {
        testing::clear_metrics();
        super::counter_add("seen", 1);
        super::gauge_set("seen", 5.0);
        super::gauge_set("depth", 1.0);
        super::gauge_set("depth", f64::NAN);
        super::counter_add("depth", 1);
        let expect = [
            ("depth".to_owned(), Metric::Gauge(1.0)),
            ("seen".to_owned(), Metric::Counter(1)),
        ];
        assert_eq!(testing::metrics(), expect);
    }
}
