//! Deployed components in the broker's own topic `__artefacts`: each once, by its digest.
//!
//! | key | value |
//! |---|---|
//! | digest | how many chunks it has (2 bytes, big-endian); none: it was removed |
//! | digest, number of the chunk (2 bytes, big-endian) | a part of the component |
//!
//! The count is written behind the chunks: a component is there as a whole or not at all.
//!
//! Whoever leads the topic keeps and reads them, and gives them to other brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_COMPONENT_BYTES};
use millstream_protocol::{ErrorCode, LeaderEpoch, Offset, WireError};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::clock;
use crate::errors;
use crate::internal::{self, ARTEFACTS_PARTITION, InternalRecord};
use crate::partition::{AppendResult, Partition};
use crate::registry::Registry;

/// One chunk of a component.
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks that are appended in one batch.
const CHUNKS_PER_BATCH: usize = 7;

const DIGEST_BYTES: usize = 64;
const NUMBER_BYTES: usize = 2;

const _: () = assert!(CHUNKS_PER_BATCH * (CHUNK_BYTES + 128) < MAX_BATCH_BYTES);
const _: () = assert!(MAX_COMPONENT_BYTES / CHUNK_BYTES < u16::MAX as usize);

/// The components that are kept.
pub(crate) struct Artefacts {
    partitions: Arc<Registry>,
    /// Read from the log when it is first needed, in each epoch in which this broker leads it.
    index: Mutex<Option<(LeaderEpoch, Index)>>,
}

/// The log with the components, while this broker leads it.
struct Led<'a> {
    partition: Partition,
    epoch: LeaderEpoch,
    index: MappedMutexGuard<'a, Index>,
}

/// Where the chunks of each component lie, by its digest.
#[derive(Debug, Default)]
struct Index {
    whole: BTreeMap<String, Vec<Offset>>,
    /// Of components that are not there as a whole.
    parts: BTreeMap<String, BTreeMap<u16, Offset>>,
}

impl Index {
    /// Takes a record of the topic. What is none of a component is passed over.
    fn record(&mut self, offset: Offset, key: &[u8], value: Option<&[u8]>) {
        let Some((digest, number)) = key.split_at_checked(DIGEST_BYTES) else {
            return;
        };
        let digest = String::from_utf8_lossy(digest).into_owned();
        match (<[u8; NUMBER_BYTES]>::try_from(number), value) {
            (Ok(number), Some(_)) => {
                let chunks = self.parts.entry(digest).or_default();
                chunks.insert(u16::from_be_bytes(number), offset);
            }
            (Ok(number), None) => {
                if let Some(chunks) = self.parts.get_mut(&digest) {
                    chunks.remove(&u16::from_be_bytes(number));
                }
            }
            (Err(_), None) => {
                self.whole.remove(&digest);
            }
            (Err(_), Some(count)) => {
                let count = <[u8; NUMBER_BYTES]>::try_from(count).map(u16::from_be_bytes);
                let chunks = self.parts.remove(&digest).unwrap_or_default();
                // Numbers follow each other from 0, if none is missing.
                if count.is_ok_and(|count| chunks.keys().copied().eq(0..count)) {
                    self.whole.insert(digest, chunks.into_values().collect());
                }
            }
        }
        self.parts.retain(|_, chunks| !chunks.is_empty());
    }

    fn digests(&self) -> impl Iterator<Item = &String> {
        self.whole.keys().chain(self.parts.keys())
    }
}

impl Artefacts {
    pub(crate) fn new(partitions: Arc<Registry>) -> Self {
        let index = Mutex::default();
        Self { partitions, index }
    }

    /// Keeps a component, durably. The same one again changes nothing.
    pub(crate) async fn store(&self, digest: &str, component: &Bytes) -> Result<(), WireError> {
        let mut led = self.led().await?;
        if led.index.whole.contains_key(digest) {
            return Ok(());
        }
        let chunks: Vec<&[u8]> = component.chunks(CHUNK_BYTES).collect();
        let mut offsets = Vec::with_capacity(chunks.len());
        let mut number = 0u16;
        for together in chunks.chunks(CHUNKS_PER_BATCH) {
            let records: Vec<_> = (number..)
                .zip(together)
                .map(|(number, chunk)| InternalRecord {
                    key: chunk_key(digest, number),
                    value: Some(chunk.to_vec()),
                })
                .collect();
            let appended = led.append(&records).await?;
            offsets.extend((appended.base_offset..).take(records.len()));
            number += records.len() as u16;
        }
        let count = InternalRecord {
            key: digest.as_bytes().to_vec(),
            value: Some(number.to_be_bytes().to_vec()),
        };
        led.append(&[count]).await?;
        led.index.whole.insert(digest.to_owned(), offsets);
        Ok(())
    }

    /// Reads a component back and checks that it is the one.
    pub(crate) async fn load(&self, digest: &str) -> Result<Bytes, WireError> {
        let led = self.led().await?;
        let Some(offsets) = led.index.whole.get(digest).cloned() else {
            return Err(WireError::new(
                ErrorCode::StorageFailed,
                format!("component {digest} is not there"),
            ));
        };
        let (partition, wanted) = (led.partition.clone(), digest.to_owned());
        drop(led);
        let reading = millstream_offload::run(move || {
            let component = read(&partition, &offsets)?;
            let whole = millstream_runtime::digest(&component) == wanted;
            whole.then(|| component.into()).ok_or_else(|| {
                WireError::new(
                    ErrorCode::PartitionDamaged,
                    format!("component {wanted} is damaged in {}", partition.name()),
                )
            })
        });
        reading.await.map_err(errors::unfinished)?
    }

    /// Forgets every component that is not needed, and what a broker that was killed while it stored
    /// one left behind.
    pub(crate) async fn keep_only(&self, needed: &BTreeSet<&str>) -> Result<(), WireError> {
        let mut led = self.led().await?;
        let unneeded = led
            .index
            .digests()
            .filter(|digest| !needed.contains(digest.as_str()));
        for digest in unneeded.cloned().collect::<BTreeSet<_>>() {
            let whole = led.index.whole.get(&digest).map_or(0, Vec::len) as u16;
            let parts = led.index.parts.get(&digest).into_iter();
            let parts = parts.flat_map(|chunks| chunks.keys().copied());
            // The count first, should a reader ever see only a part of it.
            let keys = std::iter::once(digest.as_bytes().to_vec());
            let tombstones: Vec<_> = keys
                .chain((0..whole).chain(parts).map(|it| chunk_key(&digest, it)))
                .map(|key| InternalRecord { key, value: None })
                .collect();
            led.append(&tombstones).await?;
            led.index.whole.remove(&digest);
            led.index.parts.remove(&digest);
        }
        Ok(())
    }

    /// The log and its index.
    async fn led(&self) -> Result<Led<'_>, WireError> {
        let partition = self.partitions.get(ARTEFACTS_PARTITION);
        let led = partition.and_then(|it| it.leading().map(|epoch| (it, epoch)));
        let (partition, epoch) =
            led.ok_or_else(|| errors::not_ready("this broker does not lead the components' log"))?;
        let mut index = self.index.lock().await;
        if index.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let reading = partition.clone();
            let read = millstream_offload::run(move || read_index(&reading)).await;
            *index = Some((epoch, read.map_err(errors::unfinished)??));
        }
        let index = MutexGuard::map(index, |it| &mut it.get_or_insert_default().1);
        Ok(Led {
            partition,
            epoch,
            index,
        })
    }
}

impl Led<'_> {
    async fn append(&self, records: &[InternalRecord]) -> AppendResult {
        internal::append(&self.partition, self.epoch, records, clock::now_ms()).await
    }
}

fn chunk_key(digest: &str, number: u16) -> Vec<u8> {
    [digest.as_bytes(), &number.to_be_bytes()].concat()
}

fn read_index(partition: &Partition) -> Result<Index, WireError> {
    let mut index = Index::default();
    internal::each_batch(partition, |batch: &RecordBatch| {
        let records = batch.records().map_err(errors::from_batch)?;
        for record in records.iter() {
            let record = record.map_err(errors::from_batch)?;
            index.record(record.offset, record.key.unwrap_or_default(), record.value);
        }
        Ok::<_, WireError>(())
    })?;
    Ok(index)
}

/// The chunks at these offsets, one behind the other.
fn read(partition: &Partition, offsets: &[Offset]) -> Result<Vec<u8>, WireError> {
    let reader = partition.reader();
    let mut wanted = offsets.iter().copied().peekable();
    let mut component = Vec::new();
    while let Some(&first) = wanted.peek() {
        let read = reader.read_blocking(first, 1)?;
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            let records = batch.records().map_err(errors::from_batch)?;
            for record in records.iter() {
                let record = record.map_err(errors::from_batch)?;
                if wanted.next_if_eq(&record.offset).is_some() {
                    component.extend_from_slice(record.value.unwrap_or_default());
                }
            }
        }
        if wanted.peek() == Some(&first) || component.len() > MAX_COMPONENT_BYTES {
            return Err(WireError::new(
                ErrorCode::PartitionDamaged,
                format!("offset {first} of {} holds no chunk", partition.name()),
            ));
        }
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        letter.to_string().repeat(DIGEST_BYTES)
    }

    fn put(index: &mut Index, digest: &str, first: Offset, chunks: u16) {
        for number in 0..chunks {
            let key = chunk_key(digest, number);
            index.record(first + u64::from(number), &key, Some(b"chunk"));
        }
    }

    fn count(index: &mut Index, digest: &str, chunks: u16) {
        index.record(99, digest.as_bytes(), Some(&chunks.to_be_bytes()));
    }

    #[test]
    fn a_component_is_there_with_its_count() {
        let (mut index, a) = (Index::default(), digest('a'));
        put(&mut index, &a, 5, 3);
        assert!(index.whole.is_empty());
        count(&mut index, &a, 3);
        assert_eq!(index.whole[&a], [5, 6, 7]);
        assert!(index.parts.is_empty());
    }

    #[test]
    fn one_that_was_cut_short_is_not_there_and_is_written_anew() {
        let (mut index, a) = (Index::default(), digest('a'));
        put(&mut index, &a, 5, 2);
        count(&mut index, &a, 3);
        assert!(index.whole.is_empty());
        put(&mut index, &a, 10, 3);
        count(&mut index, &a, 3);
        assert_eq!(index.whole[&a], [10, 11, 12]);
    }

    #[test]
    fn what_is_removed_leaves_nothing() {
        let (mut index, a, b) = (Index::default(), digest('a'), digest('b'));
        for of in [&a, &b] {
            put(&mut index, of, 5, 2);
        }
        count(&mut index, &a, 2);
        for of in [&a, &b] {
            index.record(20, of.as_bytes(), None);
            index.record(21, &chunk_key(of, 0), None);
            index.record(22, &chunk_key(of, 1), None);
        }
        assert_eq!(index.digests().count(), 0);
        index.record(23, b"no digest", Some(b"value"));
        assert_eq!(index.digests().count(), 0);
    }
}
