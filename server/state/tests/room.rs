//! Stores where there is room for little.

use std::fs;
use std::sync::Arc;

use millstream_protocol::{TopicId, TopicPartition};
use millstream_state::{Checkpoint, Growth, JournalExtent, StandsFor, StateConfig, States};
use uuid::Uuid;

const JOURNAL: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(7)),
    partition: 3,
};

const LIMIT: u64 = 1 << 20;

fn checkpoint(offset: u64) -> Checkpoint {
    Checkpoint {
        stands_for: StandsFor {
            journal_offset: offset,
            input_offset: 0,
        },
        replay_from: offset,
        records: Vec::new(),
    }
}

fn extent(end_offset: u64) -> JournalExtent {
    JournalExtent {
        start_offset: 0,
        end_offset,
        tombstones_gone_until: 0,
    }
}

#[test]
fn what_there_is_no_room_for_is_not_written_and_the_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = StateConfig {
        loading_bytes: 2_000,
        ..StateConfig::default()
    };
    let states = States::new(folder.path().to_owned(), config, |_, bytes| bytes < 1_000);
    let loading = states.open(JOURNAL, extent(0), LIMIT).unwrap();
    let store = loading.finish(StandsFor::default(), || checkpoint(0));
    let store = Arc::new(store.unwrap());
    let put = |offset: u64, value: &[u8]| {
        let changes = [(b"key".to_vec(), Some(value.to_vec()))];
        store.apply(changes, Growth::AtMost, checkpoint(offset).stands_for);
        store.begin_flush(checkpoint(offset)).unwrap().run()
    };
    put(1, b"little").unwrap();
    let error = put(2, &[b'x'; 1_000]).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("3.redb: no storage space"), "{said}");
    // It is read all the same, and found again as it was written.
    assert_eq!(store.get(b"key").unwrap().unwrap(), [b'x'; 1_000]);
    drop(store);
    let loading = states.open(JOURNAL, extent(2), LIMIT).unwrap();
    assert_eq!(loading.checkpoint(), Some(&checkpoint(1)));
    let store = loading.finish(checkpoint(1).stands_for, || checkpoint(1));
    assert_eq!(store.unwrap().get(b"key").unwrap().unwrap(), b"little");

    // Nor is it when a journal is read back.
    let mut loading = states.rebuild(JOURNAL, LIMIT).unwrap();
    let error = loading.set(0, b"key", Some(&[b'x'; 2_000])).unwrap_err();
    assert!(error.to_string().contains("no storage space"), "{error}");
    let topic = folder.path().join(JOURNAL.topic_id.to_string());
    assert_eq!(fs::read_dir(topic).unwrap().count(), 0);
}
