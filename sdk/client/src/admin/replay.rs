//! Replay: a shadow of a deployment over history, how it differs from the live one, and its
//! promotion.

use bytes::Bytes;
use millstream_protocol::ErrorCode;
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::plugin::{DeploymentDescription, DeploymentSpec};
use millstream_protocol::api::replay::{
    DescribeReplay, PromoteDeployment, Replay, ReplayDeployment, default_shadow,
};

use super::{Admin, Request};
use crate::client::{Client, EarlierAttempt};
use crate::diff::{self, PluginDiff};
use crate::error::{Error, Result};
use crate::limits::DEPLOY_TIMEOUT;

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Records that it has still to read.
    pub to_read: u64,
    /// Records that wait to be tried again.
    pub parked: u64,
    /// Records that it has read behind what was to be replayed, as while it is promoted.
    pub beyond: u64,
}

impl ReplayProgress {
    /// Whether it has handled all that was to be replayed.
    pub fn is_done(&self) -> bool {
        self.to_read == 0 && self.parked == 0
    }
}

impl Admin {
    /// Runs a deployment over history, beside the live one: as a *shadow* with a group, a state and
    /// output topics of its own. The live deployment's offsets and outputs are not touched. Await the
    /// builder to start it.
    ///
    /// ```no_run
    /// # async fn example(client: millstream::Client, new: Vec<u8>) -> millstream::Result<()> {
    /// let admin = client.admin();
    /// let shadow = admin.replay_plugin("quake-alert").component(new).await?;
    /// while !admin.replay_progress(&shadow.spec.name).await?.is_done() {
    ///     tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    /// }
    /// let diff = admin.diff_plugin(&shadow.spec.name, 10).await?;
    /// if diff.is_same() {
    ///     admin.promote_plugin("quake-alert", &shadow.spec.name).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`], [`ErrorCode::DeploymentExists`] when the shadow's name is
    /// taken, [`ErrorCode::TopicExists`] when its topics are there already, and those of
    /// [`Admin::deploy_plugin`].
    pub fn replay_plugin(&self, name: impl Into<String>) -> ReplayBuilder {
        let name = name.into();
        let request = ReplayDeployment {
            shadow: default_shadow(&name),
            name,
            spec: None,
            from: Position::Earliest,
            until: None,
        };
        ReplayBuilder {
            client: self.client.clone(),
            request,
            component: Bytes::new(),
        }
    }

    /// What a shadow replays.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`], [`ErrorCode::InvalidRequest`] when it is no shadow.
    pub async fn describe_replay(&self, shadow: impl Into<String>) -> Result<Replay> {
        let shadow = shadow.into();
        self.client.call(DescribeReplay { shadow }).await
    }

    /// How far a shadow is.
    ///
    /// # Errors
    ///
    /// As [`Admin::describe_replay`].
    pub async fn replay_progress(&self, shadow: impl Into<String>) -> Result<ReplayProgress> {
        let shadow = shadow.into();
        let replay = self.describe_replay(shadow.clone()).await?;
        let described = self.describe_plugin(shadow).await?;
        let mut progress = ReplayProgress {
            to_read: 0,
            parked: described.workers.iter().map(|worker| worker.parked).sum(),
            beyond: 0,
        };
        for input in &replay.inputs {
            for (partition, range) in (0..).zip(&input.partitions) {
                let mut workers = described.workers.iter();
                let at = workers.find(|it| it.topic == input.topic && it.partition == partition);
                let at = at.map_or(range.from, |worker| worker.committed_offset);
                progress.to_read += range.until.saturating_sub(at.max(range.from));
                progress.beyond += at.saturating_sub(range.until);
            }
        }
        Ok(progress)
    }

    /// Compares what a shadow has written with what its live deployment wrote of the same records:
    /// the counts, and at most `limit` of the differences, the oldest.
    ///
    /// Records are compared by key, value, headers and timestamp, wherever they lie: of several
    /// input partitions each deployment may have written in another order. What is left on both
    /// sides is matched by key and timestamp, which is the input's unless the plugin sets another,
    /// or by value.
    ///
    /// # Errors
    ///
    /// As [`Admin::describe_replay`], and [`Error::InvalidArgument`] when the replay is not done.
    pub async fn diff_plugin(&self, shadow: impl Into<String>, limit: usize) -> Result<PluginDiff> {
        let shadow = shadow.into();
        let progress = self.replay_progress(shadow.clone()).await?;
        if !progress.is_done() {
            return Err(Error::invalid(format!(
                "the replay {shadow} is not done: {} records to read, {} to try again",
                progress.to_read, progress.parked
            )));
        }
        if progress.beyond > 0 {
            return Err(Error::invalid(format!(
                "the replay {shadow} has gone on to be promoted: promote it or replay anew"
            )));
        }
        let replay = self.describe_replay(shadow.clone()).await?;
        diff::compare(&self.client, shadow, replay, limit).await
    }

    /// Puts a shadow in the place of its live deployment, once both have come to the same offsets:
    /// its component and settings, and its state, which it has built from history. Every record is
    /// handled by one of them. The shadow is gone afterwards, with its topics and its group. Await the
    /// builder to do it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`], [`ErrorCode::InvalidRequest`] when it is no shadow of this
    /// deployment, or has replayed a part of history and remembers things, [`ErrorCode::NotAtRest`] when
    /// the two do not meet. The live one goes on as before then.
    pub fn promote_plugin(
        &self,
        name: impl Into<String>,
        shadow: impl Into<String>,
    ) -> PromoteBuilder {
        PromoteBuilder {
            client: self.client.clone(),
            request: PromoteDeployment {
                name: name.into(),
                shadow: shadow.into(),
                partial_state: false,
            },
        }
    }
}

/// What is promoted; made by [`Admin::promote_plugin`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "the shadow is promoted when this is awaited"]
pub struct PromoteBuilder {
    client: Client,
    request: PromoteDeployment,
}

impl PromoteBuilder {
    /// Promotes it though it has replayed a part of history only: what its plugin remembers of that takes the
    /// place of all that the live one remembers.
    pub fn with_partial_state(mut self) -> Self {
        self.request.partial_state = true;
        self
    }

    async fn promote(self) -> Result<DeploymentDescription> {
        let PromoteDeployment { name, shadow, .. } = self.request.clone();
        let calling = self.client.call_with(self.request, None, DEPLOY_TIMEOUT);
        let (outcome, earlier) = calling.await;
        match outcome {
            Err(error)
                if earlier == EarlierAttempt::Lost
                    && error.code() == Some(ErrorCode::UnknownDeployment) =>
            {
                let deployed = self.client.admin().describe_plugin(name).await?;
                let ours = deployed.change == RevisionChange::Promoted { shadow };
                if ours { Ok(deployed) } else { Err(error) }
            }
            outcome => outcome,
        }
    }
}

impl std::future::IntoFuture for PromoteBuilder {
    type Output = Result<DeploymentDescription>;
    type IntoFuture = Request<DeploymentDescription>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.promote())
    }
}

/// What is replayed; made by [`Admin::replay_plugin`]. Await it.
#[derive(Clone, Debug)]
#[must_use = "the replay is started when this is awaited"]
pub struct ReplayBuilder {
    client: Client,
    request: ReplayDeployment,
    component: Bytes,
}

impl ReplayBuilder {
    /// Another component than the live one's.
    pub fn component(mut self, component: impl Into<Bytes>) -> Self {
        self.component = component.into();
        self
    }

    /// Other settings than the live one's: what the deployment is to be when the shadow is promoted.
    /// Its inputs must be the live one's.
    pub fn spec(mut self, spec: DeploymentSpec) -> Self {
        self.request.spec = Some(spec);
        self
    }

    /// Where it starts in each partition; [`Position::Earliest`] unless given.
    pub fn from(mut self, from: Position) -> Self {
        self.request.from = from;
        self
    }

    /// Where it ends; where the live deployment is now unless given, and nowhere behind it.
    pub fn until(mut self, until: Position) -> Self {
        self.request.until = Some(until);
        self
    }

    /// The shadow's name; the live one's with `.shadow` behind it unless given.
    pub fn shadow(mut self, name: impl Into<String>) -> Self {
        self.request.shadow = name.into();
        self
    }

    async fn start(self) -> Result<DeploymentDescription> {
        let (of, shadow) = (self.request.name.clone(), self.request.shadow.clone());
        let component = Some(self.component).filter(|it| !it.is_empty());
        let calling = self
            .client
            .call_with(self.request, component, DEPLOY_TIMEOUT);
        let (outcome, earlier) = calling.await;
        match outcome {
            // Perhaps our own first attempt.
            Err(error)
                if earlier == EarlierAttempt::Lost
                    && error.code() == Some(ErrorCode::DeploymentExists) =>
            {
                let deployed = self.client.admin().describe_plugin(shadow).await?;
                let ours = deployed.shadow_of.as_deref() == Some(of.as_str());
                if ours { Ok(deployed) } else { Err(error) }
            }
            outcome => outcome,
        }
    }
}

impl std::future::IntoFuture for ReplayBuilder {
    type Output = Result<DeploymentDescription>;
    type IntoFuture = Request<DeploymentDescription>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}
