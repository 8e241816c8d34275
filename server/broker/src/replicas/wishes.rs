//! What the replicas of this broker want of the metadata quorum. It is asked for until it is so: an answer that was
//! lost, or a quorum that nobody led, must leave no replica as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_metadata::limits::MAX_REPLICAS_AT_ONCE;
use millstream_metadata::{Command, DirectoryNumber, Image};
use millstream_protocol::{LeaderEpoch, TopicPartition};
use tokio::task::JoinSet;

use super::hosting::Hosting;
use crate::cluster::quorum::Quorum;
use crate::config::MAX_FINALISED_AT_ONCE;

/// What is wanted, and what is being asked.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Changes of replicas that may be made final, as their leaders here have said: the epoch and the version.
    complete: BTreeMap<TopicPartition, (LeaderEpoch, u64)>,
    /// Something may be wanted that is not asked yet.
    is_due: bool,
    asking: JoinSet<()>,
    /// More is wanted than was asked at once.
    is_cut: bool,
}

impl Wishes {
    /// It is to be looked again what is wanted.
    pub(crate) fn look(&mut self) {
        self.is_due = true;
    }

    /// A leader here has everything that the replicas to come need.
    pub(crate) fn complete(&mut self, id: TopicPartition, epoch: LeaderEpoch, version: u64) {
        self.complete.insert(id, (epoch, version));
        self.is_due = true;
    }

    /// Asks the quorum for what is wanted by now, unless it is being asked.
    pub(crate) fn ask(&mut self, quorum: &Arc<Quorum>, hosting: &Hosting) {
        if !self.is_due || !self.asking.is_empty() {
            return;
        }
        self.is_due = false;
        let commands = self.commands(hosting, &quorum.applied().image);
        if commands.is_empty() {
            return;
        }
        let quorum = Arc::clone(quorum);
        self.asking.spawn(async move {
            for command in commands {
                if let Err(error) = quorum.propose(command.clone()).await {
                    tracing::warn!(%error, ?command, "the cluster has not agreed");
                }
            }
        });
    }

    /// Waits until what is being asked is answered; for ever, if nothing is. Cancel-safe.
    pub(crate) async fn answered(&mut self) {
        match self.asking.join_next().await {
            Some(_) => self.is_due |= std::mem::take(&mut self.is_cut),
            None => std::future::pending().await,
        }
    }

    fn commands(&mut self, hosting: &Hosting, image: &Image) -> Vec<Command> {
        let broker_id = hosting.me();
        let mut commands = Vec::new();
        let lost: Vec<_> = hosting.lost(image).take(MAX_REPLICAS_AT_ONCE).collect();
        let trusted = hosting.trusted_again(image).take(MAX_REPLICAS_AT_ONCE);
        let trusted: Vec<_> = trusted
            .map(|(id, directory)| (id, DirectoryNumber(directory.0)))
            .collect();
        self.is_cut = lost.len().max(trusted.len()) == MAX_REPLICAS_AT_ONCE;
        if !lost.is_empty() {
            commands.push(Command::RegisterReplicas {
                broker_id,
                partitions: lost,
            });
        }
        if !trusted.is_empty() {
            commands.push(Command::TrustReplicas {
                broker_id,
                replicas: trusted,
            });
        }
        self.complete.retain(|id, (_, version)| {
            let placed = image.partition(*id);
            placed.is_some_and(|it| it.is_changing() && it.version <= *version)
        });
        let complete = self.complete.iter().take(MAX_FINALISED_AT_ONCE);
        commands.extend(complete.map(|(partition, (epoch, version))| {
            Command::FinaliseReassignment {
                partition: *partition,
                epoch: *epoch,
                version: *version,
            }
        }));
        commands
    }
}
