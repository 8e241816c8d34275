//! What a broker tells of its own replicas, and what others tell of theirs.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_protocol::api::cluster::{
    DescribeReplicas, DescribeReplicasResponse, DiskSpace, ReplicaDescription, ReplicaSelection,
};
use millstream_protocol::limits::{LISTED_DAMAGE_BYTES, REPLICAS_PER_LISTING};
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use tokio::time::timeout;

use crate::context::Context;
use crate::handlers::hello::SOFTWARE;
use crate::partition::Partition;

/// What this broker is, and the replicas that it keeps.
pub(crate) fn describe_own(
    context: &Context,
    request: DescribeReplicas,
) -> Result<DescribeReplicasResponse, WireError> {
    let replicas = match request.replicas {
        ReplicaSelection::All => {
            let all = context.partitions.all();
            let fit = all.len() <= REPLICAS_PER_LISTING;
            fit.then(|| all.iter().map(describe).collect())
        }
        ReplicaSelection::Of(wanted) if wanted.len() > REPLICAS_PER_LISTING => {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "the request names {} replicas, more than {REPLICAS_PER_LISTING}",
                    wanted.len()
                ),
            ));
        }
        ReplicaSelection::Of(wanted) => {
            let kept = wanted.iter().filter_map(|id| context.partitions.get(*id));
            Some(kept.map(|it| describe(&it)).collect())
        }
    };
    Ok(DescribeReplicasResponse {
        broker_id: context.me(),
        software: SOFTWARE.to_owned(),
        uptime_ms: context.started.elapsed().as_millis() as u64,
        disk: disk(context),
        replicas,
    })
}

fn describe(partition: &Partition) -> ReplicaDescription {
    let (visible, status) = (partition.visible(), partition.status());
    ReplicaDescription {
        partition: partition.id(),
        leading: partition.leading(),
        log_start_offset: visible.log_start_offset,
        high_watermark: visible.high_watermark,
        log_end_offset: status.log_end_offset,
        flushed_offset: status.flushed_offset,
        size_bytes: status.size_bytes,
        damage: status.damage.map(shortened),
    }
}

fn shortened(mut damage: String) -> String {
    damage.truncate(damage.floor_char_boundary(LISTED_DAMAGE_BYTES));
    damage
}

/// What the operating system says of the disk, where it says anything.
fn disk(context: &Context) -> Option<DiskSpace> {
    let stat = rustix::fs::statvfs(context.data_dir.topics()).ok()?;
    let all = context.partitions.all();
    Some(DiskSpace {
        used_bytes: all.iter().map(|it| it.status().size_bytes).sum(),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Asks these brokers at the same time, each for what stands beside it. Who does not answer soon is not
/// among the answers.
pub(super) async fn ask_all(
    context: &Context,
    hops: u8,
    questions: impl IntoIterator<Item = (u32, ReplicaSelection)>,
    patience: Duration,
) -> Vec<DescribeReplicasResponse> {
    let asking = questions.into_iter().map(|(broker_id, replicas)| async move {
        let request = DescribeReplicas { replicas };
        if broker_id == context.me() {
            return describe_own(context, request).ok();
        }
        let asked = context.cluster.ask(broker_id, hops, request);
        match timeout(patience, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(broker = broker_id, %error, "a broker does not tell of its replicas");
                None
            }
            Err(_) => {
                tracing::debug!(broker = broker_id, "a broker does not tell of its replicas soon");
                None
            }
        }
    });
    join_all(asking).await.into_iter().flatten().collect()
}

/// What the brokers beside them tell of these partitions. Of whom does not answer soon, and of what a broker
/// does not keep, there is nothing.
pub(crate) async fn of_partitions(
    context: &Context,
    hops: u8,
    wanted: HashMap<u32, Vec<TopicPartition>>,
    patience: Duration,
) -> HashMap<(u32, TopicPartition), ReplicaDescription> {
    let mut questions = Vec::new();
    for (broker_id, partitions) in wanted {
        for part in partitions.chunks(REPLICAS_PER_LISTING) {
            questions.push((broker_id, ReplicaSelection::Of(part.to_vec())));
        }
    }
    let answers = ask_all(context, hops, questions, patience).await;
    let told = answers.into_iter().flat_map(|answer| {
        let broker_id = answer.broker_id;
        let replicas = answer.replicas.unwrap_or_default();
        replicas
            .into_iter()
            .map(move |it| ((broker_id, it.partition), it))
    });
    told.collect()
}
