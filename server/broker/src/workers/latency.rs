//! How long calls of a guest took, and how many records pass in a second: figures of a fixed size,
//! however long a worker runs.

use std::time::{Duration, Instant};

use millstream_protocol::api::metrics::CallLatency;
use serde::{Deserialize, Serialize};

/// Steps to each doubling of a time: a figure is at most an eighth too much.
const STEPS: u64 = 8;

/// Doublings that are told apart: from 8 microseconds to more than a day.
const DOUBLINGS: usize = 34;

const BUCKETS: usize = STEPS as usize * (DOUBLINGS + 1);

/// A histogram of times, in steps that grow with them. Without a call it takes no memory to speak
/// of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "Counted", try_from = "Counted")]
pub(crate) struct Latencies {
    buckets: Option<Box<[u32; BUCKETS]>>,
    calls: u64,
}

/// The same, as another broker is told: only buckets that have something in them, by number.
#[derive(Serialize, Deserialize)]
struct Counted {
    buckets: Vec<(u16, u32)>,
    calls: u64,
}

impl From<Latencies> for Counted {
    fn from(latencies: Latencies) -> Self {
        let buckets = latencies.buckets.iter().flat_map(|buckets| buckets.iter());
        let counted = (0..).zip(buckets.copied()).filter(|(_, count)| *count > 0);
        Self {
            buckets: counted.collect(),
            calls: latencies.calls,
        }
    }
}

impl TryFrom<Counted> for Latencies {
    type Error = String;

    fn try_from(counted: Counted) -> Result<Self, String> {
        let mut latencies = Self {
            buckets: (!counted.buckets.is_empty()).then(|| Box::new([0; BUCKETS])),
            calls: counted.calls,
        };
        for (number, count) in counted.buckets {
            let buckets = latencies.buckets.as_deref_mut();
            let bucket = buckets.and_then(|it| it.get_mut(usize::from(number)));
            *bucket.ok_or_else(|| format!("there is no bucket {number}"))? = count;
        }
        Ok(latencies)
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        let buckets = self.buckets.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let count = &mut buckets[bucket_of(micros(took))];
        *count = count.saturating_add(1);
        self.calls += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let Some(others) = &other.buckets else {
            return;
        };
        let buckets = self.buckets.get_or_insert_with(|| Box::new([0; BUCKETS]));
        for (count, other) in buckets.iter_mut().zip(others.iter()) {
            *count = count.saturating_add(*other);
        }
        self.calls += other.calls;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// The figures; none before the first call.
    pub(crate) fn figures(&self) -> Option<CallLatency> {
        let buckets = self.buckets.as_deref()?;
        let all: u64 = buckets.iter().map(|count| u64::from(*count)).sum();
        let within = |percent: u64| {
            let wanted = (all * percent).div_ceil(100);
            let mut seen = 0;
            let bucket = buckets.iter().position(|count| {
                seen += u64::from(*count);
                seen >= wanted
            });
            longest_of(bucket.unwrap_or(BUCKETS - 1))
        };
        Some(CallLatency {
            p50_us: within(50),
            p99_us: within(99),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The first buckets are a microsecond wide, the next as many two, the next four, and so on.
fn bucket_of(us: u64) -> usize {
    let doublings = (us / STEPS).checked_ilog2().map_or(0, |it| it + 1);
    let width = doublings.saturating_sub(1);
    let step = (us >> width) % STEPS;
    (doublings as usize * STEPS as usize + step as usize).min(BUCKETS - 1)
}

/// The longest time that falls into a bucket, microseconds.
fn longest_of(bucket: usize) -> u64 {
    let (doublings, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match doublings.checked_sub(1) {
        None => step,
        Some(width) => ((STEPS + step + 1) << width) - 1,
    }
}

/// How fast a rate follows what happens.
const MEMORY: Duration = Duration::from_secs(10);

/// How many things happen in a second, of late: each counts less the longer ago it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    weight: f64,
    since: Option<(Instant, Instant)>,
}

impl Rate {
    pub(crate) fn add(&mut self, count: u64, now: Instant) {
        let first = self.since.map_or(now, |(first, _)| first);
        self.weight = self.faded(now) + count as f64;
        self.since = Some((first, now));
    }

    pub(crate) fn per_second(&self, now: Instant) -> u64 {
        let Some((first, _)) = self.since else {
            return 0;
        };
        // A young rate has not seen what it could forget; one second is the least it looks at.
        let age = now.duration_since(first).max(Duration::from_secs(1));
        let seen = 1.0 - (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        (self.faded(now) / (MEMORY.as_secs_f64() * seen)).round() as u64
    }

    fn faded(&self, now: Instant) -> f64 {
        let Some((_, last)) = self.since else {
            return 0.0;
        };
        let passed = now.duration_since(last).as_secs_f64();
        self.weight * (-passed / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_bucket_that_is_an_eighth_too_wide_at_most() {
        for us in (0..4_096).chain([65_535, 65_536, 1_000_000, 60_000_000, 3_600_000_000]) {
            let longest = longest_of(bucket_of(us));
            assert!(
                us <= longest && longest <= us + us / STEPS,
                "{us}: {longest}"
            );
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn figures_are_those_of_the_calls() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.figures(), None);
        for _ in 0..98 {
            latencies.add(Duration::from_micros(7));
        }
        latencies.add(Duration::from_millis(1));
        let mut slow = Latencies::default();
        slow.add(Duration::from_secs(1));
        latencies.merge(&slow);
        let figures = latencies.figures().expect("figures");
        assert_eq!((latencies.calls(), figures.p50_us), (100, 7));
        assert!((1_000..=1_125).contains(&figures.p99_us), "{figures:?}");
    }

    #[test]
    fn a_rate_is_right_from_the_start_and_forgets() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(start), 0);
        for second in 0..60 {
            rate.add(100, at(second));
            if second > 2 {
                let found = rate.per_second(at(second + 1));
                assert!((90..=110).contains(&found), "{second}: {found}");
            }
        }
        assert_eq!(rate.per_second(at(300)), 0);
    }
}
