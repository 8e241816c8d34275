//! Secrets are the same on all brokers: whoever sets one tells the others, and who was away asks them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::{ErrorCode, WireError};
use tokio::time::timeout;

use super::{Secret, Secrets};
use crate::cluster::Cluster;
use crate::config::ASK_LIMIT;
use crate::controller::Controller;
use crate::workers::peers::WorkersRequest;

/// How long a broker that has not answered is left alone.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Secrets {
    /// Tells the other brokers what is kept under a name now.
    ///
    /// # Errors
    ///
    /// Fewer than half of all brokers have it: it is kept here, and may get lost with this broker.
    pub(crate) async fn tell(
        &self,
        cluster: &Cluster,
        controller: &Controller,
        changed: (String, Secret),
    ) -> Result<(), WireError> {
        let image = controller.image();
        let brokers = image.brokers().map(|it| it.broker_id);
        let others: Vec<u32> = brokers.filter(|it| *it != cluster.me()).collect();
        let name = changed.0.clone();
        let request = WorkersRequest::TakeSecrets(vec![changed]);
        let (image, request) = (&image, &request);
        let telling = others.iter().map(|&to| async move {
            if !image.is_live(to) {
                return false;
            }
            let told = cluster.ask_workers::<()>(to, request, ASK_LIMIT).await;
            if let Err(error) = &told {
                tracing::warn!(broker = to, %error, "a broker was not told of a secret yet");
            }
            told.is_ok()
        });
        let told = futures_util::future::join_all(telling).await;
        let have = 1 + told.iter().filter(|told| **told).count();
        let all = 1 + others.len();
        if 2 * have > all {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::NotReady,
            format!("only {have} of {all} brokers have the secret {name} now: try again"),
        ))
    }

    /// Asks every broker that comes for what it has, for as long as this one runs.
    pub(crate) async fn follow(
        self: Arc<Self>,
        cluster: Arc<Cluster>,
        controller: Arc<Controller>,
    ) {
        let mut images = controller.quorum.watch();
        let mut asked: BTreeSet<u32> = BTreeSet::new();
        loop {
            let image = images.borrow_and_update().image.clone();
            let live = image.brokers().map(|it| it.broker_id);
            let live: BTreeSet<u32> = live
                .filter(|it| *it != cluster.me() && image.is_live(*it))
                .collect();
            asked.retain(|it| live.contains(it));
            for &broker in &live {
                if asked.contains(&broker) {
                    continue;
                }
                match self.ask(&cluster, broker).await {
                    Ok(()) => drop(asked.insert(broker)),
                    Err(error) => tracing::debug!(broker, %error, "its secrets are not known yet"),
                }
            }
            let changed = images.changed();
            if asked.len() == live.len() {
                if changed.await.is_err() {
                    return;
                }
            } else {
                // In a while it may answer.
                let _ = timeout(ASK_AGAIN_AFTER, changed).await;
            }
        }
    }

    async fn ask(&self, cluster: &Cluster, broker: u32) -> Result<(), WireError> {
        let mut after = None;
        loop {
            let request = WorkersRequest::Secrets { after };
            let asked = cluster.ask_workers::<Vec<(String, Secret)>>(broker, &request, ASK_LIMIT);
            let told = asked.await?;
            let Some((last, _)) = told.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            self.merge(told).await?;
        }
    }
}
