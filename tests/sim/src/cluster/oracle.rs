//! What must be true, and what has been seen to be.

mod groups;
mod outputs;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_protocol::batch::{BatchHeader, RecordBatch};
use millstream_protocol::{LeaderEpoch, Offset, TopicPartition};
use millstream_replication::{BrokerId, LogView};

use self::groups::Groups;
pub(crate) use self::outputs::{Expected, Output};

/// One record, named by who has produced it and its place among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) producer: u32,
    pub(crate) sequence: u32,
}

impl Name {
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.producer.to_be_bytes());
        bytes[4..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (producer, sequence) = bytes.split_first_chunk()?;
        Some(Self {
            producer: u32::from_be_bytes(*producer),
            sequence: u32::from_be_bytes(sequence.try_into().ok()?),
        })
    }
}

/// Sees everything, and says what is wrong.
#[derive(Debug)]
pub(crate) struct Oracles {
    partitions: Vec<(TopicPartition, Oracle)>,
    pub(crate) groups: Groups,
    /// What is wrong beside.
    others: Oracle,
}

impl Oracles {
    pub(crate) fn new(partitions: &[TopicPartition]) -> Self {
        let partitions = partitions.iter().map(|at| (*at, Oracle::default()));
        Self {
            partitions: partitions.collect(),
            groups: Groups::default(),
            others: Oracle::default(),
        }
    }

    /// The one of a partition.
    pub(crate) fn of(&mut self, at: TopicPartition) -> &mut Oracle {
        let oracle = self.partitions.iter_mut().find(|(it, _)| *it == at);
        oracle.map_or(&mut self.others, |(_, oracle)| oracle)
    }

    /// Which of the run's partitions this is.
    pub(crate) fn ordinal(&self, at: TopicPartition) -> u64 {
        let place = self.partitions.iter().position(|(it, _)| *it == at);
        place.unwrap_or_default() as u64
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.others.violated(what);
    }

    /// Whether anything is wrong.
    pub(crate) fn found_something(&self) -> bool {
        // It is asked after every step.
        let is_wrong = |it: &Violations| !it.0.is_empty();
        is_wrong(&self.others.violations)
            || is_wrong(&self.groups.violations)
            || self
                .partitions
                .iter()
                .any(|(_, it)| is_wrong(&it.violations))
    }

    /// What is wrong.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.all().flat_map(|it| it.0.iter().cloned()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Violations> {
        let oracles = self.partitions.iter().map(|(_, it)| it);
        let partitions = oracles.chain([&self.others]).map(|it| &it.violations);
        partitions.chain([&self.groups.violations])
    }
}

/// What is wrong.
#[derive(Debug, Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, what: String) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(what);
        }
    }
}

/// What has been seen of one partition.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The epoch of each committed entry, and the one in which a replica first knew that it is.
    committed: Vec<(LeaderEpoch, LeaderEpoch)>,
    leaders: BTreeMap<LeaderEpoch, BrokerId>,
    /// What was acknowledged or read at an offset; `None` for what is no client's.
    records: BTreeMap<Offset, Option<Name>>,
    places: BTreeMap<Name, Offset>,
    /// Batches as a replica has them in the end.
    held: BTreeMap<Offset, (BrokerId, Bytes)>,
    pub(crate) sent: BTreeMap<u32, u32>,
    acked: BTreeMap<Name, Offset>,
    /// Up to here a replica was allowed to let records go.
    retained: Offset,
    /// Up to where records were said to be deleted, by the leader of which epoch.
    deleted: Vec<(LeaderEpoch, Offset)>,
    /// Up to where leaders have hidden them when they began.
    hidden: BTreeMap<LeaderEpoch, Offset>,
    /// The highest start of a log that a consumer was told.
    told_start: Offset,
    violations: Violations,
}

/// Violations that a run keeps: the first is what counts.
const MAX_VIOLATIONS: usize = 5;

impl Oracle {
    pub(crate) fn violated(&mut self, what: String) {
        self.violations.add(what);
    }

    /// A replica's high watermark has moved.
    pub(crate) fn committed(
        &mut self,
        (broker, known_in): (BrokerId, LeaderEpoch),
        log: &LogView,
        from: Offset,
        to: Offset,
    ) {
        for offset in from..to {
            let Some(epoch) = log.position(offset + 1).map(|it| it.epoch) else {
                let what = format!("{broker} has committed {offset} and does not have it");
                return self.violated(what);
            };
            match self.committed.get(offset as usize) {
                None => self.committed.push((epoch, known_in)),
                Some((known, _)) if *known == epoch => {}
                Some((known, _)) => {
                    let what = format!(
                        "diverging: {broker} has {offset} committed in epoch {epoch}, it was {known}"
                    );
                    return self.violated(what);
                }
            }
        }
    }

    /// Up to where everything is known to be committed.
    pub(crate) fn committed_end(&self) -> Offset {
        self.committed.len() as Offset
    }

    /// A replica goes on with what it knows to be committed.
    pub(crate) fn opened(&mut self, broker: BrokerId, high_watermark: Offset) {
        let known = self.committed.len() as Offset;
        if high_watermark > known {
            self.violated(format!(
                "{broker} takes all below {high_watermark} for committed, and {known} is"
            ));
        }
    }

    /// A replica leads, and does not show what is hidden.
    pub(crate) fn activated(
        &mut self,
        broker: BrokerId,
        epoch: LeaderEpoch,
        log: &LogView,
        hidden: Offset,
    ) {
        let first = hidden.max(log.start());
        self.hidden.insert(epoch, first);
        let older = self.deleted.iter().filter(|(it, _)| *it < epoch);
        if let Some((_, below)) = older.copied().find(|(_, below)| *below > first) {
            self.violated(format!(
                "back again: {broker} leads in epoch {epoch} from {first}, and all below {below} is deleted"
            ));
        }
        let leader = *self.leaders.entry(epoch).or_insert(broker);
        if leader != broker {
            self.violated(format!("{leader} and {broker} both lead in epoch {epoch}"));
        }
        // Who leads late in an old epoch need not have what was committed in a newer one.
        let older = (0..).zip(&self.committed);
        let mut older = older.filter(|(_, (_, known_in))| *known_in < epoch);
        let differs = older.find(|(offset, (epoch, _))| {
            let position = log.position(offset + 1);
            *offset >= log.start() && position.is_none_or(|it| it.epoch != *epoch)
        });
        if let Some((offset, (known, _))) = differs {
            let what =
                format!("lost: {broker} leads in epoch {epoch} without {offset} of epoch {known}");
            self.violated(what);
        }
    }

    /// A replica has let records go.
    pub(crate) fn retained(&mut self, broker: BrokerId, start: Offset) {
        if start > self.committed.len() as Offset {
            self.violated(format!(
                "{broker} lets go what is not committed, to {start}"
            ));
        }
        self.retained = self.retained.max(start);
    }

    /// Somebody wants records to be deleted.
    pub(crate) fn may_go(&mut self, below: Offset) {
        self.retained = self.retained.max(below);
    }

    /// Whoever wanted records to be deleted was told that they are.
    pub(crate) fn deleted(&mut self, broker: BrokerId, epoch: LeaderEpoch, below: Offset) {
        self.deleted.push((epoch, below));
        let mut newer = self.hidden.range(epoch + 1..);
        if let Some((newer, first)) = newer.find(|(_, first)| **first < below) {
            let what = format!(
                "back again: {broker} of {epoch} has deleted all below {below}, and epoch {newer} begins from {first}"
            );
            self.violated(what);
        }
    }

    /// A leader shows what is at an offset.
    pub(crate) fn served(&mut self, broker: BrokerId, epoch: LeaderEpoch, offset: Offset) {
        let mut known = self.deleted.iter().filter(|(it, _)| *it <= epoch);
        if known.any(|(_, below)| offset < *below) {
            self.violated(format!("back again: {broker} of {epoch} shows {offset}"));
        }
    }

    /// Up to here no replica has anything in the end, and none has lost what is behind the second.
    pub(crate) fn borders(&self) -> (Offset, Offset) {
        let deleted = self.deleted.iter().map(|(_, below)| *below);
        (deleted.max().unwrap_or(0), self.retained)
    }

    /// A consumer goes on where a log starts, because its position lies below.
    pub(crate) fn begins(&mut self, position: Offset, start: Offset) {
        if start <= position || start > self.retained {
            let retained = self.retained;
            self.violated(format!(
                "skipped: {position} to {start}, of which {retained} may be gone"
            ));
        }
        self.told_start = self.told_start.max(start);
    }

    /// A producer was told that its record is there.
    pub(crate) fn acknowledged(&mut self, name: Name, offset: Offset) {
        if let Some(known) = self.acked.insert(name, offset)
            && known != offset
        {
            self.violated(format!(
                "duplicate: {name:?} was acknowledged at {known} and {offset}"
            ));
        }
        self.found(offset, Some(name), "acknowledged");
    }

    /// A consumer has got a batch. Returns its records that are a client's.
    pub(crate) fn read(&mut self, batch: &RecordBatch) {
        let header = batch.header();
        if header.control {
            return self.found(header.base_offset, None, "read");
        }
        let Ok(records) = batch.records() else {
            let offset = header.base_offset;
            return self.violated(format!("the batch at {offset} cannot be read"));
        };
        for record in records.iter() {
            let Ok(record) = record else {
                let offset = header.base_offset;
                return self.violated(format!("a record at {offset} cannot be read"));
            };
            let name = record.value.and_then(Name::from_bytes);
            let Some(name) = name else {
                self.violated(format!("phantom: what is at {} is nobody's", record.offset));
                continue;
            };
            let sent = self.sent.get(&name.producer).copied().unwrap_or(0);
            if name.sequence >= sent {
                self.violated(format!("phantom: {name:?} was not sent yet"));
            }
            self.found(record.offset, Some(name), "read");
        }
    }

    fn found(&mut self, offset: Offset, name: Option<Name>, how: &str) {
        let known = *self.records.entry(offset).or_insert(name);
        if known != name {
            self.violated(format!(
                "diverging: {offset} is {name:?} as {how}, and was {known:?}"
            ));
        }
        if let Some(name) = name {
            let place = *self.places.entry(name).or_insert(offset);
            if place != offset {
                self.violated(format!("duplicate: {name:?} is at {place} and {offset}"));
            }
        }
    }

    /// A replica has a batch in the end.
    pub(crate) fn held(&mut self, broker: BrokerId, batch: Bytes) {
        let Ok(header) = BatchHeader::parse(&batch) else {
            return self.violated(format!("{broker} has a batch that is none"));
        };
        let offset = header.base_offset;
        let (other, known) = self
            .held
            .entry(offset)
            .or_insert_with(|| (broker, batch.clone()));
        if *known != batch {
            let what = format!("diverging: {broker} has another batch at {offset} than {other}");
            self.violated(what);
        }
    }

    /// Consumers have read everything up to `end`: nothing may be missing or out of order, but for what
    /// lies below a start that they were told.
    pub(crate) fn read_all(&mut self, end: Offset) {
        let mut next: BTreeMap<u32, u32> = BTreeMap::new();
        let mut wrong = Vec::new();
        // Records that nobody has read: they account for what is missing of a producer's.
        let mut unread: u32 = 0;
        for offset in 0..end {
            match self.records.get(&offset) {
                None if offset < self.told_start => unread += 1,
                None => wrong.push(format!("skipped: nobody has read {offset}")),
                Some(None) => {}
                Some(Some(name)) => {
                    let expected = next.entry(name.producer).or_insert(0);
                    match name.sequence.checked_sub(*expected) {
                        Some(missing) if missing <= unread => unread -= missing,
                        _ => wrong.push(format!("reordered: {name:?} where {expected} was due")),
                    }
                    *expected = name.sequence + 1;
                }
            }
        }
        for (name, offset) in &self.acked {
            if *offset >= end {
                wrong.push(format!(
                    "lost: {name:?}, acknowledged at {offset}, of {end}"
                ));
            }
        }
        for what in wrong {
            self.violated(what);
        }
    }
}
