//! The group stream. The test is the coordinator: it says what each member is told, and sees what
//! members say. Commits are answered here.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream::{GroupState, ListedGroup, NamedPartition, Offset, OffsetCommit, WireError};
use millstream_protocol::api::group::{
    AssignedPartition, CoordinatorMessage, Generation, MemberMessage, OpenGroup,
};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::mpsc;

use super::{Broker, Shared};

#[derive(Default)]
pub(crate) struct Group {
    pub(crate) committed: BTreeMap<NamedPartition, Offset>,
    pub(crate) members: Vec<Member>,
    /// Commits are refused so.
    pub(crate) refuse_commits: Option<WireError>,
    /// Commits are not answered.
    pub(crate) hold_commits: bool,
}

/// A stream of a member, open or not any more.
pub(crate) struct Member {
    pub(crate) open: OpenGroup,
    /// What it has said.
    pub(crate) said: Vec<MemberMessage>,
    pub(crate) gone: bool,
    tell: mpsc::UnboundedSender<CoordinatorMessage>,
}

impl Group {
    pub(crate) fn commit(&mut self, offsets: Vec<OffsetCommit>) {
        for OffsetCommit {
            topic,
            partition,
            offset,
            ..
        } in offsets
        {
            self.committed
                .insert(NamedPartition { topic, partition }, offset);
        }
    }

    pub(crate) fn committed(&self, topic: &str, partition: u32) -> Option<Offset> {
        self.committed.get(&named(topic, partition)).copied()
    }

    pub(crate) fn offset_commits(&self) -> Vec<OffsetCommit> {
        let commit = |(partition, offset): (&NamedPartition, &Offset)| OffsetCommit {
            topic: partition.topic.clone(),
            partition: partition.partition,
            offset: *offset,
            metadata: String::new(),
        };
        self.committed.iter().map(commit).collect()
    }

    pub(crate) fn listed(&self, name: &str) -> ListedGroup {
        let members = self.members.iter().filter(|member| !member.gone).count() as u32;
        ListedGroup {
            group: name.to_owned(),
            state: GroupState::Stable,
            members,
            generation: 1,
        }
    }
}

pub(crate) fn named(topic: &str, partition: u32) -> NamedPartition {
    NamedPartition {
        topic: topic.to_owned(),
        partition,
    }
}

impl Broker {
    /// Waits for the `number`th stream of a member, counted from 0.
    pub(crate) async fn member(&self, group: &str, number: usize) {
        let what = format!("member stream {number} is open");
        self.until(&what, |state| {
            state.groups.get(group)?.members.get(number).map(|_| ())
        })
        .await;
    }

    /// Tells a member something.
    pub(crate) fn tell(&self, group: &str, number: usize, message: CoordinatorMessage) {
        let state = self.state();
        let _ = state.groups[group].members[number].tell.send(message);
    }

    /// Assigns partitions to a member, each at its committed offset or else at 0.
    pub(crate) fn assign(
        &self,
        group: &str,
        number: usize,
        generation: Generation,
        partitions: &[(&str, u32)],
    ) {
        let partitions = self.assigned(group, partitions);
        self.tell(
            group,
            number,
            CoordinatorMessage::Assign {
                generation,
                partitions,
            },
        );
    }

    pub(crate) fn revoke(
        &self,
        group: &str,
        number: usize,
        generation: Generation,
        partitions: &[(&str, u32)],
    ) {
        let partitions = partitions
            .iter()
            .map(|(topic, partition)| named(topic, *partition))
            .collect();
        self.tell(
            group,
            number,
            CoordinatorMessage::Revoke {
                generation,
                partitions,
            },
        );
    }

    pub(crate) fn assigned(
        &self,
        group: &str,
        partitions: &[(&str, u32)],
    ) -> Vec<AssignedPartition> {
        let state = self.state();
        let assigned = |&(topic, partition): &(&str, u32)| AssignedPartition {
            topic: topic.to_owned(),
            topic_id: state.topics[topic].id,
            partition,
            offset: state.groups[group].committed(topic, partition).unwrap_or(0),
        };
        partitions.iter().map(assigned).collect()
    }

    /// Waits until a member has said something of a kind.
    pub(crate) async fn said<T>(
        &self,
        group: &str,
        number: usize,
        what: &str,
        kind: impl Fn(&MemberMessage) -> Option<T>,
    ) -> T {
        self.until(what, |state| {
            state.groups[group].members[number]
                .said
                .iter()
                .find_map(&kind)
        })
        .await
    }

    /// Waits until this offset is committed.
    pub(crate) async fn committed(&self, group: &str, topic: &str, partition: u32, offset: Offset) {
        let what = format!("offset {offset} is committed");
        self.until(&what, |state| {
            (state.groups[group].committed(topic, partition) == Some(offset)).then_some(())
        })
        .await;
    }
}

pub(super) async fn serve(
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
    shared: Arc<Shared>,
    open: OpenGroup,
) {
    if let Some(refused) = shared.change(|state| state.faults.refuse_group.pop_front()) {
        let _ = sender.send(&Err::<CoordinatorMessage, _>(refused)).await;
        return;
    }
    let (tell, mut told) = mpsc::unbounded_channel();
    let name = open.group.clone();
    let number = shared.change(|state| {
        let group = state.groups.entry(name.clone()).or_default();
        group.members.push(Member {
            open,
            said: Vec::new(),
            gone: false,
            tell: tell.clone(),
        });
        group.members.len() - 1
    });
    let joined = CoordinatorMessage::Joined {
        member_id: format!("member-{number}"),
        generation: 1,
    };
    let _ = tell.send(joined);
    loop {
        tokio::select! {
            Some(message) = told.recv() => {
                if sender.send(&Ok::<_, WireError>(message)).await.is_err() {
                    break;
                }
            }
            frame = receiver.receive::<MemberMessage>(0) => {
                let Ok(Some(frame)) = frame else { break };
                let left = frame.body == MemberMessage::Leave;
                let answer = shared.change(|state| hear(state.groups.get_mut(&name).unwrap(), number, frame.body));
                if let Some(answer) = answer {
                    let _ = tell.send(CoordinatorMessage::Committed(answer));
                }
                if left {
                    break;
                }
            }
        }
    }
    shared.change(|state| {
        if let Some(group) = state.groups.get_mut(&name) {
            group.members[number].gone = true;
        }
    });
}

/// Keeps what a member said. The answer is to a commit.
fn hear(group: &mut Group, number: usize, message: MemberMessage) -> Option<Result<(), WireError>> {
    group.members[number].said.push(message.clone());
    let MemberMessage::Commit { offsets, .. } = message else {
        return None;
    };
    if group.hold_commits {
        return None;
    }
    if let Some(refused) = group.refuse_commits.clone() {
        return Some(Err(refused));
    }
    group.commit(offsets);
    Some(Ok(()))
}
