//! `millstream cluster recover`: a partition goes on without what is lost.

use clap::Args;
use millstream::cluster::{LossDescription, LossReplica};
use serde::Serialize;

use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::{Table, View, count, counted};

#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,

    /// The partition's number
    #[arg(value_name = "PARTITION")]
    partition: u32,

    /// Says that what only other replicas had is lost for good
    #[arg(long, required = true)]
    accept_loss: bool,

    /// The broker with whose replica alone the partition goes on, as it is
    #[arg(long, value_name = "BROKER")]
    broker: u32,

    /// Does it; otherwise it is only shown what there is to be lost
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: RecoverArgs, context: &Context) -> anyhow::Result<()> {
    let RecoverArgs {
        topic,
        partition,
        accept_loss: _,
        broker,
        yes,
    } = args;
    let admin = context.admin().await?;
    let loss = match yes {
        true => admin.accept_loss(&topic, partition, broker).await?,
        false => admin.foresee_loss(&topic, partition, broker).await?,
    };
    context
        .output
        .print(&LossView::of(&topic, partition, broker, yes, &loss))?;
    if yes {
        return Ok(());
    }
    Err(Problem::new(Exit::Refused, "nothing was changed")
        .advise(format!(
            "start the brokers that are gone, if they can be: nothing is lost then; or say the same again with \
             `--yes`, and {topic}-{partition} goes on with what broker {broker} has"
        ))
        .into())
}

/// What is lost, or would be.
#[derive(Debug, Serialize)]
struct LossView {
    topic: String,
    partition: u32,
    /// The broker with whose replica the partition goes on.
    broker_id: u32,
    /// Whether it is done.
    accepted: bool,
    /// Who led before, and in which epoch.
    leader: u32,
    leader_epoch: u32,
    replicas: Vec<ReplicaView>,
}

#[derive(Debug, Serialize)]
struct ReplicaView {
    broker_id: u32,
    live: bool,
    /// Whether it has all that it ever acknowledged, as far as the cluster knows.
    trusted: bool,
    /// The rest is what its broker says; `null`: unknown.
    log_start_offset: Option<u64>,
    high_watermark: Option<u64>,
    flushed_offset: Option<u64>,
    log_end_offset: Option<u64>,
    /// `null`: none is known.
    damage: Option<String>,
}

impl LossView {
    fn of(
        topic: &str,
        partition: u32,
        broker_id: u32,
        accepted: bool,
        loss: &LossDescription,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            broker_id,
            accepted,
            leader: loss.leader,
            leader_epoch: loss.leader_epoch,
            replicas: loss.replicas.iter().map(ReplicaView::of).collect(),
        }
    }

    /// What is lost, as far as anybody can say.
    fn consequences(&self) -> Vec<String> {
        let kept = self
            .replicas
            .iter()
            .find(|it| it.broker_id == self.broker_id);
        let end = kept.and_then(|it| it.log_end_offset);
        let mut lines = vec![match end {
            Some(end) => format!("kept: what is below offset {}", count(end)),
            None => format!("kept: nobody knows; broker {} does not say", self.broker_id),
        }];
        for other in &self.replicas {
            let broker_id = other.broker_id;
            match (other.log_end_offset, end) {
                _ if broker_id == self.broker_id => {}
                (Some(theirs), Some(end)) if theirs > end => lines.push(format!(
                    "lost: {} that broker {broker_id} has beyond that",
                    counted(theirs - end, "offset")
                )),
                (Some(_), Some(_)) => {}
                (None, _) | (_, None) => lines.push(format!(
                    "lost: what broker {broker_id} has beyond that, which nobody knows"
                )),
            }
        }
        lines
    }
}

impl ReplicaView {
    fn of(replica: &LossReplica) -> Self {
        let told = replica.told.as_ref();
        Self {
            broker_id: replica.broker_id,
            live: replica.live,
            trusted: replica.trusted,
            log_start_offset: told.map(|it| it.log_start_offset),
            high_watermark: told.map(|it| it.high_watermark),
            flushed_offset: told.map(|it| it.flushed_offset),
            log_end_offset: told.map(|it| it.log_end_offset),
            damage: told.and_then(|it| it.damage.clone()),
        }
    }
}

impl View for LossView {
    fn text(&self) -> String {
        let verb = match self.accepted {
            true => "goes on",
            false => "would go on",
        };
        let columns = &[
            "#BROKER",
            "THERE",
            "TRUSTED",
            "#FIRST OFFSET",
            "#HIGH WATERMARK",
            "#FLUSHED",
            "#END",
            "STATE",
        ];
        let yes = |it| if it { "yes" } else { "no" }.to_owned();
        let offset = |it: Option<u64>| it.map_or_else(|| "unknown".to_owned(), count);
        let mut table = Table::new(columns, "no replicas");
        for it in &self.replicas {
            table.row([
                it.broker_id.to_string(),
                yes(it.live),
                yes(it.trusted),
                offset(it.log_start_offset),
                offset(it.high_watermark),
                offset(it.flushed_offset),
                offset(it.log_end_offset),
                match (&it.damage, it.log_end_offset) {
                    (Some(damage), _) => format!("damaged: {damage}"),
                    (None, Some(_)) => "ok".to_owned(),
                    (None, None) => "unknown".to_owned(),
                },
            ]);
        }
        let mut text = format!(
            "{}-{} {verb} with the replica of broker {} alone; it was led by broker {} in epoch {}\n\n{}\n",
            self.topic,
            self.partition,
            self.broker_id,
            self.leader,
            self.leader_epoch,
            table.text()
        );
        for line in self.consequences() {
            text.push_str(&line);
            text.push('\n');
        }
        if self.accepted && self.replicas.len() > 1 {
            text.push_str("it gets further replicas by `millstream cluster rebalance`, once there are brokers for them\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use millstream::TopicId;
    use millstream::cluster::ReplicaDescription;
    use millstream_protocol::TopicPartition;
    use uuid::Uuid;

    use super::*;
    use crate::output::both_forms;

    fn replica(broker_id: u32, trusted: bool, end: Option<u64>) -> LossReplica {
        LossReplica {
            broker_id,
            live: end.is_some(),
            trusted,
            told: end.map(|end| ReplicaDescription {
                partition: TopicPartition {
                    topic_id: TopicId(Uuid::nil()),
                    partition: 0,
                },
                leading: None,
                log_start_offset: 0,
                high_watermark: end.saturating_sub(5),
                log_end_offset: end,
                flushed_offset: end,
                size_bytes: 100,
                damage: (broker_id == 3).then(|| "bad checksum at offset 12".to_owned()),
            }),
        }
    }

    #[test]
    fn what_there_is_to_be_lost_is_told() {
        let loss = LossDescription {
            leader: 1,
            leader_epoch: 7,
            replicas: vec![
                replica(1, true, None),
                replica(2, true, Some(1_200)),
                replica(3, false, Some(1_500)),
            ],
        };
        let view = |accepted| LossView::of("orders", 0, 2, accepted, &loss);
        insta::assert_snapshot!(view(false).text(), @r"
        orders-0 would go on with the replica of broker 2 alone; it was led by broker 1 in epoch 7

        BROKER  THERE  TRUSTED  FIRST OFFSET  HIGH WATERMARK  FLUSHED      END  STATE
             1  no     yes           unknown         unknown  unknown  unknown  unknown
             2  yes    yes                 0           1,195    1,200    1,200  ok
             3  yes    no                  0           1,495    1,500    1,500  damaged: bad checksum at offset 12

        kept: what is below offset 1,200
        lost: what broker 1 has beyond that, which nobody knows
        lost: 300 offsets that broker 3 has beyond that
        ");
        insta::assert_snapshot!(both_forms(&view(true)), @r#"
        orders-0 goes on with the replica of broker 2 alone; it was led by broker 1 in epoch 7

        BROKER  THERE  TRUSTED  FIRST OFFSET  HIGH WATERMARK  FLUSHED      END  STATE
             1  no     yes           unknown         unknown  unknown  unknown  unknown
             2  yes    yes                 0           1,195    1,200    1,200  ok
             3  yes    no                  0           1,495    1,500    1,500  damaged: bad checksum at offset 12

        kept: what is below offset 1,200
        lost: what broker 1 has beyond that, which nobody knows
        lost: 300 offsets that broker 3 has beyond that
        it gets further replicas by `millstream cluster rebalance`, once there are brokers for them
        ---
        {
          "topic": "orders",
          "partition": 0,
          "broker_id": 2,
          "accepted": true,
          "leader": 1,
          "leader_epoch": 7,
          "replicas": [
            {
              "broker_id": 1,
              "live": false,
              "trusted": true,
              "log_start_offset": null,
              "high_watermark": null,
              "flushed_offset": null,
              "log_end_offset": null,
              "damage": null
            },
            {
              "broker_id": 2,
              "live": true,
              "trusted": true,
              "log_start_offset": 0,
              "high_watermark": 1195,
              "flushed_offset": 1200,
              "log_end_offset": 1200,
              "damage": null
            },
            {
              "broker_id": 3,
              "live": true,
              "trusted": false,
              "log_start_offset": 0,
              "high_watermark": 1495,
              "flushed_offset": 1500,
              "log_end_offset": 1500,
              "damage": "bad checksum at offset 12"
            }
          ]
        }
        "#);
    }
}
