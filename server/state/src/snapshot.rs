//! The state as it was at one moment, page by page.

use std::ops::ControlFlow;

use crate::error::StateError;
use crate::layers::Layers;
use crate::limits::{MAX_PAGE_BYTES, MAX_PAGE_ENTRIES};
use crate::store::StandsFor;

/// A state at one moment: what is applied later does not show.
pub struct Snapshot {
    layers: Layers,
    stands_for: StandsFor,
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRequest<'a> {
    /// Of keys that begin with this.
    pub prefix: &'a [u8],
    /// Of keys greater than this one.
    pub after: Option<&'a [u8]>,
    /// At most so many. Less than [`MAX_PAGE_ENTRIES`] and [`MAX_PAGE_BYTES`] in any case.
    pub limit: usize,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Some entries of a state, in the order of the keys' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there is one behind the last.
    pub more: bool,
}

impl Snapshot {
    pub(crate) fn new(layers: Layers, stands_for: StandsFor) -> Self {
        Self { layers, stands_for }
    }

    /// The moment.
    pub fn stands_for(&self) -> StandsFor {
        self.stands_for
    }

    /// The value of a key, if it has one. May block on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.layers.get(key)
    }

    /// The next entries. May block on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn page(&self, request: PageRequest<'_>) -> Result<Page, StateError> {
        let limit = request.limit.min(MAX_PAGE_ENTRIES);
        let (mut page, mut bytes) = (Page::default(), 0);
        self.layers
            .scan(request.prefix, request.after, &mut |key, value| {
                bytes += key.len() + value.len();
                let full = bytes > MAX_PAGE_BYTES && !page.entries.is_empty();
                if full || page.entries.len() >= limit {
                    page.more = true;
                    return ControlFlow::Break(());
                }
                let (key, value) = (key.to_vec(), value.to_vec());
                page.entries.push(Entry { key, value });
                ControlFlow::Continue(())
            })?;
        Ok(page)
    }
}
