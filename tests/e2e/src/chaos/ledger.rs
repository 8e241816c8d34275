//! What was acknowledged and read, and how long that took to go on after a leader was killed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream::PartitionIndex;
use tokio::sync::watch;

use crate::load::Acked;

/// Who else was killed with a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Killed {
    /// It led partitions, and not the metadata quorum.
    Leader,
    /// It led both.
    MetadataLeader,
}

/// What is measured of a fail-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measured {
    /// The first record that was sent after the kill is acknowledged.
    Write,
    /// The first record that was sent after the kill is read.
    Read,
}

/// How long something took, each time.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort_unstable();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least time that so many percent of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// A fail-over that has begun: what is not written, or read, since.
#[derive(Debug)]
struct FailOver {
    killed: Killed,
    /// Anything else was wrong as well: then it is no measure.
    is_alone: bool,
    at: Instant,
    waits: Vec<(Measured, PartitionIndex)>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    acked: Vec<Acked>,
    read: u64,
    fail_overs: Vec<FailOver>,
    times: BTreeMap<(Killed, Measured), Times>,
    slowest: Vec<(Duration, String)>,
}

/// What was acknowledged and read, shared by producers and consumers.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
    /// Told of every acknowledgement and read.
    news: watch::Sender<()>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                began: Instant::now(),
                acked: Vec::new(),
                read: 0,
                fail_overs: Vec::new(),
                times: BTreeMap::new(),
                slowest: Vec::new(),
            }),
            news: watch::Sender::new(()),
        }
    }
}

impl Ledger {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was acknowledged that was sent at this time.
    pub fn acked(&self, acked: Acked, sent: Instant) {
        let mut inner = self.inner();
        inner.acked.push(acked);
        inner.goes_on(Measured::Write, acked.partition, sent);
        drop(inner);
        self.news.send_replace(());
    }

    /// A record was read that was sent at this time.
    pub fn read(&self, partition: PartitionIndex, sent: Instant) {
        let mut inner = self.inner();
        inner.read += 1;
        inner.goes_on(Measured::Read, partition, sent);
        drop(inner);
        self.news.send_replace(());
    }

    /// The leader of these partitions was killed.
    pub fn killed(&self, killed: Killed, is_alone: bool, at: Instant, led: &[PartitionIndex]) {
        let waits = [Measured::Write, Measured::Read].into_iter();
        let waits = waits.flat_map(|what| led.iter().map(move |partition| (what, *partition)));
        let fail_over = FailOver {
            killed,
            is_alone,
            at,
            waits: waits.collect(),
        };
        self.inner().fail_overs.push(fail_over);
    }

    /// Something else goes wrong from now on: fail-overs under way are no measure.
    pub fn is_disturbed(&self) {
        let mut inner = self.inner();
        let under_way = inner.fail_overs.iter_mut();
        under_way.for_each(|it| it.is_alone = false);
    }

    /// Waits until every partition that has lost its leader was written, and read, again.
    pub async fn went_on(&self) {
        self.until(|inner| inner.fail_overs.is_empty()).await;
    }

    /// Waits until so many records are acknowledged in all.
    pub async fn has_acked(&self, records: usize) {
        self.until(|inner| inner.acked.len() >= records).await;
    }

    async fn until(&self, holds: impl Fn(&Inner) -> bool) {
        let mut news = self.news.subscribe();
        while !holds(&self.inner()) {
            // The sender lives as long as `self`.
            let _ = news.changed().await;
        }
    }

    /// How many records are acknowledged, and how many are read.
    pub fn counts(&self) -> (usize, u64) {
        let inner = self.inner();
        (inner.acked.len(), inner.read)
    }

    /// What has not gone on, for a person.
    pub fn stuck(&self) -> String {
        let inner = self.inner();
        let waits = inner.fail_overs.iter().map(|it| &it.waits);
        format!("{:?}", waits.collect::<Vec<_>>())
    }

    /// All that was acknowledged.
    pub fn all_acked(&self) -> Vec<Acked> {
        self.inner().acked.clone()
    }

    /// How long fail-overs took of which nothing else was wrong.
    pub fn times(&self) -> BTreeMap<(Killed, Measured), Times> {
        self.inner().times.clone()
    }

    /// The slowest of them, the longest first.
    pub fn slowest(&self) -> Vec<(Duration, String)> {
        let mut slowest = self.inner().slowest.clone();
        slowest.sort_by_key(|it| std::cmp::Reverse(it.0));
        slowest.truncate(5);
        slowest
    }
}

impl Inner {
    fn goes_on(&mut self, what: Measured, partition: PartitionIndex, sent: Instant) {
        if self.fail_overs.is_empty() {
            return;
        }
        let (times, slowest) = (&mut self.times, &mut self.slowest);
        self.fail_overs.retain_mut(|it| {
            let before = it.waits.len();
            if sent > it.at {
                it.waits.retain(|wait| *wait != (what, partition));
            }
            if it.waits.len() < before && it.is_alone {
                let took = it.at.elapsed();
                times.entry((it.killed, what)).or_default().push(took);
                let at = it.at.duration_since(self.began).as_secs_f64();
                slowest.push((
                    took,
                    format!(
                        "{:?} {what:?} of {partition}, killed at {at:.2} s",
                        it.killed
                    ),
                ));
            }
            !it.waits.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Number;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let mut times = Times::default();
        assert_eq!(times.percentile(99), Duration::ZERO);
        for ms in (1..=200).rev() {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(times.percentile(50), Duration::from_millis(100));
        assert_eq!(times.percentile(99), Duration::from_millis(198));
        assert_eq!(
            (times.max(), times.len()),
            (Duration::from_millis(200), 200)
        );
    }

    #[test]
    fn a_fail_over_ends_with_what_was_sent_after_it() {
        let ledger = Ledger::default();
        let before = Instant::now();
        let number = Number {
            producer: 0,
            index: 0,
        };
        let acked = |partition| Acked {
            number,
            partition,
            offset: 0,
        };
        ledger.killed(Killed::Leader, true, before, &[1]);
        let after = before + Duration::from_nanos(1);
        ledger.acked(acked(1), before);
        ledger.acked(acked(2), after);
        assert!(ledger.times().is_empty(), "not by what was on its way");
        ledger.acked(acked(1), after);
        ledger.acked(acked(1), after);
        assert_eq!(ledger.times()[&(Killed::Leader, Measured::Write)].len(), 1);
        assert!(ledger.stuck().contains("Read"));
        ledger.is_disturbed();
        ledger.read(1, after);
        assert_eq!(ledger.times().len(), 1);
        assert_eq!(ledger.stuck(), "[]");
    }
}
