//! Overlays above a file, read as one.

use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use crate::error::StateError;
use crate::file::View;
use crate::overlay::Overlay;

/// Takes the entries of a scan: a key and its value at a time.
pub(crate) type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What makes up a state at one moment, the newest first. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    /// What has changed since the last flush began.
    pub(crate) active: Arc<Overlay>,
    /// What is being flushed.
    pub(crate) frozen: Option<Arc<Overlay>>,
    pub(crate) stored: Option<Arc<View>>,
}

impl Layers {
    /// How a key was changed, as far as that is in memory.
    pub(crate) fn changed(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(key));
        self.active.get(key).or_else(frozen)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match (self.changed(key), &self.stored) {
            (Some(changed), _) => Ok(changed.map(<[u8]>::to_vec)),
            (None, Some(stored)) => stored.get(key),
            (None, None) => Ok(None),
        }
    }

    /// Visits the keys that begin with `prefix` and are greater than `after`, in their order, until
    /// the visitor breaks off.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StateError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let in_memory = self.in_memory(start);
        let in_memory = in_memory.take_while(|(key, _)| key.starts_with(prefix));
        let mut in_memory = in_memory.peekable();
        let Some(stored) = &self.stored else {
            // Breaking off is the visitor's right.
            let _ = visit_until(&mut in_memory, None, visit);
            return Ok(());
        };
        stored.read(|table| {
            for entry in table.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = entry?;
                let key = key.value();
                if !key.starts_with(prefix) {
                    break;
                }
                if visit_until(&mut in_memory, Some(key), visit).is_break() {
                    return Ok(());
                }
                let changed = in_memory.next_if(|(changed, _)| *changed == key);
                let value = match &changed {
                    Some((_, value)) => *value,
                    None => Some(value.value()),
                };
                if value.is_some_and(|value| visit(key, value).is_break()) {
                    return Ok(());
                }
            }
            let _ = visit_until(&mut in_memory, None, visit);
            Ok(())
        })
    }

    /// The changes in memory from a key on, each key once.
    fn in_memory<'a>(
        &'a self,
        start: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut newer = self.active.range(start).peekable();
        let older = self.frozen.iter();
        let mut older = older.flat_map(move |it| it.range(start)).peekable();
        std::iter::from_fn(move || {
            let take_older = match (newer.peek(), older.peek()) {
                (Some((newer, _)), Some((older, _))) => older < newer,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if take_older {
                return older.next();
            }
            let next = newer.next()?;
            older.next_if(|(key, _)| *key == next.0);
            Some(next)
        })
    }
}

/// Visits what is there before a key, or all.
fn visit_until<'a>(
    entries: &mut Peekable<impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>,
    end: Option<&[u8]>,
    visit: &mut Visitor<'_>,
) -> ControlFlow<()> {
    while let Some((key, value)) = entries.next_if(|(key, _)| end.is_none_or(|end| *key < end)) {
        if let Some(value) = value {
            visit(key, value)?;
        }
    }
    ControlFlow::Continue(())
}
