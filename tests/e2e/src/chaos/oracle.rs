//! Whether what the clients were told is true: of logs as they lie on the disks.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use millstream::{Offset, PartitionIndex};

use super::logs::Log;
use super::{BROKERS, PARTITIONS, Party, Run, TOPIC};
use crate::history::History;
use crate::load::{Acked, Number};
use crate::patience::until;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acked: usize,
    /// Acknowledged records that are not there.
    pub lost: usize,
    /// Records that are there more than once.
    pub duplicated: usize,
    /// Records that nobody was told of.
    pub phantoms: usize,
    /// Acknowledged records that are not where the acknowledgement said.
    pub misplaced: usize,
    /// Records that stand before an earlier one of the same producer.
    pub reordered: usize,
    /// Records that a reader has got, and that are not there so.
    pub misread: usize,
    /// Partitions of which not all replicas have the same.
    pub diverged: usize,
    /// Lines of brokers' logs that say that something is broken.
    pub panics: usize,
}

impl Verdict {
    /// Whether nothing is amiss.
    pub fn is_clean(&self) -> bool {
        let Self {
            acked: _,
            lost,
            duplicated,
            phantoms,
            misplaced,
            reordered,
            misread,
            diverged,
            panics,
        } = self;
        lost + duplicated + phantoms + misplaced + reordered + misread + diverged + panics == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acked,
            lost,
            duplicated,
            phantoms,
            misplaced,
            reordered,
            misread,
            diverged,
            panics,
        } = self;
        write!(
            f,
            "{acked} acknowledged, {lost} lost, {duplicated} duplicated, {phantoms} phantoms, {misplaced} \
             misplaced, {reordered} reordered, {misread} misread, {diverged} partitions diverged, {panics} \
             panics"
        )
    }
}

impl Run {
    /// Waits until all replicas have the same, ends all brokers, and looks at their disks.
    pub(super) async fn judge(&mut self, read: &History) -> Verdict {
        self.until_well().await;
        let topic_id = self.settle().await;
        let mut verdict = Verdict::default();
        for broker in 1..=BROKERS {
            let member = self.cluster.member(broker);
            member.kill();
            let log = member.log();
            let panics = log.lines().filter(|line| line.contains("panicked"));
            verdict.panics += panics.count();
        }
        let mut logs: BTreeMap<PartitionIndex, Log> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let mut replicas =
                (1..=BROKERS).map(|broker| Log::read(&self.data_of(broker), &topic_id, partition));
            let first = replicas.next().expect("a replica");
            let is_same = replicas.all(|other| is_same(partition, &first, &other));
            verdict.diverged += usize::from(!is_same);
            logs.insert(partition, first);
        }
        let kept = logs.iter().flat_map(|(partition, log)| {
            let records = log.records().into_iter();
            records.map(|(offset, number)| ((*partition, offset), number))
        });
        compare(
            &mut verdict,
            &kept.collect(),
            &self.ledger.all_acked(),
            read,
        );
        verdict
    }

    /// Waits until all replicas are as long, and gives the topic's id.
    async fn settle(&self) -> String {
        let described = self.observer.admin().describe_topic(TOPIC).await;
        let topic_id = described.expect("a topic").topic_id;
        let mut clients = Vec::new();
        for broker in 1..=BROKERS {
            clients.push(self.cluster.client(broker).await);
        }
        until("all replicas are as long", async || {
            let mut ends: HashMap<PartitionIndex, Vec<Offset>> = HashMap::new();
            for (broker, client) in (1..).zip(&clients) {
                let described = client.admin().describe_replicas().await.ok()?;
                if described.broker_id as Party != broker {
                    return None;
                }
                let of_topic = described.replicas?.into_iter();
                for replica in of_topic.filter(|it| it.partition.topic_id == topic_id) {
                    let ends = ends.entry(replica.partition.partition).or_default();
                    ends.extend([replica.log_end_offset, replica.high_watermark]);
                }
            }
            let are_equal = |ends: &Vec<Offset>| {
                ends.len() == 2 * BROKERS && ends.iter().all(|it| *it == ends[0])
            };
            (ends.len() == PARTITIONS as usize && ends.values().all(are_equal)).then_some(())
        })
        .await;
        topic_id.to_string()
    }
}

fn is_same(partition: PartitionIndex, one: &Log, other: &Log) -> bool {
    if one == other {
        return true;
    }
    let differs = one
        .0
        .iter()
        .find(|(at, batch)| other.0.get(at) != Some(batch));
    let at = differs.map(|(at, _)| at);
    println!(
        "partition {partition}: {} batches and {}, the first that differs at {at:?}",
        one.0.len(),
        other.0.len()
    );
    false
}

/// Compares what is kept with what producers were told and what was read.
fn compare(
    verdict: &mut Verdict,
    kept: &BTreeMap<(PartitionIndex, Offset), Number>,
    acked: &[Acked],
    read: &History,
) {
    let mut places: HashMap<Number, Vec<(PartitionIndex, Offset)>> = HashMap::new();
    let mut last: HashMap<(PartitionIndex, u32), u64> = HashMap::new();
    for (place, number) in kept {
        places.entry(*number).or_default().push(*place);
        let before = last.insert((place.0, number.producer), number.index);
        verdict.reordered += usize::from(before.is_some_and(|before| before > number.index));
    }
    verdict.acked = acked.len();
    verdict.duplicated = places.values().map(|places| places.len() - 1).sum();
    for it in acked {
        match places.remove(&it.number) {
            None => verdict.lost += 1,
            Some(places) if places[0] != (it.partition, it.offset) => verdict.misplaced += 1,
            Some(_) => {}
        }
    }
    verdict.phantoms = places.len();
    let misread = read
        .records()
        .filter(|record| kept.get(&(record.partition, record.offset)) != Some(&Number::of(record)));
    verdict.misread = misread.count() + acked.len().saturating_sub(read.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: u64) -> Number {
        Number { producer: 1, index }
    }

    fn judged(kept: &[u64], acked: &[(u64, Offset)]) -> Verdict {
        let kept = (0..)
            .zip(kept)
            .map(|(offset, index)| ((0, offset), number(*index)));
        let acked: Vec<_> = acked
            .iter()
            .map(|(index, offset)| Acked {
                number: number(*index),
                partition: 0,
                offset: *offset,
            })
            .collect();
        let mut verdict = Verdict::default();
        compare(&mut verdict, &kept.collect(), &acked, &History::default());
        verdict
    }

    #[test]
    fn each_fault_has_a_name() {
        let clean = judged(&[7, 8], &[(7, 0), (8, 1)]);
        assert_eq!((clean.acked, clean.misread), (2, 2), "nothing was read");
        assert_eq!(clean.lost + clean.duplicated + clean.phantoms, 0);
        assert_eq!(clean.misplaced + clean.reordered, 0);
        assert_eq!(judged(&[7], &[(7, 0), (8, 1)]).lost, 1);
        assert_eq!(judged(&[7, 8, 8], &[(7, 0), (8, 1)]).duplicated, 1);
        assert_eq!(judged(&[7, 8], &[(7, 0)]).phantoms, 1);
        assert_eq!(judged(&[7, 8], &[(7, 0), (8, 2)]).misplaced, 1);
        assert_eq!(judged(&[8, 7], &[(8, 0), (7, 1)]).reordered, 1);
    }
}
