//! Whether what the clients were told is true, of what lies on the disks in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream::Offset;
use millstream_log::{Log, LogConfig, LogIdentity, LogSetup, TailBudget};
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{TopicId, TopicPartition};

use crate::clients::PARTITIONS;
use crate::ledger::{Ledger, Location, Number};
use crate::place::Place;

/// Read at once, bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What is wrong, if anything is: a line each. Of each partition, `replicas` are the brokers that keep it.
pub(crate) fn judge(
    places: &[Arc<Place>],
    topic_id: TopicId,
    replicas: &[Vec<u32>],
    ledger: &Ledger,
) -> Vec<String> {
    let mut wrong = ledger.with(|told| std::mem::take(&mut told.wrong));
    let mut kept: BTreeMap<Location, Number> = BTreeMap::new();
    for (partition, replicas) in (0..PARTITIONS).zip(replicas) {
        let mut first: Option<BTreeMap<Offset, Bytes>> = None;
        for number in replicas {
            let place = &places[*number as usize - 1];
            let id = TopicPartition {
                topic_id,
                partition,
            };
            match batches(place, id) {
                Ok(batches) => match &first {
                    None => first = Some(batches),
                    Some(first) if *first == batches => {}
                    Some(first) => {
                        let differs = first.iter().zip(&batches).find(|(one, other)| one != other);
                        let differs = differs.map(|((one, _), (other, _))| (one, other));
                        wrong.push(format!(
                            "{partition} diverges on {}: {} to {} batches, from {differs:?} on",
                            place.name,
                            batches.len(),
                            first.len(),
                        ));
                    }
                },
                Err(error) => wrong.push(format!("{partition} on {}: {error}", place.name)),
            }
        }
        for batch in first.unwrap_or_default().into_values() {
            for (offset, number) in records(batch) {
                kept.insert((partition, offset), number);
            }
        }
    }
    ledger.with(|told| {
        let mut places: BTreeMap<Number, Vec<Location>> = BTreeMap::new();
        let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (place, number) in &kept {
            places.entry(*number).or_default().push(*place);
            if told
                .sent
                .get(&number.producer)
                .is_none_or(|sent| number.index >= *sent)
            {
                wrong.push(format!("{number} at {place:?} is a phantom"));
            }
            let before = last.insert((place.0, number.producer), number.index);
            if before.is_some_and(|before| before >= number.index) {
                wrong.push(format!("{number} at {place:?} is out of order"));
            }
        }
        for (number, places) in places.iter().filter(|(_, places)| places.len() > 1) {
            wrong.push(format!("{number} is there more than once: {places:?}"));
        }
        for (number, place) in &told.acked {
            match kept.get(place) {
                Some(there) if there == number => {}
                there => wrong.push(format!("{number} is lost: at {place:?} is {there:?}")),
            }
        }
        for (place, number) in &told.read {
            if kept.get(place) != Some(number) {
                wrong.push(format!("{number} was read at {place:?}, and is not there"));
            }
        }
        for number in kept.values() {
            if !told.delivered.contains(number) {
                wrong.push(format!("{number} was never delivered to the group"));
            }
        }
        if told.read.len() != kept.len() {
            wrong.push(format!(
                "{} of {} records were read",
                told.read.len(),
                kept.len()
            ));
        }
    });
    wrong
}

/// A partition's batches on a disk, by their base offsets.
fn batches(place: &Place, id: TopicPartition) -> Result<BTreeMap<Offset, Bytes>, String> {
    let setup = LogSetup {
        storage: Arc::new(place.disk().kill()),
        dir: place.log_dir(id),
        identity: LogIdentity {
            topic_id: id.topic_id,
            partition: id.partition,
        },
        config: LogConfig::default(),
        tail_budget: TailBudget::new(0),
        salt: 0,
    };
    let opened = Log::create_or_open(setup, 0).map_err(|error| error.to_string())?;
    let (log, recovery) = opened;
    if !recovery.damage.is_empty() {
        return Err(format!("{:?}", recovery.damage));
    }
    let reader = log.reader();
    let mut batches = BTreeMap::new();
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let read = reader.read(offset, Offset::MAX, PIECE_BYTES);
        let read = read.map_err(|error| error.to_string())?;
        for batch in read.batches {
            let header = RecordBatch::parse(batch.clone()).map_err(|error| error.to_string())?;
            batches.insert(header.header().base_offset, batch);
        }
        offset = read.next_offset;
    }
    Ok(batches)
}

/// The records of a batch. One that a leader has written for itself has none.
fn records(batch: Bytes) -> Vec<(Offset, Number)> {
    let batch = RecordBatch::parse(batch).expect("a batch that was parsed before");
    if batch.header().control {
        return Vec::new();
    }
    let records = batch.records().expect("records").into_owned();
    let numbered = records.map(|record| {
        let (offset, record) = record.expect("a record");
        (offset, Number::of(&record.value.unwrap_or_default()))
    });
    numbered.collect()
}
