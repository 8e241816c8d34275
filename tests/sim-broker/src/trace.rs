//! What has happened in a run, in order, as one number; and line by line where somebody wants to see it.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A run's events.
#[derive(Debug, Default)]
pub struct Trace {
    inner: Mutex<Inner>,
    /// Whether they are printed.
    is_shown: bool,
}

#[derive(Debug, Default)]
struct Inner {
    events: u64,
    hasher: DefaultHasher,
}

/// Two runs with the same are the same, as far as can be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many events there were.
    pub events: u64,
    /// Of all of them, with their times.
    pub hash: u64,
}

impl Trace {
    /// None yet.
    pub fn new(is_shown: bool) -> Self {
        Self {
            is_shown,
            ..Self::default()
        }
    }

    /// Something has happened, at this time of the simulation.
    pub fn event(&self, what: fmt::Arguments<'_>) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.event_at(at, what);
    }

    /// The same, outside of the simulation's hosts.
    pub fn event_at(&self, at: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}", at.as_secs_f64());
        if self.is_shown {
            println!("{line}");
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.events += 1;
        inner.hasher.write(line.as_bytes());
    }

    /// Of what has happened so far.
    pub fn fingerprint(&self) -> Fingerprint {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Fingerprint {
            events: inner.events,
            hash: inner.hasher.finish(),
        }
    }
}
