//! Plugins: deploy, list, describe, logs, remove.

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_protocol::api::plugin::{
    DeployPlugin, DeploymentDescription, DescribeDeployment, Follow, ListDeployments,
    ListDeploymentsResponse, OpenPluginLogs, PluginLogLine, RemoveDeployment, RetryDeadLetters,
    RetryDeadLettersResponse,
};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

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
        .deployments
        .deploy(request, component, session.principal())
        .await
}

pub(crate) async fn list(
    context: &Context,
    request: ListDeployments,
) -> Result<ListDeploymentsResponse, WireError> {
    context.deployments.list(request.after.as_deref()).await
}

pub(crate) async fn describe(
    context: &Context,
    request: DescribeDeployment,
) -> Result<DeploymentDescription, WireError> {
    context.deployments.describe(&request.name).await
}

pub(crate) async fn remove(context: &Context, request: RemoveDeployment) -> Result<(), WireError> {
    context.deployments.remove(&request.name).await
}

pub(crate) async fn retry_dead_letters(
    context: &Context,
    request: RetryDeadLetters,
) -> Result<RetryDeadLettersResponse, WireError> {
    context.deployments.retry_dead_letters(request).await
}

/// Lines of other brokers that wait to be sent; then those wait.
const MAX_QUEUED_LINES: usize = 256;

/// Serves a stream of log lines: those of all brokers, unless another one has asked for this one's.
pub(crate) async fn logs(
    context: &Context,
    hops: u8,
    request: OpenPluginLogs,
    sender: &mut FrameSender,
) -> Result<(), StreamEnd> {
    let logs = context.deployments.logs(&request.name)?;
    let (mut lines, live) = logs.follow(request.tail as usize);
    // Held on to, it would keep the log of a removed deployment open.
    drop(logs);
    let mut others = match hops {
        0 => others_logs(context, &request).await,
        _ => OthersLogs::default(),
    };
    lines.append(&mut others.lines);
    // All of them in the order of time, and of those the last.
    lines.sort_by_key(|line| line.at_ms);
    let surplus = lines.len().saturating_sub(request.tail as usize);
    for line in lines.drain(surplus..) {
        sender.send(&Ok::<_, WireError>(line)).await?;
    }
    match request.follow {
        Follow::No => Ok(()),
        Follow::Yes => follow_logs(live, others.live, sender).await,
    }
}

/// Sends the lines that come, until there will be no more of this broker's.
async fn follow_logs(
    mut live: broadcast::Receiver<PluginLogLine>,
    mut others: JoinedLines,
    sender: &mut FrameSender,
) -> Result<(), StreamEnd> {
    loop {
        let line = tokio::select! {
            line = live.recv() => match line {
                Ok(line) => line,
                // The reader is slower than the workers log: it misses lines, the broker keeps none more.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            Some(line) = others.lines.recv() => line,
            _ = sender.stopped() => return Ok(()),
        };
        sender.send(&Ok::<_, WireError>(line)).await?;
    }
}

/// What other brokers have logged and log.
#[derive(Default)]
struct OthersLogs {
    lines: Vec<PluginLogLine>,
    live: JoinedLines,
}

/// The lines that come of other brokers. Nobody reads them any more once it is dropped.
struct JoinedLines {
    lines: mpsc::Receiver<PluginLogLine>,
    _reading: JoinSet<()>,
}

impl Default for JoinedLines {
    fn default() -> Self {
        Self {
            lines: mpsc::channel(1).1,
            _reading: JoinSet::new(),
        }
    }
}

/// Asks the other brokers for their lines. Who does not answer is left out.
async fn others_logs(context: &Context, request: &OpenPluginLogs) -> OthersLogs {
    let (came, lines) = mpsc::channel(MAX_QUEUED_LINES);
    let mut all = OthersLogs::default();
    all.live.lines = lines;
    let kept = OpenPluginLogs {
        follow: Follow::No,
        ..request.clone()
    };
    for broker in context.cluster.others() {
        let mut receiver = match open_logs(context, broker, &kept).await {
            Ok(receiver) => receiver,
            Err(error) => {
                tracing::debug!(broker, %error, "a broker's lines are left out");
                continue;
            }
        };
        while let Some(line) = next_line(&mut receiver).await {
            all.lines.push(line);
        }
        if request.follow == Follow::No {
            continue;
        }
        // What is logged between the two is in neither: it is a log for people.
        let coming = OpenPluginLogs {
            tail: 0,
            ..request.clone()
        };
        if let Ok(mut receiver) = open_logs(context, broker, &coming).await {
            let came = came.clone();
            all.live._reading.spawn(async move {
                while let Some(line) = next_line(&mut receiver).await {
                    if came.send(line).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    all
}

async fn open_logs(
    context: &Context,
    broker: u32,
    request: &OpenPluginLogs,
) -> Result<FrameReceiver, WireError> {
    let request = RequestFrame::from_client(Request::OpenPluginLogs(request.clone()));
    let (mut sender, receiver) = context.cluster.open(broker, request, Bytes::new()).await?;
    // Nothing follows. It may have answered already.
    let _ = sender.finish().await;
    Ok(receiver)
}

async fn next_line(receiver: &mut FrameReceiver) -> Option<PluginLogLine> {
    let frame = receiver
        .receive::<Result<PluginLogLine, WireError>>(0)
        .await;
    frame.ok()??.body.ok()
}
