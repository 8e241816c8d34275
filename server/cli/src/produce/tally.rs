//! What became of the lines.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millstream::{Delivery, Offset, PartitionIndex};
use serde::Serialize;

use crate::output::{View, bytes, counted, elapsed};

/// Counts while records are sent. Of each partition the first and last deliveries are kept: their
/// offsets tell where the records lie.
#[derive(Debug, Default)]
pub(super) struct Tally {
    records: u64,
    bytes: u64,
    bad_lines: u64,
    partitions: BTreeMap<PartitionIndex, PartitionTally>,
}

#[derive(Debug)]
struct PartitionTally {
    records: u64,
    first: Delivery,
    last: Option<Delivery>,
}

impl Tally {
    pub(super) fn sent(&mut self, delivery: Delivery, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
        match self.partitions.get_mut(&delivery.partition()) {
            Some(partition) => {
                partition.records += 1;
                partition.last = Some(delivery);
            }
            None => {
                let partition = delivery.partition();
                self.partitions.insert(
                    partition,
                    PartitionTally {
                        records: 1,
                        first: delivery,
                        last: None,
                    },
                );
            }
        }
    }

    pub(super) fn bad_line(&mut self) {
        self.bad_lines += 1;
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The result, once everything sent is stored.
    pub(super) fn summary(self, topic: String, took: Duration) -> Summary {
        let mut partitions = Vec::with_capacity(self.partitions.len());
        for (partition, tally) in self.partitions {
            let offset = |delivery: &Delivery| Some(delivery.try_result()?.ok()?.offset);
            let first_offset = offset(&tally.first);
            let last_offset = tally.last.as_ref().map_or(first_offset, offset);
            partitions.push(PartitionSummary {
                partition,
                records: tally.records,
                first_offset,
                last_offset,
            });
        }
        Summary {
            topic,
            records: self.records,
            bytes: self.bytes,
            bad_lines: self.bad_lines,
            elapsed_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            partitions,
        }
    }
}

/// What was produced.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    topic: String,
    pub(super) records: u64,
    /// Keys and values.
    bytes: u64,
    /// Lines passed over.
    bad_lines: u64,
    elapsed_ms: u64,
    partitions: Vec<PartitionSummary>,
}

#[derive(Debug, Serialize)]
struct PartitionSummary {
    partition: PartitionIndex,
    records: u64,
    /// `null`: it is not known where they are.
    first_offset: Option<Offset>,
    last_offset: Option<Offset>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "produced {} ({}) to {}, {}, in {}",
            counted(self.records, "record"),
            bytes(self.bytes),
            self.topic,
            counted(self.partitions.len() as u64, "partition"),
            elapsed(Duration::from_millis(self.elapsed_ms)),
        )?;
        if self.bad_lines > 0 {
            write!(f, "; skipped {}", counted(self.bad_lines, "bad line"))?;
        }
        Ok(())
    }
}

impl View for Summary {
    fn text(&self) -> String {
        format!("{self}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::both_forms;

    #[test]
    fn a_summary_in_both_forms() {
        let partition = |partition, records| PartitionSummary {
            partition,
            records,
            first_offset: Some(10),
            last_offset: Some(10 + records - 1),
        };
        let summary = Summary {
            topic: "earthquakes".to_owned(),
            records: 1_707,
            bytes: 400_000,
            bad_lines: 1,
            elapsed_ms: 123,
            partitions: vec![partition(0, 1_000), partition(3, 707)],
        };
        insta::assert_snapshot!(both_forms(&summary), @r#"
        produced 1,707 records (390.6 KiB) to earthquakes, 2 partitions, in 123 ms; skipped 1 bad line
        ---
        {
          "topic": "earthquakes",
          "records": 1707,
          "bytes": 400000,
          "bad_lines": 1,
          "elapsed_ms": 123,
          "partitions": [
            {
              "partition": 0,
              "records": 1000,
              "first_offset": 10,
              "last_offset": 1009
            },
            {
              "partition": 3,
              "records": 707,
              "first_offset": 10,
              "last_offset": 716
            }
          ]
        }
        "#);
    }
}
