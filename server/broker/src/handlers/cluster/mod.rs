//! The cluster: its brokers and letting new ones in, how it stands, what becomes of its brokers and replicas.
//!
//! - `describe`: how the cluster stands; `replicas`: what one broker tells of its own
//! - `loss`: a partition that goes on without what is lost

mod describe;
mod loss;
mod replicas;

pub(crate) use describe::describe;
pub(crate) use loss::accept_loss;
pub(crate) use replicas::{describe_own, of_partitions};

use millstream_metadata::plan::{drain, imbalance, rebalance};
use millstream_metadata::{Command, JoinToken, TokenHash};
use millstream_protocol::api::cluster::{
    BrokerAddress, DescribeBrokersResponse, DrainBroker, Draining, IssueTicket, IssuedTicket,
    Rebalancing, RemoveBroker, UndrainBroker,
};
use millstream_protocol::limits::BROKERS_PER_LISTING;
use millstream_protocol::{ErrorCode, WireError};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::clock;
use crate::config::{MAX_FORESEEN_MOVES, QUORUM_RETRY, TICKET_PATIENCE};
use crate::context::Context;
use crate::errors;
use crate::session::Session;

pub(crate) fn describe_brokers(context: &Context) -> Result<DescribeBrokersResponse, WireError> {
    if !*context.cluster.touch().borrow() {
        return Err(WireError::new(
            ErrorCode::NotReady,
            "this broker has lost touch with its cluster: others may know more",
        ));
    }
    let image = context.controller.image();
    let brokers = image.brokers().map(|it| BrokerAddress {
        broker_id: it.broker_id,
        address: it.address.clone(),
        is_live: it.state.is_live(),
    });
    Ok(DescribeBrokersResponse {
        brokers: brokers.take(BROKERS_PER_LISTING).collect(),
    })
}

pub(crate) async fn issue_ticket(
    context: &Context,
    session: &Session,
    request: IssueTicket,
) -> Result<IssuedTicket, WireError> {
    // 244 random bits of the operating system's.
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let hash = TokenHash(Sha256::digest(token.as_bytes()).into());
    let issued_at_ms = clock::now_ms();
    let valid_ms = i64::try_from(request.valid_ms).unwrap_or(i64::MAX);
    let issued = JoinToken {
        hash,
        broker_id: 0,
        issued_at_ms,
        expires_at_ms: issued_at_ms.saturating_add(valid_ms),
        issued_by: session.principal().to_owned(),
    };
    let issued = issue(context, issued).await?;
    let image = context.controller.image();
    let brokers = image.brokers();
    Ok(IssuedTicket {
        cluster_id: context.data_dir.identity().cluster_id,
        broker_id: issued.broker_id,
        token,
        expires_at_ms: issued.expires_at_ms,
        brokers: brokers
            .map(|it| (it.broker_id, it.address.clone()))
            .collect(),
    })
}

/// Has a token issued for the next number. Another one may be quicker to get it: then it is the one behind.
async fn issue(context: &Context, mut token: JoinToken) -> Result<JoinToken, WireError> {
    let deadline = Instant::now() + TICKET_PATIENCE;
    loop {
        let next = context
            .controller
            .image()
            .next_broker_id(token.issued_at_ms);
        token.broker_id = next.ok_or_else(|| {
            WireError::new(
                ErrorCode::InvalidRequest,
                "there is no number left for a new broker",
            )
        })?;
        let command = Command::IssueJoinToken {
            token: token.clone(),
        };
        match context.controller.execute(command).await {
            Ok(_) => return Ok(token),
            Err(error) if error.code == ErrorCode::NotReady && Instant::now() < deadline => {
                // What the other one was given may not have come here yet.
                sleep(QUORUM_RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(crate) async fn drain_broker(
    context: &Context,
    request: DrainBroker,
) -> Result<Draining, WireError> {
    let DrainBroker { broker_id } = request;
    let command = Command::DrainBroker { broker_id };
    context.controller.execute(command).await?;
    let image = context.controller.image();
    Ok(Draining {
        keeps: image.replicas_on(broker_id) as u32,
        stuck: drain(&image, broker_id).stuck.len() as u32,
    })
}

pub(crate) async fn undrain_broker(
    context: &Context,
    request: UndrainBroker,
) -> Result<(), WireError> {
    let UndrainBroker { broker_id } = request;
    let command = Command::UndrainBroker { broker_id };
    context.controller.execute(command).await.map(drop)
}

pub(crate) async fn remove_broker(
    context: &Context,
    request: RemoveBroker,
) -> Result<(), WireError> {
    let RemoveBroker { broker_id } = request;
    let image = context.controller.image();
    if image.brokers().all(|it| it.broker_id == broker_id) {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("broker {broker_id} is the cluster's only one"),
        ));
    }
    let command = Command::RemoveBroker { broker_id };
    context.controller.execute(command).await.map(drop)
}

/// Gives the commands of the next step of the plan.
pub(crate) async fn rebalance_cluster(context: &Context) -> Result<Rebalancing, WireError> {
    let image = context.controller.image();
    let planned = millstream_offload::run(move || rebalance(&image)).await;
    let (mut leaders, mut moves) = (0, 0);
    for command in planned.map_err(errors::unfinished)? {
        match &command {
            Command::AppointLeaders { nominations } => leaders += nominations.len(),
            Command::ReassignPartitions { reassignments } => moves += reassignments.len(),
            _ => {}
        }
        context.controller.execute(command).await?;
    }
    let image = context.controller.image();
    let under_way = image.partitions().filter(|(_, it)| it.is_changing());
    let under_way = under_way.count();
    let ahead = millstream_offload::run(move || imbalance(&image, MAX_FORESEEN_MOVES)).await;
    Ok(Rebalancing {
        leaders: leaders as u32,
        moves: moves as u32,
        under_way: under_way as u32,
        ahead: ahead.map_err(errors::unfinished)? as u32,
    })
}
