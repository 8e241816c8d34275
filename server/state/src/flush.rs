//! What is in memory, on its way into the file.

use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::file::View;
use crate::overlay::Overlay;
use crate::store::Store;

/// A flush that has begun. Until it is done the store is read from memory; when it fails, or is not
/// run, the store can never be flushed again and is to be opened anew.
#[must_use = "nothing more is flushed until this is run"]
pub struct Flush {
    store: Arc<Store>,
    overlay: Arc<Overlay>,
    checkpoint: Checkpoint,
    stored: Option<Arc<View>>,
}

impl Flush {
    pub(crate) fn new(
        store: Arc<Store>,
        overlay: Arc<Overlay>,
        checkpoint: Checkpoint,
        stored: Option<Arc<View>>,
    ) -> Self {
        Self {
            store,
            overlay,
            checkpoint,
            stored,
        }
    }

    /// Writes it, durably. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn run(self) -> Result<(), StateError> {
        let Self {
            store,
            overlay,
            checkpoint,
            stored,
        } = self;
        store.states.check_room(store.journal, overlay.bytes())?;
        let file = match stored {
            Some(stored) => Arc::clone(stored.file()),
            None => store.states.create(store.journal)?,
        };
        let mut change = file.change()?;
        change.put(&overlay)?;
        store.flushed(change.commit(&checkpoint)?);
        Ok(())
    }
}
