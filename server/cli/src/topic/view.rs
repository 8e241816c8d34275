//! Topics, as they are shown.

use millstream::{Cleanup, Durability, PartitionDescription, TopicDescription};
use serde::Serialize;

use crate::output::{Facts, Table, View, bytes, count, counted, duration_ms};

/// Of a topic that keeps the latest record of each key.
const COMPACT: &str = "compact";

/// A topic with all that is known of it.
#[derive(Debug, Serialize)]
pub(super) struct TopicView {
    name: String,
    topic_id: String,
    /// `sync` or `relaxed`.
    durability: &'static str,
    /// `delete` or `compact`.
    cleanup: &'static str,
    /// `null`: kept for ever. Of no effect while the topic is compacted, like the next one.
    retention_ms: Option<u64>,
    /// `null`: unbounded.
    retention_bytes: Option<u64>,
    segment_bytes: u64,
    segment_ms: u64,
    max_batch_bytes: u32,
    tombstone_retention_ms: u64,
    replication_factor: u8,
    partitions: Vec<PartitionView>,
}

#[derive(Debug, Serialize)]
struct PartitionView {
    partition: u32,
    leader: u32,
    leader_epoch: u32,
    /// The brokers that keep it, the preferred leader first; while the replicas change, those before and
    /// after.
    replicas: Vec<u32>,
    /// Those of them that have not got all that they should: they do not count.
    untrusted: Vec<u32>,
    /// Those of them that are not there.
    offline: Vec<u32>,
    /// Those of them that are to keep it once the change is done.
    joining: Vec<u32>,
    /// Those of them that are to keep it no more.
    leaving: Vec<u32>,
    /// What the leader says of its log; `null`: it does not, like the rest.
    log_start_offset: Option<u64>,
    high_watermark: Option<u64>,
    log_end_offset: Option<u64>,
    flushed_offset: Option<u64>,
    size_bytes: Option<u64>,
    /// `null`: it is sound, as far as is known.
    damage: Option<String>,
}

/// What the marks behind replicas mean.
const MARKS: &str =
    "* leads, ? has not got all that it should, ! is not there, + is to be added, - is to go";

impl TopicView {
    pub(super) fn of(topic: &TopicDescription) -> Self {
        let config = &topic.config;
        Self {
            name: topic.name.clone(),
            topic_id: topic.topic_id.to_string(),
            durability: match config.durability {
                Durability::Sync => "sync",
                Durability::Relaxed => "relaxed",
            },
            cleanup: match config.cleanup {
                Cleanup::Delete => "delete",
                Cleanup::Compact => COMPACT,
            },
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            segment_bytes: config.segment_bytes,
            segment_ms: config.segment_ms,
            max_batch_bytes: config.max_batch_bytes,
            tombstone_retention_ms: config.tombstone_retention_ms,
            replication_factor: config.replication_factor,
            partitions: topic.partitions.iter().map(PartitionView::of).collect(),
        }
    }

    /// `None` if one of its leaders does not say.
    fn records(&self) -> Option<u64> {
        self.partitions.iter().map(PartitionView::records).sum()
    }

    fn size_bytes(&self) -> Option<u64> {
        self.partitions.iter().map(|it| it.size_bytes).sum()
    }

    /// Neither age nor size takes anything from a compacted topic.
    fn is_compacted(&self) -> bool {
        self.cleanup == COMPACT
    }

    fn retention(&self) -> String {
        match self.retention_ms {
            _ if self.is_compacted() => "latest of a key".to_owned(),
            Some(retention_ms) => duration_ms(retention_ms),
            None => "for ever".to_owned(),
        }
    }

    /// The same, with what else is known.
    fn retention_in_full(&self) -> String {
        if self.is_compacted() {
            let tombstones = duration_ms(self.tombstone_retention_ms);
            return format!("the latest record of each key, tombstones for {tombstones}");
        }
        let bound = self.retention_bytes;
        let bound = bound.map_or_else(|| "no bound on size".to_owned(), bytes);
        format!("{}, {bound}", self.retention())
    }
}

impl PartitionView {
    fn of(partition: &PartitionDescription) -> Self {
        let log = partition.log.as_ref();
        Self {
            partition: partition.partition,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            untrusted: partition.untrusted.clone(),
            offline: partition.offline.clone(),
            joining: partition.joining.clone(),
            leaving: partition.leaving.clone(),
            log_start_offset: log.map(|it| it.log_start_offset),
            high_watermark: log.map(|it| it.high_watermark),
            log_end_offset: log.map(|it| it.log_end_offset),
            flushed_offset: log.map(|it| it.flushed_offset),
            size_bytes: log.map(|it| it.size_bytes),
            damage: log.and_then(|it| it.damage.clone()),
        }
    }

    /// Each replica's broker, with its marks.
    fn replicas(&self) -> String {
        let marked = self.replicas.iter().map(|broker_id| {
            let mut marked = broker_id.to_string();
            let leads = *broker_id == self.leader;
            let marks = [
                (leads, '*'),
                (self.untrusted.contains(broker_id), '?'),
                (self.offline.contains(broker_id), '!'),
                (self.joining.contains(broker_id), '+'),
                (self.leaving.contains(broker_id), '-'),
            ];
            marked.extend(
                marks
                    .iter()
                    .filter(|(holds, _)| *holds)
                    .map(|(_, mark)| mark),
            );
            marked
        });
        marked.collect::<Vec<_>>().join(" ")
    }

    /// Whether there is more to say of its replicas than who leads.
    fn has_marks(&self) -> bool {
        let marked = [&self.untrusted, &self.offline, &self.joining, &self.leaving];
        marked.iter().any(|it| !it.is_empty())
    }

    fn state(&self) -> String {
        match (&self.damage, self.high_watermark) {
            (Some(damage), _) => format!("damaged: {damage}"),
            (None, Some(_)) => "ok".to_owned(),
            (None, None) => "unknown".to_owned(),
        }
    }

    /// Offsets that can be read: in a compacted topic there are fewer records.
    fn records(&self) -> Option<u64> {
        Some(self.high_watermark?.saturating_sub(self.log_start_offset?))
    }
}

fn known(number: Option<u64>, shown: impl Fn(u64) -> String) -> String {
    number.map_or_else(|| "unknown".to_owned(), shown)
}

/// A topic that is there now: in one line.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Created(pub(super) TopicView);

impl View for Created {
    fn text(&self) -> String {
        let Self(topic) = self;
        format!(
            "topic {}: {}, {}, keeps {}\n",
            topic.name,
            counted(topic.partitions.len() as u64, "partition"),
            topic.durability,
            topic.retention_in_full(),
        )
    }
}

impl View for TopicView {
    fn text(&self) -> String {
        let facts = Facts::default()
            .fact("topic", &self.name)
            .fact("id", &self.topic_id)
            .fact("durability", self.durability)
            .fact("cleanup", self.cleanup)
            .fact("retention", self.retention_in_full())
            .fact(
                "segments",
                format!(
                    "{}, {}",
                    bytes(self.segment_bytes),
                    duration_ms(self.segment_ms)
                ),
            )
            .fact("largest batch", bytes(self.max_batch_bytes.into()))
            .fact("records", known(self.records(), count))
            .fact("size", known(self.size_bytes(), bytes));
        let mut table = Table::new(
            &[
                "#PARTITION",
                "#LEADER",
                "#EPOCH",
                "REPLICAS",
                "#FIRST OFFSET",
                "#HIGH WATERMARK",
                "#FLUSHED",
                "#SIZE",
                "STATE",
            ],
            "no partitions",
        );
        for partition in &self.partitions {
            table.row([
                partition.partition.to_string(),
                partition.leader.to_string(),
                partition.leader_epoch.to_string(),
                partition.replicas(),
                known(partition.log_start_offset, count),
                known(partition.high_watermark, count),
                known(partition.flushed_offset, count),
                known(partition.size_bytes, bytes),
                partition.state(),
            ]);
        }
        let mut text = format!("{}\n{}", facts.text(), table.text());
        if self.partitions.iter().any(PartitionView::has_marks) {
            text += &format!("\nreplicas: {MARKS}\n");
        }
        text
    }
}

/// Several topics with all that is known of them.
#[derive(Debug, Serialize)]
pub(super) struct TopicViews {
    topics: Vec<TopicView>,
}

impl TopicViews {
    pub(super) fn of(topics: &[TopicDescription]) -> Self {
        Self {
            topics: topics.iter().map(TopicView::of).collect(),
        }
    }
}

impl View for TopicViews {
    fn text(&self) -> String {
        self.topics
            .iter()
            .map(View::text)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Topics, a line each.
#[derive(Debug, Serialize)]
pub(super) struct Topics {
    topics: Vec<TopicView>,
}

impl Topics {
    pub(super) fn of(topics: &[TopicDescription]) -> Self {
        Self {
            topics: topics.iter().map(TopicView::of).collect(),
        }
    }
}

impl View for Topics {
    fn text(&self) -> String {
        let columns = &[
            "TOPIC",
            "#PARTITIONS",
            "#RECORDS",
            "#SIZE",
            "DURABILITY",
            "CLEANUP",
            "RETENTION",
        ];
        let mut table = Table::new(columns, "no topics: `millstream topic create` makes one");
        for topic in &self.topics {
            table.row([
                topic.name.clone(),
                topic.partitions.len().to_string(),
                known(topic.records(), count),
                known(topic.size_bytes(), bytes),
                topic.durability.to_owned(),
                topic.cleanup.to_owned(),
                topic.retention(),
            ]);
        }
        table.text()
    }
}

/// What is gone.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    pub(super) deleted: Vec<String>,
}

impl View for Deleted {
    fn text(&self) -> String {
        self.deleted
            .iter()
            .map(|name| format!("deleted topic {name}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream::{PartitionLog, TopicConfig, TopicId};

    use super::*;
    use crate::output::both_forms;

    fn topic(name: &str, partitions: u32) -> TopicDescription {
        let partition = |partition| PartitionDescription {
            partition,
            leader: 1,
            leader_epoch: 3,
            replicas: vec![1, 2, 3],
            untrusted: Vec::new(),
            offline: Vec::new(),
            joining: Vec::new(),
            leaving: Vec::new(),
            log: Some(PartitionLog {
                log_start_offset: 0,
                high_watermark: 1_500,
                log_end_offset: 1_500,
                flushed_offset: 1_500,
                size_bytes: 123_456,
                damage: (partition == 1).then(|| "bad checksum at offset 12".to_owned()),
            }),
        };
        let id = serde_json::from_str("\"0189dcd0-11aa-7000-8000-000000000001\"").unwrap();
        TopicDescription {
            name: name.to_owned(),
            topic_id: TopicId(id),
            config: TopicConfig::default(),
            partitions: (0..partitions).map(partition).collect(),
        }
    }

    #[test]
    fn replicas_are_marked_and_what_no_leader_says_is_unknown() {
        let mut described = topic("orders", 3);
        described.partitions[0].untrusted = vec![3];
        described.partitions[1].offline = vec![1, 2];
        described.partitions[1].log = None;
        described.partitions[2].replicas = vec![1, 2, 4];
        described.partitions[2].joining = vec![4];
        described.partitions[2].leaving = vec![2];
        let view = TopicView::of(&described);
        let text = view.text();
        let (_, table) = text.split_once("\n\n").unwrap();
        insta::assert_snapshot!(table, @r"
        PARTITION  LEADER  EPOCH  REPLICAS  FIRST OFFSET  HIGH WATERMARK  FLUSHED       SIZE  STATE
                0       1      3  1* 2 3?              0           1,500    1,500  120.6 KiB  ok
                1       1      3  1*! 2! 3       unknown         unknown  unknown    unknown  unknown
                2       1      3  1* 2- 4+             0           1,500    1,500  120.6 KiB  ok

        replicas: * leads, ? has not got all that it should, ! is not there, + is to be added, - is to go
        ");
        insta::assert_snapshot!(Topics::of(&[described]).text(), @r"
        TOPIC   PARTITIONS  RECORDS     SIZE  DURABILITY  CLEANUP  RETENTION
        orders           3  unknown  unknown  sync        delete   7d
        ");
    }

    #[test]
    fn a_topic_in_full() {
        insta::assert_snapshot!(both_forms(&TopicView::of(&topic("orders", 2))), @r#"
        topic:         orders
        id:            0189dcd0-11aa-7000-8000-000000000001
        durability:    sync
        cleanup:       delete
        retention:     7d, no bound on size
        segments:      512.0 MiB, 7d
        largest batch: 8.0 MiB
        records:       3,000
        size:          241.1 KiB

        PARTITION  LEADER  EPOCH  REPLICAS  FIRST OFFSET  HIGH WATERMARK  FLUSHED       SIZE  STATE
                0       1      3  1* 2 3               0           1,500    1,500  120.6 KiB  ok
                1       1      3  1* 2 3               0           1,500    1,500  120.6 KiB  damaged: bad checksum at offset 12
        ---
        {
          "name": "orders",
          "topic_id": "0189dcd0-11aa-7000-8000-000000000001",
          "durability": "sync",
          "cleanup": "delete",
          "retention_ms": 604800000,
          "retention_bytes": null,
          "segment_bytes": 536870912,
          "segment_ms": 604800000,
          "max_batch_bytes": 8388608,
          "tombstone_retention_ms": 86400000,
          "replication_factor": 1,
          "partitions": [
            {
              "partition": 0,
              "leader": 1,
              "leader_epoch": 3,
              "replicas": [
                1,
                2,
                3
              ],
              "untrusted": [],
              "offline": [],
              "joining": [],
              "leaving": [],
              "log_start_offset": 0,
              "high_watermark": 1500,
              "log_end_offset": 1500,
              "flushed_offset": 1500,
              "size_bytes": 123456,
              "damage": null
            },
            {
              "partition": 1,
              "leader": 1,
              "leader_epoch": 3,
              "replicas": [
                1,
                2,
                3
              ],
              "untrusted": [],
              "offline": [],
              "joining": [],
              "leaving": [],
              "log_start_offset": 0,
              "high_watermark": 1500,
              "log_end_offset": 1500,
              "flushed_offset": 1500,
              "size_bytes": 123456,
              "damage": "bad checksum at offset 12"
            }
          ]
        }
        "#);
    }

    #[test]
    fn a_compacted_topic_has_no_retention_by_age() {
        let mut compacted = topic("prices", 1);
        compacted.config.cleanup = Cleanup::Compact;
        let view = TopicView::of(&compacted);
        let text = view.text();
        let retention = text.lines().find(|line| line.starts_with("retention:"));
        insta::assert_snapshot!(retention.unwrap(), @"retention:     the latest record of each key, tombstones for 1d");
    }

    #[test]
    fn topics_a_line_each() {
        let mut compacted = topic("prices", 1);
        compacted.config.cleanup = Cleanup::Compact;
        let topics = [topic("orders", 4), topic("payments", 1), compacted];
        insta::assert_snapshot!(Topics::of(&topics).text(), @r"
        TOPIC     PARTITIONS  RECORDS       SIZE  DURABILITY  CLEANUP  RETENTION
        orders             4    6,000  482.2 KiB  sync        delete   7d
        payments           1    1,500  120.6 KiB  sync        delete   7d
        prices             1    1,500  120.6 KiB  sync        compact  latest of a key
        ");
        assert_eq!(
            Topics::of(&[]).text(),
            "no topics: `millstream topic create` makes one\n"
        );
    }
}
