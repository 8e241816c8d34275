//! A worker's state.

use std::sync::Arc;

use millstream_protocol::{Offset, TopicPartition};
use parking_lot::RwLock;

use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateFull};
use crate::file::View;
use crate::flush::Flush;
use crate::layers::{Layers, Visitor};
use crate::limits::MIN_FLUSH_BYTES;
use crate::overlay::{Overlay, entry_bytes};
use crate::snapshot::Snapshot;
use crate::states::States;

/// A moment that a state is that of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandsFor {
    /// Every change of the journal below it is in the state.
    pub journal_offset: Offset,
    /// The first input record that the worker was not done with then.
    pub input_offset: Offset,
}

/// By how much changes make a state grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// By what they take, at most: what they replace in the file was not looked up.
    AtMost,
    /// By so many bytes.
    Exactly(i64),
}

/// Whether changes may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They may: tell [`Store::apply`] by how much they grow.
    Yes(Growth),
    /// It is not known before everything in memory is in the file. Ask again then.
    AfterFlush,
    /// They may not.
    No(StateFull),
}

/// The growth by what is in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grown {
    bytes: i64,
    /// It may be less: what is replaced in the file was not looked up.
    is_estimate: bool,
}

impl Grown {
    /// Adds a change of a key: the sizes of its value, if it has one, and of what it had before, if
    /// that is known.
    pub(crate) fn add(
        &mut self,
        key_bytes: usize,
        value_bytes: Option<usize>,
        before: Option<Option<usize>>,
    ) {
        let size = |value: Option<usize>| value.map_or(0, |it| entry_bytes(key_bytes, it) as i64);
        self.is_estimate |= before.is_none();
        self.bytes += size(value_bytes) - size(before.flatten());
    }
}

/// The state of one worker: what the calls that count have left.
pub struct Store {
    pub(crate) states: Arc<States>,
    pub(crate) journal: TopicPartition,
    limit_bytes: u64,
    inner: RwLock<Inner>,
}

struct Inner {
    layers: Layers,
    stands_for: StandsFor,
    /// By the active overlay, and by the frozen one.
    grown: Grown,
    frozen_grown: Grown,
}

impl Inner {
    /// What the state takes, at most.
    fn bytes(&self) -> i64 {
        let stored = self.layers.stored.as_ref();
        let stored = stored.map_or(0, |stored| stored.stamp.size.bytes);
        stored as i64 + self.grown.bytes + self.frozen_grown.bytes
    }

    fn is_estimate(&self) -> bool {
        self.grown.is_estimate || self.frozen_grown.is_estimate
    }

    /// The size of a key's value, as far as it is known without the file.
    fn known_bytes(&self, key: &[u8]) -> Option<Option<usize>> {
        match self.layers.changed(key) {
            Some(changed) => Some(changed.map(<[u8]>::len)),
            None if self.layers.stored.is_none() => Some(None),
            None => None,
        }
    }
}

impl Store {
    pub(crate) fn new(
        states: Arc<States>,
        journal: TopicPartition,
        limit_bytes: u64,
        stands_for: StandsFor,
        (overlay, grown): (Overlay, Grown),
        stored: Option<Arc<View>>,
    ) -> Self {
        states.note(overlay.bytes() as isize);
        let layers = Layers {
            active: Arc::new(overlay),
            frozen: None,
            stored,
        };
        Self {
            states,
            journal,
            limit_bytes,
            inner: RwLock::new(Inner {
                layers,
                stands_for,
                grown,
                frozen_grown: Grown::default(),
            }),
        }
    }

    /// The value of a key, if it has one. May block on the disk, which holds nobody else up.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let stored = {
            let layers = &self.inner.read().layers;
            if let Some(changed) = layers.changed(key) {
                return Ok(changed.map(<[u8]>::to_vec));
            }
            layers.stored.clone()
        };
        stored.map_or(Ok(None), |stored| stored.get(key))
    }

    /// Visits the keys that begin with `prefix` and are greater than `after`, each with its value,
    /// in the order of the keys' bytes, until the visitor breaks off. May block on the disk;
    /// meanwhile nothing is applied.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StateError> {
        self.inner.read().layers.scan(prefix, after, visit)
    }

    /// Whether changes may be made that take so many bytes, without a look at what they replace. If
    /// not, [`Self::admission`] says more.
    pub fn admits(&self, bytes: usize) -> bool {
        bytes == 0 || self.inner.read().bytes() + bytes as i64 <= self.limit()
    }

    /// Whether changes may be made: those that let the state shrink always. May block on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn admission<'a>(
        &self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<Admission, StateError> {
        let inner = self.inner.read();
        let mut growth = Grown::default();
        for (key, value) in changes {
            let before = match (inner.known_bytes(key), &inner.layers.stored) {
                (None, Some(stored)) => stored.value_bytes(key)?,
                (known, _) => known.flatten(),
            };
            growth.add(key.len(), value.map(<[u8]>::len), Some(before));
        }
        Ok(
            if growth.bytes <= 0 || inner.bytes() + growth.bytes <= self.limit() {
                Admission::Yes(Growth::Exactly(growth.bytes))
            } else if inner.is_estimate() {
                Admission::AfterFlush
            } else {
                Admission::No(StateFull {
                    limit: self.limit_bytes,
                })
            },
        )
    }

    /// Makes the changes of a commit that counts. The state is that of this moment then.
    pub fn apply(
        &self,
        changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
        growth: Growth,
        stands_for: StandsFor,
    ) {
        let mut inner = self.inner.write();
        let Inner { layers, grown, .. } = &mut *inner;
        let bytes_before = layers.active.bytes();
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_some() {
            // A snapshot that is being read keeps what it has.
            let active = Arc::make_mut(&mut layers.active);
            let mut estimate = *grown;
            for (key, value) in changes {
                let frozen = || {
                    let frozen = layers.frozen.as_ref()?.get(&key)?;
                    Some(frozen.map(<[u8]>::len))
                };
                let elsewhere = match frozen() {
                    None if layers.stored.is_none() => Some(None),
                    frozen => frozen,
                };
                let (key_bytes, value_bytes) = (key.len(), value.as_ref().map(Vec::len));
                let before = active.set(key, value).or(elsewhere);
                estimate.add(key_bytes, value_bytes, before);
            }
            match growth {
                Growth::AtMost => *grown = estimate,
                Growth::Exactly(bytes) => grown.bytes += bytes,
            }
        }
        let change = inner.layers.active.bytes() as isize - bytes_before as isize;
        inner.stands_for = stands_for;
        drop(inner);
        self.states.note(change);
    }

    /// Whether so much is in memory that it is to be written.
    pub fn wants_flush(&self) -> bool {
        let bytes = self.inner.read().layers.active.bytes();
        let config = &self.states.config;
        let pressed = || self.states.in_memory_bytes() > config.memory_bytes;
        bytes >= config.overlay_bytes || (self.is_worth_a_flush() && pressed())
    }

    /// Whether so much is in memory that it is written when the memory of all stores is short.
    pub fn is_worth_a_flush(&self) -> bool {
        self.inner.read().layers.active.bytes() >= MIN_FLUSH_BYTES
    }

    /// Whether there is a file that lacks changes.
    pub fn is_behind(&self) -> bool {
        let inner = self.inner.read();
        let stored = inner.layers.stored.as_ref();
        stored.is_some_and(|stored| stored.stamp.stands_for() != inner.stands_for)
    }

    /// Sets aside what is in memory, to be written to the file as the state at a checkpoint, which is
    /// the moment that the state is that of now. `None` while another flush has not succeeded.
    pub fn begin_flush(self: &Arc<Self>, checkpoint: Checkpoint) -> Option<Flush> {
        let mut inner = self.inner.write();
        if inner.layers.frozen.is_some() {
            return None;
        }
        debug_assert_eq!(checkpoint.stands_for, inner.stands_for);
        let overlay = std::mem::take(&mut inner.layers.active);
        inner.layers.frozen = Some(Arc::clone(&overlay));
        inner.frozen_grown = std::mem::take(&mut inner.grown);
        let stored = inner.layers.stored.clone();
        drop(inner);
        Some(Flush::new(Arc::clone(self), overlay, checkpoint, stored))
    }

    /// What was set aside is in the file.
    pub(crate) fn flushed(&self, view: View) {
        let mut inner = self.inner.write();
        let frozen = inner.layers.frozen.take();
        inner.frozen_grown = Grown::default();
        inner.layers.stored = Some(Arc::new(view));
        drop(inner);
        let bytes = frozen.map_or(0, |frozen| frozen.bytes());
        self.states.note(-(bytes as isize));
    }

    /// The state as it is now. It keeps what is written over from being freed, in memory and in
    /// the file: do not keep it for long.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.inner.read();
        Snapshot::new(inner.layers.clone(), inner.stands_for)
    }

    /// What the state takes, at most, bytes: its keys and values, and some for each entry.
    pub fn size_bytes(&self) -> u64 {
        u64::try_from(self.inner.read().bytes()).unwrap_or(0)
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.limit_bytes).unwrap_or(i64::MAX)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let layers = &self.inner.get_mut().layers;
        let frozen = layers.frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        let bytes = layers.active.bytes() + frozen;
        self.states.note(-(bytes as isize));
    }
}
