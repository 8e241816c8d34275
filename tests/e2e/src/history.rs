//! What a topic holds, and whether that is what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream::{
    Client, ConsumedRecord, Consumer, Offset, PartitionIndex, Position, ProduceRecord,
};

use crate::load::{Acked, Number};
use crate::patience::within;

/// The value of the record behind all others.
const LAST: &str = "the last";

/// Every visible record of a topic, by partition and offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(BTreeMap<(PartitionIndex, Offset), ConsumedRecord>);

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acked: usize,
    /// Acknowledged records that are not there.
    pub losses: usize,
    /// Records that are there more than once.
    pub duplicates: usize,
    /// Acknowledged records that are there, but not where the acknowledgement said.
    pub misplaced: usize,
    /// Records that stand before an earlier one of the same producer in their partition.
    pub disordered: usize,
}

impl History {
    /// Reads a topic from its first record to the high watermark.
    pub async fn read(client: &Client, topic: &str) -> Self {
        let described = client.admin().describe_topic(topic).await.expect("a topic");
        let expected: u64 = described
            .partitions
            .iter()
            .map(|partition| partition.known_log().expect("a leader").visible_offsets())
            .sum();
        let builder = client.consumer().topics([topic]).start(Position::Earliest);
        let mut consumer = builder.build().await.expect("a consumer");
        Self::take(
            &mut consumer,
            usize::try_from(expected).expect("a small topic"),
        )
        .await
    }

    /// Reads a topic of which leaders have changed, and have left marks of their own in it: a last record is
    /// produced to each partition, and everything read up to those.
    pub async fn read_to_the_end(client: &Client, topic: &str) -> Self {
        let producer = client.producer(topic).build().await.expect("a producer");
        let partitions = producer.partitions();
        for partition in 0..partitions {
            let last = ProduceRecord::new(LAST).partition(partition);
            producer.send(last).await.expect("a record that is taken");
        }
        within("the last records", producer.close())
            .await
            .expect("acknowledgements");
        let builder = client.consumer().topics([topic]).start(Position::Earliest);
        let mut consumer = builder.build().await.expect("a consumer");
        let mut history = Self::default();
        let mut ended = BTreeSet::new();
        while ended.len() < partitions as usize {
            let record = within("a further record", consumer.next()).await;
            let record = record.expect("a record");
            if record.value.as_deref() == Some(LAST.as_bytes()) {
                ended.insert(record.partition);
            } else {
                history.add(record);
            }
        }
        history
    }

    /// Takes this many records from a consumer.
    pub async fn take(consumer: &mut Consumer, records: usize) -> Self {
        let mut history = Self::default();
        while history.len() < records {
            let what = format!("record {} of {records}", history.len());
            history.add(within(&what, consumer.next()).await.expect("a record"));
        }
        history
    }

    /// Adds a record that was consumed. A second one at the same place fails the test.
    pub fn add(&mut self, record: ConsumedRecord) {
        let place = (record.partition, record.offset);
        let before = self.0.insert(place, record);
        assert!(
            before.is_none(),
            "partition {} offset {} was consumed twice",
            place.0,
            place.1
        );
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The records, in the order of partitions and offsets.
    pub fn records(&self) -> impl Iterator<Item = &ConsumedRecord> {
        self.0.values()
    }

    /// Whether everything in here is in `other` too, at the same place.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|(place, record)| other.0.get(place) == Some(record))
    }

    /// Compares numbered records with what their producers were told.
    pub fn judge(&self, acked: &[Acked]) -> Verdict {
        let mut verdict = Verdict {
            acked: acked.len(),
            ..Verdict::default()
        };
        let mut places: HashMap<Number, Vec<(PartitionIndex, Offset)>> = HashMap::new();
        let mut last: HashMap<(PartitionIndex, u32), u64> = HashMap::new();
        for (place, record) in &self.0 {
            let number = Number::of(record);
            places.entry(number).or_default().push(*place);
            let before = last.insert((place.0, number.producer), number.index);
            verdict.disordered += usize::from(before.is_some_and(|before| before >= number.index));
        }
        verdict.duplicates = places.values().map(|places| places.len() - 1).sum();
        for Acked {
            number,
            partition,
            offset,
        } in acked
        {
            match places.get(number) {
                None => verdict.losses += 1,
                Some(places) if !places.contains(&(*partition, *offset)) => verdict.misplaced += 1,
                Some(_) => {}
            }
        }
        verdict
    }
}

impl Verdict {
    /// Whether nothing is amiss.
    pub fn is_clean(&self) -> bool {
        let Self {
            acked: _,
            losses,
            duplicates,
            misplaced,
            disordered,
        } = *self;
        losses + duplicates + misplaced + disordered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: Offset, producer: u32, index: u64) -> ConsumedRecord {
        ConsumedRecord {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(Number { producer, index }.to_string().into()),
            headers: Vec::new(),
        }
    }

    fn judge(records: &[(Offset, u64)], acked: &[(Offset, u64)]) -> Verdict {
        let mut history = History::default();
        for (offset, index) in records {
            history.add(record(*offset, 1, *index));
        }
        let acked: Vec<_> = acked
            .iter()
            .map(|(offset, index)| Acked {
                number: Number {
                    producer: 1,
                    index: *index,
                },
                partition: 0,
                offset: *offset,
            })
            .collect();
        history.judge(&acked)
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let clean = judge(&[(0, 7), (1, 8)], &[(0, 7), (1, 8)]);
        assert!(clean.is_clean() && clean.acked == 2);
        assert_eq!(judge(&[(0, 7)], &[(0, 7), (1, 8)]).losses, 1);
        assert_eq!(
            judge(&[(0, 7), (1, 8), (2, 8)], &[(0, 7), (1, 8)]).duplicates,
            1
        );
        assert_eq!(judge(&[(0, 7), (3, 8)], &[(0, 7), (1, 8)]).misplaced, 1);
        assert_eq!(judge(&[(0, 8), (1, 7)], &[(0, 8), (1, 7)]).disordered, 1);
    }
}
