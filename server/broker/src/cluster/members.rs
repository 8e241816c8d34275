//! Who takes part in the metadata quorum: every broker, and of these one, three or five with a vote.
//!
//! Whoever leads the quorum looks after it. A broker that was let in hears of everything first, and votes
//! once it keeps up. Voters are replaced when their broker is removed, not when it is away: a quorum that
//! follows every outage ends with the wrong majority.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_consensus::{NodeId, Role, Status};
use millstream_metadata::Image;
use tokio::time::{MissedTickBehavior, interval};

use super::quorum::Quorum;
use crate::config::MEMBERS_CHECK;

/// What is to be done about the members, one thing at a time.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Add(NodeId),
    Vote(BTreeSet<NodeId>),
    Remove(NodeId),
}

/// Looks after the members for as long as the broker runs.
pub(crate) async fn look_after(quorum: Arc<Quorum>) {
    let mut checks = interval(MEMBERS_CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let status = quorum.status();
        if status.stopped.is_some() {
            return;
        }
        if status.role != Role::Leader {
            continue;
        }
        let image = quorum.applied().image;
        let Some(change) = next_change(&image, &status) else {
            continue;
        };
        tracing::info!(?change, "the members of the metadata quorum change");
        let changed = match change {
            Change::Add(node_id) => quorum.consensus().add_learner(node_id).await,
            Change::Vote(voters) => quorum.consensus().change_voters(voters).await,
            Change::Remove(node_id) => quorum.consensus().remove_learner(node_id).await,
        };
        if let Err(error) = changed {
            tracing::warn!(%error, "the members of the metadata quorum have not changed");
        }
    }
}

/// How many voters a cluster of so many brokers has: an even number more would make it no safer.
fn voters_of(brokers: usize) -> usize {
    match brokers {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

fn next_change(image: &Image, status: &Status) -> Option<Change> {
    let brokers: BTreeSet<NodeId> = image
        .brokers()
        .map(|it| NodeId::from(it.broker_id))
        .collect();
    let takes_part = |id: &NodeId| status.voters.contains(id) || status.learners.contains(id);
    if let Some(new) = brokers.iter().find(|id| !takes_part(id)) {
        return Some(Change::Add(*new));
    }
    if let Some(gone) = status.learners.iter().find(|id| !brokers.contains(id)) {
        return Some(Change::Remove(*gone));
    }
    let wanted = voters_of(brokers.len());
    let keeps_up = |id: &NodeId| {
        let behind = status.behind.get(id).copied().flatten();
        behind
            .is_some_and(|behind| behind <= millstream_consensus::limits::MAX_PROMOTION_LAG_ENTRIES)
    };
    let stays = |id: &&NodeId| brokers.contains(id);
    let mut voters: BTreeSet<NodeId> = status.voters.iter().filter(stays).copied().collect();
    // Whoever leads goes on leading.
    while voters.len() > wanted {
        let last = voters
            .iter()
            .rev()
            .find(|id| **id != status.node_id)
            .copied()?;
        voters.remove(&last);
    }
    let mut ready = status.learners.iter().filter(|id| keeps_up(id));
    while voters.len() < wanted {
        voters.insert(*ready.next()?);
    }
    let is_news = !voters.iter().eq(&status.voters);
    is_news.then_some(Change::Vote(voters))
}

#[cfg(test)]
mod tests {
    use millstream_metadata::{Command, FeatureRange, Limits, Registration};
    use millstream_protocol::api::peer::Lineage;
    use uuid::Uuid;

    use super::*;

    fn image(brokers: &[u32]) -> Image {
        let mut image = Image::default();
        let mut execute = |command: Command| {
            let record = image.validate(&command, &Limits::default());
            if let Some(record) = record.expect("it is granted") {
                image.apply(&record);
            }
        };
        execute(Command::FormCluster {
            cluster_id: Uuid::nil(),
        });
        for broker_id in brokers {
            let hash = millstream_metadata::TokenHash([*broker_id as u8; 32]);
            let token = millstream_metadata::JoinToken {
                hash,
                broker_id: *broker_id,
                issued_at_ms: 0,
                expires_at_ms: 9,
                issued_by: "operator".to_owned(),
            };
            execute(Command::IssueJoinToken { token });
            execute(Command::RegisterBroker {
                registration: Registration {
                    broker_id: *broker_id,
                    directory_id: Uuid::from_u128(u128::from(*broker_id)),
                    incarnation: 1,
                    lineage: Lineage::new(Uuid::from_u128(9)),
                    address: "host:1".to_owned(),
                    rack: None,
                    features: FeatureRange::CURRENT,
                    join: Some(millstream_metadata::Join {
                        token: hash,
                        now_ms: 1,
                    }),
                },
            });
        }
        image
    }

    fn status(voters: &[NodeId], learners: &[NodeId], behind: Option<u64>) -> Status {
        Status {
            node_id: voters[0],
            term: 1,
            role: Role::Leader,
            leader: Some(voters[0]),
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            last_log_index: None,
            applied_index: None,
            snapshot_index: None,
            behind: learners.iter().map(|id| (*id, behind)).collect(),
            quorum_ack_age_ms: None,
            stopped: None,
        }
    }

    #[test]
    fn brokers_learn_first_and_vote_when_they_keep_up() {
        let three = image(&[1, 2, 3]);
        let check = |image: &Image, status: Status, expected| {
            assert_eq!(next_change(image, &status), expected);
        };
        check(&image(&[1]), status(&[1], &[], None), None);
        check(&three, status(&[1], &[2], Some(0)), Some(Change::Add(3)));
        check(&image(&[1, 2]), status(&[1], &[2], Some(0)), None);
        check(&three, status(&[1], &[2, 3], None), None);
        check(&three, status(&[1], &[2, 3], Some(101)), None);
        let all = BTreeSet::from([1, 2, 3]);
        check(
            &three,
            status(&[1], &[2, 3], Some(100)),
            Some(Change::Vote(all)),
        );
        check(&three, status(&[1, 2, 3], &[], None), None);
        check(
            &three,
            status(&[1, 2, 3], &[7], None),
            Some(Change::Remove(7)),
        );
        // A broker that was removed is replaced by another one.
        let others = image(&[1, 2, 4]);
        let all = BTreeSet::from([1, 2, 4]);
        check(
            &others,
            status(&[1, 2, 3], &[4], Some(0)),
            Some(Change::Vote(all)),
        );
        // Two are left: one is enough, and it is the one that leads.
        let two = image(&[2, 3]);
        let one = BTreeSet::from([2]);
        check(&two, status(&[2, 3, 1], &[], None), Some(Change::Vote(one)));
    }
}
