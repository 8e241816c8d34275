//! What only the inside can build: entries that a producer forges.

use std::path::Path;
use std::sync::Arc;

use crate::format::entry::{Binding, ENTRY_PREFIX_BYTES};
use crate::log::Log;
use crate::storage::MemoryStorage;
use crate::testing::{batch_of, identity};
use crate::{LogConfig, LogSetup, ProducedBatch, TailBudget};

const SALT: u64 = 77;

fn open(storage: &MemoryStorage) -> (Log, super::Recovery) {
    let setup = LogSetup {
        storage: Arc::new(storage.clone()),
        dir: "/log".into(),
        identity: identity(),
        config: LogConfig::default(),
        tail_budget: TailBudget::new(0),
        salt: SALT,
    };
    Log::create_or_open(setup, 0).expect("a log")
}

/// A batch whose value is an entry that claims a flush beyond itself, made with `salt`.
fn forged(salt: u64) -> ProducedBatch {
    let mut inner = batch_of(&["inner"]).bytes;
    millstream_protocol::batch::assign(&mut inner, 1000, 0).expect("a place");
    let prefix: [u8; ENTRY_PREFIX_BYTES] = Binding::new(&identity(), salt).prefix(999, &inner);
    // Records hold any bytes; these are put in the place of as many letters.
    let entry = [&prefix[..], &inner[..]].concat();
    let mut outer = batch_of(&[&"x".repeat(entry.len())]);
    let at = outer.bytes.len() - entry.len() - 1;
    outer.bytes[at..at + entry.len()].copy_from_slice(&entry);
    outer
}

#[test]
fn a_producer_cannot_forge_evidence() {
    for (salt, is_evidence) in [(SALT, true), (SALT + 1, false)] {
        let storage = MemoryStorage::new();
        let (mut log, _) = open(&storage);
        log.append(vec![batch_of(&["a"])], 0, 0, &mut Vec::new())
            .expect("an append");
        let ticket = log.flush_ticket().expect("something to flush");
        log.flushed(ticket.run()).expect("a flush");
        let path = log.active().path().to_owned();
        let torn_at = log.active().extent().bytes;
        log.append(vec![forged(salt)], 0, 0, &mut Vec::new())
            .expect("an append");
        drop(log);
        // As if the write had been torn: with its header gone, the search goes through its body.
        let storage = storage.kill();
        assert!(storage.flip_bit(&path, torn_at, 0));
        let (log, recovery) = open(&storage);
        assert_eq!(!recovery.damage.is_empty(), is_evidence, "salt {salt}");
        assert_eq!(recovery.cut_bytes == 0, is_evidence);
        assert_eq!(log.log_end_offset() == 1, !is_evidence);
    }
}

#[test]
fn the_salt_is_the_one_that_the_log_was_created_with() {
    let storage = MemoryStorage::new();
    let (mut log, _) = open(&storage);
    log.append(vec![batch_of(&["a"])], 0, 0, &mut Vec::new())
        .expect("an append");
    log.close().expect("a clean stop");
    let setup = LogSetup {
        storage: Arc::new(storage.clone()),
        dir: Path::new("/log").to_owned(),
        identity: identity(),
        config: LogConfig::default(),
        tail_budget: TailBudget::new(0),
        salt: SALT + 1,
    };
    let (log, recovery) = Log::create_or_open(setup, 0).expect("a log");
    assert_eq!(recovery.damage, []);
    assert_eq!(log.shared.files.salt, SALT);
    assert_eq!(log.log_end_offset(), 1);
}
