//! What is left behind by deployments that are gone is deleted: when they go, and at the next start
//! should the broker die before.

use millstream_metadata::names::{is_journal, is_journal_of, journal_input};
use millstream_metadata::{Actor, Command};
use millstream_protocol::WireError;

use super::Deployments;

impl Deployments {
    /// Deletes everything that no deployment needs, if changes of deployments are made here.
    pub(super) async fn sweep(&self) {
        let _changing = self.change.lock().await;
        if !self.is_office() {
            return;
        }
        if let Err(error) = self.forget_journals().await {
            tracing::warn!(%error, "journals of deployments that are gone remain");
        }
        self.forget_artefacts().await;
    }

    /// Closes and deletes the tables that no deployment names.
    pub(crate) async fn forget_tables(&self) {
        let image = self.controller.image();
        self.tables.close_unnamed(&image).await;
    }

    /// Deletes the journals of deployments and of inputs that are gone.
    pub(crate) async fn forget_journals(&self) -> Result<(), WireError> {
        let image = self.controller.image();
        let of_nobody = image.topics().filter(|topic| {
            let mut deployments = image.deployments();
            is_journal(&topic.name)
                && (!deployments.any(|it| is_journal_of(&topic.name, it.deployment_id))
                    || journal_input(&topic.name)
                        .is_some_and(|input| image.topic_by_id(input).is_none()))
        });
        for topic in of_nobody {
            let delete = Command::DeleteTopic {
                topic: topic.name.clone(),
                actor: Actor::Broker,
            };
            self.controller.execute(delete).await?;
        }
        self.forget_lost_states();
        Ok(())
    }

    /// Deletes the state of deployments that went while it could not be deleted.
    pub(crate) fn forget_lost_states(&self) {
        let image = self.controller.image();
        let known = |topic_id| image.topic_by_id(topic_id).is_some();
        if let Err(error) = self.states.retain(known) {
            tracing::warn!(%error, "the state of removed deployments remains on disk");
        }
    }

    /// Deletes the components that no revision needs. What remains now goes the next time.
    pub(crate) async fn forget_artefacts(&self) {
        let image = self.controller.image();
        if let Err(error) = self.artefacts.keep_only(&image.artefacts()).await {
            tracing::warn!(%error, "components that no deployment needs remain");
        }
    }
}
