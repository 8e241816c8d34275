//! Plugins: deploy, look, remove, and read their logs.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::Request as AnyRequest;
use millstream_protocol::api::plugin::{
    DeployPlugin, DeploymentDescription, DeploymentSpec, DescribeDeployment, FailureAction, Follow,
    ListDeployments, MissingTopics, OnExisting, OpenPluginLogs, PluginLogLine, RemoveDeployment,
    RetryDeadLetters,
};
use millstream_protocol::limits::MAX_COMPONENT_BYTES;

use super::topics::gone;
use super::{Admin, Request};
use crate::client::{Client, EarlierAttempt};
use crate::error::{Error, Result};
use crate::limits::{DEFAULT_LOG_TAIL, DEPLOY_TIMEOUT};
use crate::stream::receive_with_payload;

impl Admin {
    /// Deploys a plugin: a WebAssembly component, and what its workers are to do with it. The
    /// broker compiles it before it answers, so this may take minutes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a component that is too large,
    /// [`ErrorCode::DeploymentExists`], [`ErrorCode::ComponentRefused`],
    /// [`ErrorCode::CompilationFailed`], [`ErrorCode::SettingsRefused`],
    /// [`ErrorCode::UnknownTopic`].
    pub async fn deploy_plugin(
        &self,
        component: impl Into<Bytes>,
        spec: DeploymentSpec,
    ) -> Result<DeploymentDescription> {
        let request = among_its_topics(spec, OnExisting::Refuse);
        self.put_plugin(component, request).await
    }

    /// Deploys a plugin, or another version of it: a deployment of this name is replaced between
    /// two turns of its workers. How far it is, what it remembers and what waits to be tried again
    /// stay. A version that is refused changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Admin::deploy_plugin`], but for [`ErrorCode::DeploymentExists`].
    pub async fn replace_plugin(
        &self,
        component: impl Into<Bytes>,
        spec: DeploymentSpec,
    ) -> Result<DeploymentDescription> {
        let request = among_its_topics(spec, OnExisting::Replace);
        self.put_plugin(component, request).await
    }

    /// Upgrades a deployment to another component, other settings or both, as
    /// [`Admin::replace_plugin`] does.
    ///
    /// # Errors
    ///
    /// As [`Admin::replace_plugin`], and [`ErrorCode::UnknownDeployment`] when there is nothing to
    /// upgrade, [`ErrorCode::InvalidRequest`] when nothing would change.
    pub async fn upgrade_plugin(
        &self,
        component: impl Into<Bytes>,
        spec: DeploymentSpec,
    ) -> Result<DeploymentDescription> {
        let request = among_its_topics(spec, OnExisting::Upgrade);
        self.put_plugin(component, request).await
    }

    /// Deploys a plugin as a request says that has all there is to say: whether there may, or must, be a
    /// deployment of its name, and what becomes of topics that are not there. What is refused changes nothing
    /// and makes no topic.
    ///
    /// # Errors
    ///
    /// As [`Admin::deploy_plugin`] and [`Admin::upgrade_plugin`], and [`ErrorCode::InvalidRequest`] for topics
    /// that cannot be made.
    pub async fn put_plugin(
        &self,
        component: impl Into<Bytes>,
        request: DeployPlugin,
    ) -> Result<DeploymentDescription> {
        let (component, spec) = (component.into(), request.spec.clone());
        if component.len() > MAX_COMPONENT_BYTES {
            return Err(Error::invalid(format!(
                "component of {} bytes exceeds the limit of {MAX_COMPONENT_BYTES}",
                component.len()
            )));
        }
        let size = component.len() as u64;
        let (outcome, earlier) = self
            .client
            .call_with(request, Some(component), DEPLOY_TIMEOUT)
            .await;
        match outcome {
            // Perhaps our own first attempt: it is, as far as anyone can tell, if it is the same.
            Err(error)
                if earlier == EarlierAttempt::Lost
                    && matches!(
                        error.code(),
                        Some(ErrorCode::DeploymentExists | ErrorCode::InvalidRequest)
                    ) =>
            {
                match self.describe_plugin(spec.name.clone()).await {
                    Ok(it) if it.spec == spec && it.component_bytes == size => Ok(it),
                    _ => Err(error),
                }
            }
            outcome => outcome,
        }
    }

    /// All deployments, in name order.
    pub async fn list_plugins(&self) -> Result<Vec<DeploymentDescription>> {
        let mut listed: Vec<DeploymentDescription> = Vec::new();
        loop {
            let after = listed.last().map(|it| it.spec.name.clone());
            let part = self.client.call(ListDeployments { after }).await?;
            if part.more && part.deployments.is_empty() {
                return Err(Error::unexpected("a part of a listing with nothing in it"));
            }
            listed.extend(part.deployments);
            if !part.more {
                return Ok(listed);
            }
        }
    }

    /// One deployment with its workers.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn describe_plugin(&self, name: impl Into<String>) -> Result<DeploymentDescription> {
        self.client
            .call(DescribeDeployment { name: name.into() })
            .await
    }

    /// Stops a deployment's workers and forgets it. Its group and offsets stay.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn remove_plugin(&self, name: impl Into<String>) -> Result<()> {
        let request = RemoveDeployment { name: name.into() };
        let (outcome, earlier) = self
            .client
            .call_with(request, None, self.client.request_timeout())
            .await;
        gone(outcome, earlier, ErrorCode::UnknownDeployment)
    }

    /// Hands the dead letters of a deployment back to the workers that they came from, and takes
    /// them out of its dead-letter topic. They are handled like records that never failed; what
    /// fails again becomes a dead letter again. Gives how many there were.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`], [`ErrorCode::InvalidRequest`] when the deployment has no
    /// dead-letter topic or when a record there is none of its dead letters. Letters before that
    /// one are handed back.
    pub async fn retry_dead_letters(&self, name: impl Into<String>) -> Result<u64> {
        let name = name.into();
        let deployment = self.describe_plugin(name.clone()).await?;
        let FailureAction::DeadLetter { topic } = &deployment.spec.on_failure.finally else {
            return Err(Error::invalid(format!(
                "deployment {name} has no dead-letter topic"
            )));
        };
        let mut retried = 0;
        for partition in self.describe_topic(topic.clone()).await?.partitions {
            // What fails again meanwhile is not handed back for ever.
            let log = partition.known_log()?;
            let (number, before) = (partition.partition, log.high_watermark);
            let mut next = log.log_start_offset;
            while next < before {
                let request = RetryDeadLetters {
                    name: name.clone(),
                    partition: number,
                    before,
                };
                let response = self.client.call(request).await?;
                retried += response.retried;
                if response.next_offset <= next {
                    break;
                }
                next = response.next_offset;
            }
        }
        Ok(retried)
    }

    /// What a deployment's workers have logged, the oldest line first. Await the builder to open
    /// the stream.
    ///
    /// ```no_run
    /// # async fn example(client: millstream::Client) -> millstream::Result<()> {
    /// let mut logs = client.admin().plugin_logs("enrich-orders").tail(100).follow().await?;
    /// while let Some(line) = logs.next().await {
    ///     let line = line?;
    ///     println!("{:?} {}-{}: {}", line.level, line.topic, line.partition, line.message);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub fn plugin_logs(&self, name: impl Into<String>) -> PluginLogsBuilder {
        let request = OpenPluginLogs {
            name: name.into(),
            tail: DEFAULT_LOG_TAIL,
            follow: Follow::No,
        };
        PluginLogsBuilder {
            client: self.client.clone(),
            request,
        }
    }
}

/// Which log lines; made by [`Admin::plugin_logs`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "the stream is opened when this is awaited"]
pub struct PluginLogsBuilder {
    client: Client,
    request: OpenPluginLogs,
}

impl PluginLogsBuilder {
    /// At most this many of the lines kept, the newest.
    pub fn tail(mut self, lines: u32) -> Self {
        self.request.tail = lines;
        self
    }

    /// Goes on with the lines that come.
    pub fn follow(mut self) -> Self {
        self.request.follow = Follow::Yes;
        self
    }

    async fn open(self) -> Result<PluginLogs> {
        let streams = self
            .client
            .open_stream(AnyRequest::OpenPluginLogs(self.request))
            .await?;
        let lines = stream::unfold(Some(streams), |streams| async {
            let (sender, mut receiver) = streams?;
            match receive_with_payload::<PluginLogLine>(&mut receiver, 0).await {
                Ok(Some((line, _))) => Some((Ok(line), Some((sender, receiver)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(PluginLogs {
            lines: lines.boxed(),
        })
    }
}

impl IntoFuture for PluginLogsBuilder {
    type Output = Result<PluginLogs>;
    type IntoFuture = Request<PluginLogs>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Log lines of a deployment, the oldest first. It ends with the lines kept unless it follows; an
/// error, such as an unknown deployment or a lost connection, is its last item.
pub struct PluginLogs {
    lines: BoxStream<'static, Result<PluginLogLine>>,
}

impl PluginLogs {
    /// The next line; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<PluginLogLine>> {
        self.lines.next().await
    }
}

impl Stream for PluginLogs {
    type Item = Result<PluginLogLine>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_next_unpin(cx)
    }
}

impl fmt::Debug for PluginLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginLogs").finish_non_exhaustive()
    }
}

/// What deploys a plugin whose topics are there.
fn among_its_topics(spec: DeploymentSpec, on_existing: OnExisting) -> DeployPlugin {
    DeployPlugin {
        spec,
        on_existing,
        missing_topics: MissingTopics::Refuse,
    }
}
