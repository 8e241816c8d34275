//! The cluster: its brokers, and letting new ones in.

use millstream_metadata::{Command, JoinToken, TokenHash};
use millstream_protocol::api::cluster::{
    BrokerAddress, DescribeBrokersResponse, IssueTicket, IssuedTicket,
};
use millstream_protocol::limits::BROKERS_PER_LISTING;
use millstream_protocol::{ErrorCode, WireError};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock;
use crate::context::Context;
use crate::session::Session;

pub(crate) fn describe_brokers(context: &Context) -> DescribeBrokersResponse {
    let image = context.controller.image();
    let brokers = image.brokers().map(|it| BrokerAddress {
        broker_id: it.broker_id,
        address: it.address.clone(),
    });
    DescribeBrokersResponse {
        brokers: brokers.take(BROKERS_PER_LISTING).collect(),
    }
}

pub(crate) async fn issue_ticket(
    context: &Context,
    session: &Session,
    request: IssueTicket,
) -> Result<IssuedTicket, WireError> {
    if context.controller.image().deployments().next().is_some() {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            "there are deployments, and plugins do not run in a cluster of several brokers yet: remove \
             them first (`millstream plugin list` shows them)",
        ));
    }
    // 244 random bits of the operating system's.
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let hash = TokenHash(Sha256::digest(token.as_bytes()).into());
    let issued_at_ms = clock::now_ms();
    let valid_ms = i64::try_from(request.valid_ms).unwrap_or(i64::MAX);
    let expires_at_ms = issued_at_ms.saturating_add(valid_ms);
    let token_known = JoinToken {
        hash,
        issued_at_ms,
        expires_at_ms,
        issued_by: session.principal().to_owned(),
    };
    let command = Command::IssueJoinToken { token: token_known };
    context.controller.execute(command).await?;
    let image = context.controller.image();
    let brokers: Vec<(u32, String)> = image
        .brokers()
        .map(|it| (it.broker_id, it.address.clone()))
        .collect();
    let highest = brokers.iter().map(|(number, _)| *number).max();
    Ok(IssuedTicket {
        cluster_id: context.data_dir.identity().cluster_id,
        broker_id: highest.unwrap_or_default() + 1,
        token,
        expires_at_ms,
        brokers,
    })
}
