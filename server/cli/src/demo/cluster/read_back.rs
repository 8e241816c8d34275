//! Everything that is in the topic, beside everything that was acknowledged.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use millstream::{Client, Consumer, Offset, PartitionIndex, Position};

use super::load::Acknowledged;
use crate::demo::quakes::difference;
use crate::errors::Problem;
use crate::output::count;

/// How often it is looked whether a consumer has read far enough: not every offset holds a record.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long everything may take to be read.
const LIMIT: Duration = Duration::from_secs(60);

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Records that were acknowledged.
    pub(super) acknowledged: u64,
    /// Those of them that are not there.
    pub(super) lost: u64,
    /// Records that are there once more than they were sent.
    pub(super) duplicated: u64,
    /// Records that are there and not where their acknowledgement said.
    pub(super) misplaced: u64,
}

impl Verdict {
    /// Refuses anything that is amiss.
    pub(super) fn demand_clean(self) -> Result<(), Problem> {
        let Self {
            acknowledged,
            lost,
            duplicated,
            misplaced,
        } = self;
        if (lost, duplicated, misplaced) == (0, 0, 0) {
            return Ok(());
        }
        Err(difference(format!(
            "of {} acknowledged records {} are lost, {} are there twice, and {} are not where they were said \
             to be",
            count(acknowledged),
            count(lost),
            count(duplicated),
            count(misplaced)
        )))
    }
}

/// Reads the topic, and compares.
pub(super) async fn read_back(
    client: &Client,
    topic: &str,
    acknowledged: &[Acknowledged],
) -> anyhow::Result<Verdict> {
    let described = client.admin().describe_topic(topic).await?;
    let consumer = client.consumer().topics([topic]).start(Position::Earliest);
    let mut consumer = consumer.build().await?;
    let mut found = Found::default();
    let reading = async {
        for partition in described.partitions {
            let known = partition.known_log().map_err(millstream::Error::from)?;
            let end = known.high_watermark;
            found
                .read_until(&mut consumer, topic, partition.partition, end)
                .await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, reading)
        .await
        .context("records that are stored do not come")??;
    Ok(found.judge(acknowledged))
}

/// Where each record is.
#[derive(Default)]
struct Found(HashMap<u64, Vec<(PartitionIndex, Offset)>>);

impl Found {
    async fn read_until(
        &mut self,
        consumer: &mut Consumer,
        topic: &str,
        partition: PartitionIndex,
        end: Offset,
    ) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while consumer
            .position(topic, partition)
            .is_none_or(|position| position < end)
        {
            tokio::select! {
                record = consumer.next() => {
                    let record = record?;
                    let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default());
                    let number = text.ok().and_then(|text| text.parse().ok());
                    let number = number.ok_or_else(|| difference(format!(
                        "partition {} offset {} holds a record that nobody has sent",
                        record.partition, record.offset
                    )))?;
                    self.add(number, (record.partition, record.offset));
                }
                _ = looks.tick() => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, number: u64, place: (PartitionIndex, Offset)) {
        self.0.entry(number).or_default().push(place);
    }

    fn judge(&self, acknowledged: &[Acknowledged]) -> Verdict {
        let mut verdict = Verdict {
            acknowledged: acknowledged.len() as u64,
            duplicated: self.0.values().map(|it| it.len() as u64 - 1).sum(),
            ..Verdict::default()
        };
        for Acknowledged {
            number,
            partition,
            offset,
        } in acknowledged
        {
            match self.0.get(number) {
                None => verdict.lost += 1,
                Some(places) if !places.contains(&(*partition, *offset)) => verdict.misplaced += 1,
                Some(_) => {}
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(found: &[(u64, Offset)], acknowledged: &[(u64, Offset)]) -> Verdict {
        let mut all = Found::default();
        for (number, offset) in found {
            all.add(*number, (0, *offset));
        }
        let acknowledged = acknowledged.iter().map(|(number, offset)| Acknowledged {
            number: *number,
            partition: 0,
            offset: *offset,
        });
        all.judge(&acknowledged.collect::<Vec<_>>())
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let clean = judge(&[(7, 0), (8, 1)], &[(7, 0), (8, 1)]);
        assert!(clean.demand_clean().is_ok() && clean.acknowledged == 2);
        let lost = judge(&[(7, 0)], &[(7, 0), (8, 1)]);
        assert_eq!((lost.lost, lost.duplicated, lost.misplaced), (1, 0, 0));
        let twice = judge(&[(7, 0), (8, 1), (8, 2)], &[(7, 0), (8, 1)]);
        assert_eq!((twice.lost, twice.duplicated, twice.misplaced), (0, 1, 0));
        let elsewhere = judge(&[(7, 0), (8, 3)], &[(7, 0), (8, 1)]);
        assert_eq!(
            (elsewhere.lost, elsewhere.duplicated, elsewhere.misplaced),
            (0, 0, 1)
        );
        insta::assert_snapshot!(
            lost.demand_clean().unwrap_err(),
            @"of 2 acknowledged records 1 are lost, 0 are there twice, and 0 are not where they were said to be"
        );
        assert!(twice.demand_clean().is_err() && elsewhere.demand_clean().is_err());
    }
}
