//! A store that is being read back from its file and from the rest of its journal.

use std::sync::Arc;

use millstream_protocol::{Offset, TopicPartition};

use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::file::{Change, View};
use crate::overlay::Overlay;
use crate::states::States;
use crate::store::{Grown, StandsFor, Store};

/// A store that is being read back.
pub struct Loading {
    states: Arc<States>,
    journal: TopicPartition,
    limit_bytes: u64,
    stored: Option<(View, Checkpoint)>,
    overlay: Overlay,
    grown: Grown,
    /// What did not fit into memory. It counts when everything is read.
    change: Option<Change>,
}

impl Loading {
    pub(crate) fn new(
        states: Arc<States>,
        journal: TopicPartition,
        stored: Option<View>,
        limit_bytes: u64,
    ) -> Result<Self, StateError> {
        let stored = stored.map(|view| {
            let checkpoint = view.checkpoint()?;
            Ok((view, checkpoint))
        });
        Ok(Self {
            states,
            journal,
            limit_bytes,
            stored: stored.transpose()?,
            overlay: Overlay::default(),
            grown: Grown::default(),
            change: None,
        })
    }

    /// What the file holds; `None` when the whole journal is to be read.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.stored.as_ref().map(|(_, checkpoint)| checkpoint)
    }

    /// Takes a change of the state that lies in the journal at an offset. One that the file holds
    /// already changes nothing. May block on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn set(
        &mut self,
        offset: Offset,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let held = |checkpoint: &Checkpoint| offset < checkpoint.stands_for.journal_offset;
        if self.checkpoint().is_some_and(held) {
            return Ok(());
        }
        let before = self.overlay.set(key.to_vec(), value.map(<[u8]>::to_vec));
        let elsewhere = if self.is_alone() { Some(None) } else { None };
        self.grown
            .add(key.len(), value.map(<[u8]>::len), before.or(elsewhere));
        let config = &self.states.config;
        let bound = match self.stored {
            Some(_) => config.overlay_bytes,
            None => config.loading_bytes,
        };
        if self.overlay.bytes() >= bound {
            self.spill()?;
        }
        Ok(())
    }

    /// Everything is read: the store, as the state at a checkpoint, of which more than the moment is
    /// asked for only if it is written. May block on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(
        mut self,
        stands_for: StandsFor,
        checkpoint: impl FnOnce() -> Checkpoint,
    ) -> Result<Store, StateError> {
        let too_much = self.overlay.bytes() >= self.states.config.overlay_bytes;
        if self.change.is_some() || too_much {
            self.spill()?;
        }
        let stored = match self.change.take() {
            Some(change) => Some(change.commit(&checkpoint())?),
            None => self.stored.take().map(|(view, _)| view),
        };
        Ok(Store::new(
            self.states,
            self.journal,
            self.limit_bytes,
            stands_for,
            (self.overlay, self.grown),
            stored.map(Arc::new),
        ))
    }

    /// Whether nothing is known of the state but what is in memory.
    fn is_alone(&self) -> bool {
        self.stored.is_none() && self.change.is_none()
    }

    fn spill(&mut self) -> Result<(), StateError> {
        self.states.check_room(self.journal, self.overlay.bytes())?;
        let mut change = match (self.change.take(), &self.stored) {
            (Some(change), _) => change,
            (None, Some((view, _))) => view.file().change()?,
            (None, None) => self.states.create(self.journal)?.change()?,
        };
        change.put(&self.overlay)?;
        self.change = Some(change);
        self.overlay = Overlay::default();
        self.grown = Grown::default();
        Ok(())
    }
}
