//! Measures a store: `cargo run --release -p millstream-state --example measure -- [MIB] [VALUE_BYTES] [CACHE_MIB]`.
//!
//! Fills it with so much state in random order, reads and writes it, opens it again, and builds it
//! again from nothing, as from a journal.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::{TopicId, TopicPartition};
use millstream_state::{Checkpoint, Growth, JournalExtent, StandsFor, StateConfig, States, Store};
use uuid::Uuid;

/// Changes of one call.
const BATCH: usize = 1_000;

const JOURNAL: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(1)),
    partition: 0,
};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn key(number: u64) -> Vec<u8> {
    // Spread, so that what comes together does not lie together.
    format!("key/{:016x}", Random(number).next()).into_bytes()
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|arg| arg.parse::<u64>().expect("a number"));
    let bytes = args.next().unwrap_or(64) << 20;
    let value_bytes = args.next().unwrap_or(100) as usize;
    let entries = bytes / (value_bytes as u64 + 20);
    let folder = tempfile::tempdir().expect("a folder");
    let usual = StateConfig::default();
    let config = StateConfig {
        cache_bytes: args
            .next()
            .map_or(usual.cache_bytes, |it| (it as usize) << 20),
        ..usual
    };
    let states = States::new(folder.path().to_owned(), config, |_, _| true);

    let mut worker = Worker::open(&states, 0);
    let started = Instant::now();
    let order: Vec<u64> = (0..entries).collect();
    for chunk in order.chunks(BATCH) {
        worker.apply(
            chunk
                .iter()
                .map(|it| (key(*it), Some(vec![*it as u8; value_bytes]))),
        );
    }
    tell("put, new keys", entries, started.elapsed());
    worker.tell_flushes();
    worker.flush();
    worker.finish_flush();
    println!("{} MiB in the file", file_mib(folder.path()));

    let mut random = Random(7);
    let mut puts = |worker: &mut Worker, what, among: u64| {
        let count = entries.min(2_000_000);
        let started = Instant::now();
        for _ in 0..count / BATCH as u64 {
            let changes = (0..BATCH).map(|_| random.next() % among);
            worker.apply(changes.map(|it| (key(it), Some(vec![9; value_bytes]))));
        }
        tell(what, count, started.elapsed());
        worker.tell_flushes();
    };
    puts(&mut worker, "put, all keys alike", entries);
    puts(&mut worker, "put, 10,000 keys", 10_000);
    let mut gets = |worker: &Worker, what, among: u64| {
        let count = entries.min(1_000_000);
        let started = Instant::now();
        for _ in 0..count {
            black_box(
                worker
                    .store
                    .get(&key(random.next() % among))
                    .expect("a file"),
            );
        }
        tell(what, count, started.elapsed());
    };
    gets(&worker, "get, all keys alike", entries);
    gets(&worker, "get, 10,000 keys", 10_000);

    worker.finish_flush();
    worker.flush();
    worker.finish_flush();
    let end = worker.offset;
    drop(worker);
    let started = Instant::now();
    let worker = Worker::open(&states, end);
    println!("opened in {:?}", started.elapsed());
    gets(&worker, "get, just opened", entries);
    drop(worker);

    let started = Instant::now();
    let mut loading = states.rebuild(JOURNAL, u64::MAX).expect("a folder");
    for number in 0..entries {
        let value = vec![number as u8; value_bytes];
        loading
            .set(number, &key(number), Some(&value))
            .expect("a file");
    }
    let store = loading
        .finish(StandsFor::default(), Checkpoint::default)
        .expect("a file");
    tell("built again", entries, started.elapsed());
    drop(store);
    println!("{} MiB in the file", file_mib(folder.path()));
}

fn tell(what: &str, count: u64, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {count} in {took:.2?}, {rate:.0}/s");
}

fn file_mib(folder: &std::path::Path) -> u64 {
    let file = folder.join(JOURNAL.topic_id.to_string()).join("0.redb");
    std::fs::metadata(file).map_or(0, |it| it.len() >> 20)
}

struct Worker {
    store: Arc<Store>,
    flush: Option<std::thread::JoinHandle<Duration>>,
    offset: u64,
    flushes: Vec<Duration>,
}

impl Worker {
    fn open(states: &Arc<States>, offset: u64) -> Self {
        let extent = JournalExtent {
            start_offset: 0,
            end_offset: offset,
            tombstones_gone_until: 0,
        };
        let loading = states.open(JOURNAL, extent, u64::MAX).expect("a folder");
        let stands_for = StandsFor {
            journal_offset: offset,
            input_offset: offset,
        };
        let store = loading
            .finish(stands_for, Checkpoint::default)
            .expect("a store");
        Self {
            store: Arc::new(store),
            flush: None,
            offset,
            flushes: Vec::new(),
        }
    }

    fn stands_for(&self) -> StandsFor {
        StandsFor {
            journal_offset: self.offset,
            input_offset: self.offset,
        }
    }

    fn apply(&mut self, changes: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        self.offset += BATCH as u64;
        self.store.apply(changes, Growth::AtMost, self.stands_for());
        if self.store.wants_flush() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.finish_flush();
        let checkpoint = Checkpoint {
            stands_for: self.stands_for(),
            ..Checkpoint::default()
        };
        let flush = self.store.begin_flush(checkpoint).expect("no other flush");
        self.flush = Some(std::thread::spawn(move || {
            let started = Instant::now();
            flush.run().expect("a file");
            started.elapsed()
        }));
    }

    fn finish_flush(&mut self) {
        if let Some(flush) = self.flush.take() {
            self.flushes.push(flush.join().expect("a thread"));
        }
    }

    fn tell_flushes(&mut self) {
        let count = self.flushes.len();
        let sum: Duration = self.flushes.drain(..).sum();
        if count > 0 {
            println!("  {count} flushes, {:.2?} each", sum / count as u32);
        }
    }
}
