//! One table, as those see it who look it up.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_protocol::api::plugin::{TableDescription, TableState};
use millstream_protocol::partitioner::Partitioner;
use millstream_protocol::{Offset, TopicId, TopicPartition, WireError};
use millstream_runtime::{TableReadError, TableReader};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::Setting;
use super::part::Part;
use super::source::{Mirror, Source};

/// Why a worker cannot go on.
#[derive(Clone, Debug)]
pub(crate) enum TableTrouble {
    /// A table takes more than it may, and comes back when somebody wants to try it again.
    TooLarge(String),
    /// It cannot be read; it is tried again by itself.
    Failed(String),
}

/// A compacted topic by its keys.
pub(crate) struct Table {
    pub(super) topic_id: TopicId,
    pub(super) topic: String,
    pub(super) setting: Arc<Setting>,
    /// Of the partitions that are not kept here.
    mirrors: Mutex<HashMap<TopicPartition, Arc<Mirror>>>,
    /// By partition; none while it cannot be looked up in.
    parts: RwLock<Option<Arc<[Arc<Part>]>>>,
    /// Told with every step of a part as well.
    state: watch::Sender<TableState>,
    /// Wakes the follower.
    pub(super) wake: Notify,
    /// A file turned out to be unreadable in the midst of a lookup.
    pub(super) broken: AtomicBool,
}

impl Table {
    pub(super) fn new(topic_id: TopicId, topic: String, setting: Arc<Setting>) -> Self {
        Self {
            topic_id,
            topic,
            setting,
            mirrors: Mutex::default(),
            parts: RwLock::default(),
            state: watch::Sender::new(TableState::Loading),
            wake: Notify::new(),
            broken: AtomicBool::new(false),
        }
    }

    /// The partitions that the topic has now; none if it is gone.
    pub(super) fn partitions(&self) -> Option<Vec<Source>> {
        let leaders = &self.setting.leaders;
        let image = leaders.controller.image();
        let topic = image.topic_by_id(self.topic_id)?;
        let numbers = 0..topic.partitions.len() as u32;
        let mut mirrors = self.mirrors.lock();
        let source = |number| {
            let id = topic.at(number);
            if let Some(here) = leaders.partitions.get(id) {
                mirrors.remove(&id);
                return Source::Here(here);
            }
            let mirror = mirrors.entry(id).or_insert_with(|| {
                let (topic, leaders) = (self.topic.clone(), Arc::clone(leaders));
                Arc::new(Mirror::new(id, topic, leaders))
            });
            Source::There(Arc::clone(mirror))
        };
        Some(numbers.map(source).collect())
    }

    /// Where the partitions of the topic end now, as their leaders have it.
    async fn ends(&self) -> Result<Vec<Offset>, TableTrouble> {
        let gone = || TableTrouble::Failed(format!("topic {} is not open", self.topic));
        let mut ends = Vec::new();
        for source in self.partitions().ok_or_else(gone)? {
            ends.push(match source {
                Source::Here(partition) => partition.visible().high_watermark,
                Source::There(_) => {
                    let extent = self.setting.leaders.extent(source.id()).await;
                    let failed = |error: WireError| {
                        TableTrouble::Failed(format!("the table of topic {}: {error}", self.topic))
                    };
                    extent.map_err(failed)?.end
                }
            });
        }
        Ok(ends)
    }

    /// Shows it, or takes it away.
    pub(super) fn show(&self, parts: Option<&[Arc<Part>]>, state: TableState) {
        *self.parts.write() = parts.map(Arc::from);
        self.state.send_replace(state);
    }

    /// The parts that there are now. Whoever has them may read the disk: nobody waits for that.
    fn parts(&self) -> Option<Arc<[Arc<Part>]>> {
        self.parts.read().clone()
    }

    /// Tells those who wait that a part has come further.
    pub(super) fn moved(&self) {
        self.state.send_modify(|_| {});
    }

    /// What it takes, at most, bytes.
    pub(super) fn bytes(&self) -> u64 {
        let parts = self.parts();
        let parts = parts.iter().flat_map(|parts| parts.iter());
        parts.map(|part| part.store.size_bytes()).sum()
    }

    /// Waits until it has all that its topic has now.
    pub(super) async fn caught_up(&self) -> Result<(), TableTrouble> {
        let wanted = self.ends().await?;
        let mut state = self.state.subscribe();
        loop {
            // Not held on to: others wait for it who hold what `has` waits for.
            let now = state.borrow_and_update().clone();
            match now {
                TableState::Following if self.has(&wanted) => return Ok(()),
                // It may have been told of partitions that were added.
                TableState::Following | TableState::Loading => self.wake.notify_one(),
                TableState::TooLarge { reason } => return Err(TableTrouble::TooLarge(reason)),
                TableState::Failed { reason } => return Err(TableTrouble::Failed(reason)),
            }
            if state.changed().await.is_err() {
                return Err(TableTrouble::Failed(format!(
                    "the table of topic {} is closed",
                    self.topic
                )));
            }
        }
    }

    fn has(&self, wanted: &[Offset]) -> bool {
        let Some(parts) = self.parts() else {
            return false;
        };
        let mut both = parts.iter().zip(wanted);
        parts.len() >= wanted.len() && both.all(|(part, wanted)| part.next_offset() >= *wanted)
    }

    /// Reads it anew if it was given up for its size.
    pub(super) fn try_again(&self) {
        let given_up = self.state.send_if_modified(|state| {
            let given_up = matches!(state, TableState::TooLarge { .. });
            if given_up {
                *state = TableState::Loading;
            }
            given_up
        });
        if given_up {
            self.wake.notify_one();
        }
    }

    /// Whether it is to be read anew, after it was given up.
    pub(super) fn is_wanted_again(&self) -> bool {
        matches!(*self.state.borrow(), TableState::Loading)
    }

    pub(super) fn describe(&self, name: &str) -> TableDescription {
        let state = self.state.borrow().clone();
        let parts = self.parts();
        let sum = |figure: fn(&Part) -> u64| {
            let parts = parts.iter().flat_map(|parts| parts.iter());
            parts.map(|part| figure(part)).sum()
        };
        TableDescription {
            name: name.to_owned(),
            topic: self.topic.clone(),
            state,
            bytes: sum(|part| part.store.size_bytes()),
            lag: sum(Part::lag),
            records_read: sum(Part::records_read),
            records_ignored: sum(Part::records_ignored),
        }
    }

    fn unreadable(&self, reason: impl Into<String>) -> TableReadError {
        TableReadError {
            topic: self.topic.clone(),
            reason: reason.into(),
        }
    }
}

impl TableReader for Table {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableReadError> {
        let parts = self.parts();
        let parts = parts.as_deref().unwrap_or_default();
        let Some(count) = NonZeroU32::new(parts.len() as u32) else {
            return Err(self.unreadable("it is not read back yet"));
        };
        // Where producers put the key; and then wherever one has put it that does otherwise.
        let home = Partitioner::KeyHash.partition_for_key(key, count) as usize;
        let others = (0..parts.len()).filter(|other| *other != home);
        for number in std::iter::once(home).chain(others) {
            match parts[number].store.get(key) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => {
                    self.broken.store(true, Ordering::Release);
                    self.wake.notify_one();
                    return Err(self.unreadable(error.to_string()));
                }
            }
        }
        Ok(None)
    }
}
