//! What workers were to make of their input.

use std::collections::BTreeMap;

use millstream_protocol::{Offset, PartitionIndex};

use super::{Name, Oracles};

/// What a worker emits for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) partition: PartitionIndex,
    /// Where the record is.
    pub(crate) offset: Offset,
    pub(crate) producer: u32,
    /// Which one of its producer's it is, counted from 1.
    pub(crate) count: u64,
}

impl Output {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        bytes.extend(self.partition.to_be_bytes());
        bytes.extend(self.producer.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        bytes.extend(self.count.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (partition, bytes) = bytes.split_first_chunk()?;
        let (producer, bytes) = bytes.split_first_chunk()?;
        let (offset, count) = bytes.split_first_chunk()?;
        Some(Self {
            partition: PartitionIndex::from_be_bytes(*partition),
            producer: u32::from_be_bytes(*producer),
            offset: Offset::from_be_bytes(*offset),
            count: u64::from_be_bytes(count.try_into().ok()?),
        })
    }
}

/// What the worker of one partition was to emit, and what its state is then.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    outputs: Vec<Output>,
    counts: BTreeMap<u32, u64>,
}

impl Expected {
    /// A record of the input.
    pub(crate) fn record(&mut self, partition: PartitionIndex, offset: Offset, name: Name) {
        let count = self.counts.entry(name.producer).or_insert(0);
        *count += 1;
        self.outputs.push(Output {
            partition,
            offset,
            producer: name.producer,
            count: *count,
        });
    }
}

impl Oracles {
    /// The outputs of all workers, as they lie in their log, are what was expected: each once and in order.
    pub(crate) fn emitted<'a>(
        &mut self,
        expected: &BTreeMap<PartitionIndex, Expected>,
        outputs: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut due: BTreeMap<_, _> = expected
            .iter()
            .map(|(partition, it)| (*partition, it.outputs.iter()))
            .collect();
        for bytes in outputs {
            let output = Output::from_bytes(bytes);
            let due = output.and_then(|it| due.get_mut(&it.partition)?.next().copied());
            if due != output {
                let what = format!("not exactly once: {output:?} was emitted, and {due:?} was due");
                return self.violated(what);
            }
        }
        for (partition, mut due) in due {
            if let Some(output) = due.next() {
                self.violated(format!("lost: {output:?} of {partition} was not emitted"));
            }
        }
    }

    /// A worker's state is what was expected.
    pub(crate) fn counted<'a>(
        &mut self,
        (partition, expected): (PartitionIndex, &Expected),
        counters: impl Iterator<Item = (&'a [u8], u64)>,
    ) {
        let counts = counters.filter_map(|(key, count)| {
            let key = key.try_into().ok().map(u32::from_be_bytes)?;
            Some((key, count))
        });
        let counts: BTreeMap<u32, u64> = counts.collect();
        if counts != expected.counts {
            let expected = &expected.counts;
            self.violated(format!(
                "wrong state of {partition}: {counts:?}, and {expected:?} was due"
            ));
        }
    }
}
