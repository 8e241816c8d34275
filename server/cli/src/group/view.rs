//! Groups, as they are shown.

use millstream::{
    GroupDescription, GroupState, ListedGroup, MemberKind, OffsetCommit, ResetGroupResponse,
};
use serde::Serialize;

use crate::output::{Facts, Table, View, count, time_ms};

fn state(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "empty",
        GroupState::Rebalancing => "rebalancing",
        GroupState::Stable => "stable",
    }
}

/// Groups, a line each.
#[derive(Debug, Serialize)]
pub(super) struct Groups {
    groups: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    /// `empty`, `rebalancing` or `stable`.
    state: &'static str,
    members: u32,
    generation: u32,
}

impl Groups {
    pub(super) fn of(groups: &[ListedGroup]) -> Self {
        let listed = |listed: &ListedGroup| Listed {
            group: listed.group.clone(),
            state: state(listed.state),
            members: listed.members,
            generation: listed.generation,
        };
        Self {
            groups: groups.iter().map(listed).collect(),
        }
    }
}

impl View for Groups {
    fn text(&self) -> String {
        let mut table = Table::new(&["GROUP", "STATE", "#MEMBERS", "#GENERATION"], "no groups");
        for group in &self.groups {
            table.row([
                group.group.clone(),
                group.state.to_owned(),
                group.members.to_string(),
                group.generation.to_string(),
            ]);
        }
        table.text()
    }
}

/// A group with its members and its progress.
#[derive(Debug, Serialize)]
pub(super) struct GroupView {
    group: String,
    /// `empty`, `rebalancing` or `stable`.
    state: &'static str,
    generation: u32,
    /// Records still to be read, over all partitions.
    lag: u64,
    members: Vec<MemberView>,
    partitions: Vec<ProgressView>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    member_id: String,
    member_name: String,
    principal: String,
    /// `client` or `worker`.
    kind: &'static str,
    /// Partitions owned, `topic-partition`; empty when the member stands by.
    owned: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ProgressView {
    topic: String,
    partition: u32,
    /// The owner's member id.
    owner: Option<String>,
    committed_offset: Option<u64>,
    committed_at_ms: Option<i64>,
    metadata: String,
    high_watermark: u64,
    lag: u64,
}

impl GroupView {
    pub(super) fn of(group: &GroupDescription) -> Self {
        let members = group.members.iter().map(|member| MemberView {
            member_id: member.member_id.clone(),
            member_name: member.member_name.clone(),
            principal: member.principal.clone(),
            kind: match member.kind {
                MemberKind::Client => "client",
                MemberKind::Worker => "worker",
            },
            owned: member
                .owned
                .iter()
                .map(|owned| format!("{}-{}", owned.topic, owned.partition))
                .collect(),
        });
        let partitions = group.partitions.iter().map(|partition| ProgressView {
            topic: partition.topic.clone(),
            partition: partition.partition,
            owner: partition.owner.clone(),
            committed_offset: partition.committed_offset,
            committed_at_ms: partition.committed_at_ms,
            metadata: partition.metadata.clone(),
            high_watermark: partition.high_watermark,
            lag: partition.lag,
        });
        Self {
            group: group.group.clone(),
            state: state(group.state),
            generation: group.generation,
            lag: group.partitions.iter().map(|partition| partition.lag).sum(),
            members: members.collect(),
            partitions: partitions.collect(),
        }
    }
}

impl View for GroupView {
    fn text(&self) -> String {
        let facts = Facts::default()
            .fact("group", &self.group)
            .fact("state", self.state)
            .fact("generation", self.generation)
            .fact("lag", count(self.lag));
        let mut members = Table::new(&["MEMBER", "ID", "KIND", "PRINCIPAL", "OWNS"], "no members");
        for member in &self.members {
            let owned = if member.owned.is_empty() {
                "nothing: it stands by".to_owned()
            } else {
                member.owned.join(" ")
            };
            members.row([
                member.member_name.clone(),
                member.member_id.clone(),
                member.kind.to_owned(),
                member.principal.clone(),
                owned,
            ]);
        }
        let mut progress = Table::new(
            &[
                "TOPIC",
                "#PARTITION",
                "#COMMITTED",
                "#HIGH WATERMARK",
                "#LAG",
                "COMMITTED AT",
                "OWNER",
            ],
            "no partitions",
        );
        for partition in &self.partitions {
            progress.row([
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.committed_offset.map(count).unwrap_or_default(),
                count(partition.high_watermark),
                count(partition.lag),
                partition.committed_at_ms.map(time_ms).unwrap_or_default(),
                partition.owner.clone().unwrap_or_default(),
            ]);
        }
        format!("{}\n{}\n{}", facts.text(), members.text(), progress.text())
    }
}

/// Offsets of a group.
#[derive(Debug, Serialize)]
pub(super) struct Offsets {
    group: String,
    offsets: Vec<OffsetView>,
}

#[derive(Debug, Serialize)]
struct OffsetView {
    topic: String,
    partition: u32,
    /// The next offset to read.
    offset: u64,
    metadata: String,
}

impl Offsets {
    pub(super) fn of(group: String, offsets: &[OffsetCommit]) -> Self {
        Self {
            group,
            offsets: views(offsets),
        }
    }
}

fn views(offsets: &[OffsetCommit]) -> Vec<OffsetView> {
    let view = |offset: &OffsetCommit| OffsetView {
        topic: offset.topic.clone(),
        partition: offset.partition,
        offset: offset.offset,
        metadata: offset.metadata.clone(),
    };
    offsets.iter().map(view).collect()
}

fn table(offsets: &[OffsetView]) -> String {
    let mut table = Table::new(
        &["TOPIC", "#PARTITION", "#NEXT OFFSET", "METADATA"],
        "no offsets",
    );
    for offset in offsets {
        table.row([
            offset.topic.clone(),
            offset.partition.to_string(),
            count(offset.offset),
            offset.metadata.clone(),
        ]);
    }
    table.text()
}

impl View for Offsets {
    fn text(&self) -> String {
        table(&self.offsets)
    }
}

/// A group that was set anew.
#[derive(Debug, Serialize)]
pub(super) struct Reset {
    group: String,
    generation: u32,
    offsets: Vec<OffsetView>,
}

impl Reset {
    pub(super) fn of(group: String, response: &ResetGroupResponse) -> Self {
        Self {
            group,
            generation: response.generation,
            offsets: views(&response.offsets),
        }
    }
}

impl View for Reset {
    fn text(&self) -> String {
        table(&self.offsets)
    }
}

/// What is gone.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    pub(super) deleted: Vec<String>,
}

impl View for Deleted {
    fn text(&self) -> String {
        self.deleted
            .iter()
            .map(|group| format!("deleted group {group}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests;
