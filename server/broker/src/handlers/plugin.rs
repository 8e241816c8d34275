//! Plugins: deploy, list, describe, logs, remove.

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_protocol::api::plugin::{
    DeployPlugin, DeploymentDescription, DescribeDeployment, Follow, ListDeployments,
    ListDeploymentsResponse, OpenPluginLogs, RemoveDeployment, RetryDeadLetters,
    RetryDeadLettersResponse,
};
use millstream_transport::FrameSender;
use tokio::sync::broadcast::error::RecvError;

use crate::context::Context;
use crate::handlers::StreamEnd;
use crate::session::Session;

pub(crate) async fn deploy(
    context: &Context,
    session: &Session,
    request: DeployPlugin,
    component: Bytes,
) -> Result<DeploymentDescription, WireError> {
    context
        .deployments()?
        .deploy(request, component, session.principal())
        .await
}

pub(crate) fn list(
    context: &Context,
    request: ListDeployments,
) -> Result<ListDeploymentsResponse, WireError> {
    context.deployments()?.list(request.after.as_deref())
}

pub(crate) fn describe(
    context: &Context,
    request: DescribeDeployment,
) -> Result<DeploymentDescription, WireError> {
    context.deployments()?.describe(&request.name)
}

pub(crate) async fn remove(context: &Context, request: RemoveDeployment) -> Result<(), WireError> {
    context.deployments()?.remove(&request.name).await
}

pub(crate) async fn retry_dead_letters(
    context: &Context,
    request: RetryDeadLetters,
) -> Result<RetryDeadLettersResponse, WireError> {
    context.deployments()?.retry_dead_letters(request).await
}

/// Serves a stream of log lines.
pub(crate) async fn logs(
    context: &Context,
    request: OpenPluginLogs,
    sender: &mut FrameSender,
) -> Result<(), StreamEnd> {
    let logs = context.deployments()?.logs(&request.name)?;
    let (lines, mut live) = logs.follow(request.tail as usize);
    // Held on to, it would keep the log of a removed deployment open.
    drop(logs);
    for line in lines {
        sender.send(&Ok::<_, WireError>(line)).await?;
    }
    if request.follow == Follow::No {
        return Ok(());
    }
    loop {
        let line = tokio::select! {
            line = live.recv() => line,
            _ = sender.stopped() => return Ok(()),
        };
        match line {
            Ok(line) => sender.send(&Ok::<_, WireError>(line)).await?,
            // The reader is slower than the workers log: it misses lines, the broker keeps none more.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
