//! Topics: create, describe, alter, delete.

use std::collections::HashMap;

use millstream_metadata::topic::Topic;
use millstream_metadata::{Actor, Command, Image, Replica};
use millstream_protocol::api::topic::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopics, DescribeTopicsResponse,
    PartitionDescription, PartitionLog, TopicDescription, TopicDetail, TopicSelection,
};
use millstream_protocol::limits::{MAX_ITEMS_PER_REQUEST, PARTITIONS_PER_LISTING};
use millstream_protocol::{TopicId, TopicPartition, WireError};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::config::{LED_CHECK, LED_PATIENCE, REPORT_LIMIT};
use crate::context::Context;
use crate::handlers::check_items;
use crate::handlers::cluster::of_partitions;

pub(crate) async fn describe(
    context: &Context,
    hops: u8,
    request: DescribeTopics,
) -> Result<DescribeTopicsResponse, WireError> {
    let image = context.controller.image();
    let mut chosen: Vec<&Topic> = match request.topics {
        TopicSelection::AllWithInternal => image.topics().collect(),
        TopicSelection::All => image
            .topics()
            .filter(|topic| !millstream_metadata::names::is_internal(&topic.name))
            .collect(),
        TopicSelection::Named(names) => {
            check_items("topics", names.len(), MAX_ITEMS_PER_REQUEST)?;
            let found = names.iter().map(|name| {
                image
                    .topic(name)
                    .ok_or_else(|| crate::errors::unknown_topic(name))
            });
            found.collect::<Result<_, _>>()?
        }
    };
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    let (page, more) = page(&chosen, request.after.as_deref(), PARTITIONS_PER_LISTING);
    let logs = match request.detail {
        TopicDetail::Placement => Logs::new(),
        TopicDetail::Logs => logs(context, hops, page).await,
    };
    let topics = page.iter().map(|topic| description(&image, topic, &logs));
    Ok(DescribeTopicsResponse {
        topics: topics.collect(),
        more,
    })
}

/// Of topics in name order, the ones behind `after` that go into one response, and whether there
/// are more: at least one, and further ones as long as they have no more than `max_partitions`.
fn page<'a, 'b>(
    topics: &'a [&'b Topic],
    after: Option<&str>,
    max_partitions: usize,
) -> (&'a [&'b Topic], bool) {
    let start = after.map_or(0, |after| {
        topics.partition_point(|topic| topic.name.as_str() <= after)
    });
    let rest = &topics[start..];
    let mut partitions = 0;
    let fit = rest.iter().take_while(|topic| {
        partitions += topic.partitions.len();
        partitions <= max_partitions
    });
    let count = fit.count().max(1).min(rest.len());
    (&rest[..count], count < rest.len())
}

pub(crate) async fn create(
    context: &Context,
    request: CreateTopic,
) -> Result<TopicDescription, WireError> {
    let name = request.name.clone();
    let topic_id = TopicId(Uuid::new_v4());
    let command = Command::CreateTopic {
        topic_id,
        topic: request,
        actor: Actor::User,
    };
    context.controller.execute(command).await?;
    updated(context, &name).await
}

pub(crate) async fn alter(
    context: &Context,
    request: AlterTopic,
) -> Result<TopicDescription, WireError> {
    let name = request.name.clone();
    context
        .controller
        .execute(Command::AlterTopic {
            change: request,
            actor: Actor::User,
        })
        .await?;
    updated(context, &name).await
}

pub(crate) async fn delete(context: &Context, request: DeleteTopic) -> Result<(), WireError> {
    context
        .controller
        .execute(Command::DeleteTopic {
            topic: request.name,
            actor: Actor::User,
        })
        .await?;
    context.group_office.followed().await;
    Ok(())
}

/// Describes a topic that was made or has changed, once whoever asked may use it: groups know of it, and
/// its partitions are led, as far as their brokers are there.
async fn updated(context: &Context, name: &str) -> Result<TopicDescription, WireError> {
    context.group_office.followed().await;
    let deadline = Instant::now() + LED_PATIENCE;
    loop {
        let topic = context.topic(name)?;
        let image = context.controller.image();
        let logs = logs(context, 0, &[&topic]).await;
        let mut partitions = (0..).zip(&topic.partitions);
        let all_led = partitions.all(|(number, placed)| {
            !image.has_leader(placed) || logs.contains_key(&topic.at(number))
        });
        if all_led || Instant::now() >= deadline {
            return Ok(description(&image, &topic, &logs));
        }
        sleep(LED_CHECK).await;
    }
}

/// What the leaders of partitions say of their logs.
type Logs = HashMap<TopicPartition, PartitionLog>;

/// Asks the leaders that are there, each once. What does not come soon is not among them.
async fn logs(context: &Context, hops: u8, topics: &[&Topic]) -> Logs {
    let image = context.controller.image();
    let mut wanted: HashMap<u32, Vec<TopicPartition>> = HashMap::new();
    for topic in topics {
        for (number, placed) in (0..).zip(&topic.partitions) {
            if image.has_leader(placed) {
                let led = wanted.entry(placed.leader).or_default();
                led.push(topic.at(number));
            }
        }
    }
    let told = of_partitions(context, hops, wanted, REPORT_LIMIT).await;
    let logs = told.into_iter().filter_map(|((_, partition), replica)| {
        // One that is damaged, and that nobody else has, is led no more and can be read.
        let is_led = replica.leading.is_some() || replica.damage.is_some();
        let log = PartitionLog {
            log_start_offset: replica.log_start_offset,
            high_watermark: replica.high_watermark,
            log_end_offset: replica.log_end_offset,
            flushed_offset: replica.flushed_offset,
            size_bytes: replica.size_bytes,
            damage: replica.damage,
        };
        is_led.then_some((partition, log))
    });
    logs.collect()
}

fn description(image: &Image, topic: &Topic, logs: &Logs) -> TopicDescription {
    let partitions = (0..).zip(&topic.partitions).map(|(number, placed)| {
        let members = |is_so: &dyn Fn(&Replica) -> bool| -> Vec<u32> {
            let chosen = placed.members().filter(|it| is_so(it));
            chosen.map(|it| it.broker_id).collect()
        };
        let has = |set: &[Replica], replica: &Replica| {
            set.iter().any(|it| it.broker_id == replica.broker_id)
        };
        PartitionDescription {
            partition: number,
            leader: placed.leader,
            leader_epoch: placed.leader_epoch,
            replicas: members(&|_| true),
            untrusted: members(&|it| !it.trusted),
            offline: members(&|it| !image.is_live(it.broker_id)),
            joining: members(&|it| !has(&placed.replicas, it)),
            leaving: members(&|it| !has(placed.target(), it)),
            log: logs.get(&topic.at(number)).cloned(),
        }
    });
    TopicDescription {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        config: topic.config.clone(),
        partitions: partitions.collect(),
    }
}

#[cfg(test)]
mod tests {
    use millstream_metadata::{DirectoryNumber, Partition, Replica};
    use millstream_protocol::api::topic::TopicConfig;

    use super::*;

    fn topic(name: &str, partitions: usize) -> Topic {
        let replica = Replica::new(1, DirectoryNumber::FIRST);
        let partition = Partition::new(vec![replica]).expect("a replica");
        Topic {
            topic_id: TopicId(Uuid::nil()),
            name: name.to_owned(),
            config: TopicConfig::default(),
            partitions: vec![partition; partitions],
        }
    }

    #[test]
    fn listings_go_on_where_they_ended() {
        let topics = [topic("a", 3), topic("b", 4), topic("c", 9), topic("d", 1)];
        let all: Vec<&Topic> = topics.iter().collect();
        let check = |after: Option<&str>, max_partitions, expected: &[&str], more| {
            let (part, found_more) = page(&all, after, max_partitions);
            let names: Vec<_> = part.iter().map(|topic| topic.name.as_str()).collect();
            assert_eq!((names.as_slice(), found_more), (expected, more));
        };
        check(None, 100, &["a", "b", "c", "d"], false);
        check(None, 7, &["a", "b"], true);
        check(Some("b"), 7, &["c"], true);
        check(Some("c"), 7, &["d"], false);
        check(Some("bb"), 10, &["c", "d"], false);
        check(Some("d"), 7, &[], false);
    }
}
