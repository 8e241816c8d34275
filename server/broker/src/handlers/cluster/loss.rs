//! A partition that goes on without what is lost, because an operator says so.

use std::collections::HashMap;

use millstream_metadata::Command;
use millstream_protocol::WireError;
use millstream_protocol::api::cluster::{AcceptLoss, LossDescription, LossReplica};

use super::of_partitions;
use crate::clock;
use crate::config::REPORT_LIMIT;
use crate::context::Context;
use crate::errors;
use crate::session::Session;

/// Tells what there is to be lost, and has it lost unless that is all that was asked.
pub(crate) async fn accept_loss(
    context: &Context,
    session: &Session,
    hops: u8,
    request: AcceptLoss,
) -> Result<LossDescription, WireError> {
    let AcceptLoss {
        topic,
        partition,
        broker_id,
        dry_run,
    } = request;
    let found = context.topic(&topic)?;
    let Some(placed) = found.partitions.get(partition as usize) else {
        let count = found.partitions.len();
        return Err(errors::unknown_partition(&topic, partition, count));
    };
    let at = found.at(partition);
    let command = Command::AcceptLoss {
        partition: at,
        broker_id,
        by: session.principal().to_owned(),
        at_ms: clock::now_ms(),
    };
    // The metadata knows topics by their identities.
    let named = |mut error: WireError| {
        let (id, name) = (at.to_string(), format!("{topic}-{partition}"));
        error.message = error.message.replace(&id, &name);
        error
    };
    let image = context.controller.check(&command).map_err(named)?;
    let is_live = |broker_id| image.is_live(broker_id);
    let living = placed.members().filter(|it| is_live(it.broker_id));
    let wanted: HashMap<_, _> = living.map(|it| (it.broker_id, vec![at])).collect();
    let mut told = of_partitions(context, hops, wanted, REPORT_LIMIT).await;
    let replicas = placed.members().map(|it| LossReplica {
        broker_id: it.broker_id,
        live: is_live(it.broker_id),
        trusted: it.trusted,
        told: told.remove(&(it.broker_id, at)),
    });
    let description = LossDescription {
        leader: placed.leader,
        leader_epoch: placed.leader_epoch,
        replicas: replicas.collect(),
    };
    if !dry_run {
        context.controller.execute(command).await.map_err(named)?;
        tracing::warn!(
            topic,
            partition,
            broker = broker_id,
            by = session.principal(),
            "the partition goes on with one replica alone: what only others had is lost"
        );
    }
    Ok(description)
}
