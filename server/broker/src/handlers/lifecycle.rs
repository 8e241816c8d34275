//! The life of a deployment: pause, resume, history, roll-back, replay, promotion, and what it measures.

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_protocol::api::lifecycle::{
    ListRevisions, ListRevisionsResponse, PauseDeployment, ResumeDeployment, RollBackDeployment,
};
use millstream_protocol::api::metrics::{DescribePluginMetrics, DescribePluginMetricsResponse};
use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::api::replay::{
    DescribeReplay, PromoteDeployment, Replay, ReplayDeployment,
};

use crate::context::Context;
use crate::session::Session;

pub(crate) async fn pause(
    context: &Context,
    request: PauseDeployment,
) -> Result<DeploymentDescription, WireError> {
    context.deployments.pause(&request.name).await
}

pub(crate) async fn resume(
    context: &Context,
    request: ResumeDeployment,
) -> Result<DeploymentDescription, WireError> {
    context.deployments.resume(&request.name).await
}

pub(crate) async fn metrics(
    context: &Context,
    request: DescribePluginMetrics,
) -> Result<DescribePluginMetricsResponse, WireError> {
    context.deployments.metrics(request).await
}

pub(crate) fn revisions(
    context: &Context,
    request: ListRevisions,
) -> Result<ListRevisionsResponse, WireError> {
    context.deployments.revisions(&request.name)
}

pub(crate) async fn roll_back(
    context: &Context,
    session: &Session,
    request: RollBackDeployment,
) -> Result<DeploymentDescription, WireError> {
    let by = session.principal();
    context.deployments.roll_back(request, by).await
}

pub(crate) async fn replay(
    context: &Context,
    session: &Session,
    request: ReplayDeployment,
    component: Bytes,
) -> Result<DeploymentDescription, WireError> {
    let by = session.principal();
    context.deployments.replay(request, component, by).await
}

pub(crate) fn describe_replay(
    context: &Context,
    request: DescribeReplay,
) -> Result<Replay, WireError> {
    context.deployments.describe_replay(&request.shadow)
}

pub(crate) async fn promote(
    context: &Context,
    session: &Session,
    request: PromoteDeployment,
) -> Result<DeploymentDescription, WireError> {
    let by = session.principal();
    context.deployments.promote(request, by).await
}
