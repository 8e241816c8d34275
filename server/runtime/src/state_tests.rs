//! Changes and pages against a model: plain maps.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// A store that is a map.
struct Stored(BTreeMap<Vec<u8>, Vec<u8>>);

impl StateReader for Stored {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        let _ = self
            .0
            .range::<[u8], _>((scan_start(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

/// Few letters and lengths, so that keys meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(b'a'), Just(0xff)], 0..4)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..3)
}

fn changes_of(changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> StateChanges {
    let mut made = StateChanges::default();
    for (key, value) in changes {
        made.set(key, value).unwrap();
    }
    made
}

proptest! {
    #[test]
    fn pages_one_after_the_other_are_the_whole(
        stored in btree_map(key(), value(), 0..20),
        changes in vec((key(), proptest::option::of(value())), 0..20),
        prefix in key(),
        limit in 1usize..8,
    ) {
        let mut model = stored.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
        model.retain(|key, _| key.starts_with(&prefix));

        let (reader, changes) = (Stored(stored), changes_of(changes));
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key.as_slice());
            let page = read_page(&reader, &changes, &prefix, after, limit).unwrap();
            prop_assert!(page.entries.len() <= limit);
            prop_assert!(!page.more || page.entries.len() == limit);
            let more = page.more;
            found.extend(page.entries);
            if !more {
                break;
            }
        }
        prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn bytes_are_those_of_the_last_change_of_each_key(
        changes in vec((key(), proptest::option::of(value())), 0..20),
    ) {
        let changes = changes_of(changes);
        let bytes = |(key, value): (&[u8], Option<&[u8]>)| {
            key.len() + value.map_or(0, <[u8]>::len) + STATE_CHANGE_OVERHEAD_BYTES
        };
        prop_assert_eq!(changes.bytes(), changes.iter().map(bytes).sum::<usize>());
    }
}

#[test]
fn after_outside_the_prefix_is_before_or_behind_all() {
    let stored = [("ka", "1"), ("kb", "2")];
    let reader = Stored(stored.map(|(key, value)| (key.into(), value.into())).into());
    let keys = |after: &[u8]| {
        let page = read_page(&reader, &StateChanges::default(), b"k", Some(after), 10);
        page.unwrap().entries.len()
    };
    assert_eq!(
        (keys(b"a"), keys(b"k"), keys(b"ka"), keys(b"z")),
        (2, 2, 1, 0)
    );
}

#[test]
fn a_page_of_nothing_tells_whether_there_is_something() {
    let changes = changes_of([(b"a".to_vec(), Some(Vec::new()))]);
    let page = |prefix| read_page(&EmptyState, &changes, prefix, None, 0).unwrap();
    let expect = |more| Page {
        entries: Vec::new(),
        more,
    };
    assert_eq!((page(b"a"), page(b"b")), (expect(true), expect(false)));
}

#[test]
fn a_page_has_limits_of_its_own() {
    let many = (0..MAX_STATE_PAGE_ENTRIES as u32 + 1)
        .map(|key| (key.to_be_bytes().to_vec(), Some(Vec::new())));
    let page = read_page(&EmptyState, &changes_of(many), b"", None, usize::MAX).unwrap();
    assert_eq!(
        (page.entries.len(), page.more),
        (MAX_STATE_PAGE_ENTRIES, true)
    );

    // A single entry may have more than a page.
    let large = (0..3u8).map(|key| (vec![key], Some(vec![0; MAX_STATE_PAGE_BYTES])));
    let page = read_page(&EmptyState, &changes_of(large), b"", None, usize::MAX).unwrap();
    assert_eq!((page.entries.len(), page.more), (1, true));

    let half = (0..3u8).map(|key| (vec![key], Some(vec![0; MAX_STATE_PAGE_BYTES / 2 - 1])));
    let page = read_page(&EmptyState, &changes_of(half), b"", None, usize::MAX).unwrap();
    assert_eq!((page.entries.len(), page.more), (2, true));
}

#[test]
fn a_change_beyond_the_quota_is_not_made() {
    let mut changes = changes_of((0..7u8).map(|key| (vec![key], Some(vec![0; 1 << 20]))));
    let (len, bytes) = (changes.len(), changes.bytes());
    let room = MAX_STATE_CHANGE_BYTES - bytes - 1 - STATE_CHANGE_OVERHEAD_BYTES;
    let too_many = changes.set(b"x".to_vec(), Some(vec![0; room + 1]));
    let expect = QuotaExceeded {
        bytes: MAX_STATE_CHANGE_BYTES + 1,
    };
    assert_eq!(too_many, Err(expect));
    assert_eq!((changes.len(), changes.bytes()), (len, bytes));
    changes.set(b"x".to_vec(), Some(vec![0; room])).unwrap();
    // What makes room is taken.
    changes.set(vec![0], None).unwrap();
    assert_eq!(changes.bytes(), MAX_STATE_CHANGE_BYTES - (1 << 20));
}
