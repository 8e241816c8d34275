//! How the cluster stands.
//!
//! The steward knows, which is on the broker that leads the metadata quorum: another one passes the question
//! on. What brokers tell of themselves is asked of each of them. Nothing is made up for what nobody tells.

use std::collections::HashMap;

use millstream_consensus::Status;
use millstream_metadata::plan::Outage;
use millstream_metadata::steward::{self, BrokerStatus, ClusterStatus};
use millstream_metadata::{BrokerState, Image, Replica};
use millstream_protocol::api::MAX_HOPS;
use millstream_protocol::api::cluster::{
    self, BrokerReport, ChangingPartition, ClusterBroker, ClusterDescription, DescribeCluster,
    DescribeReplicasResponse, Listed, OfflinePartition, OfflineReason, QuorumDescription,
    QuorumMember, ReplicaSelection, UnderReplicated,
};
use millstream_protocol::limits::PARTITIONS_PER_STATUS;
use millstream_protocol::{Offset, TopicPartition, WireError};

use super::replicas::ask_all;
use crate::config::REPORT_LIMIT;
use crate::context::Context;

/// Answers, or has the broker answer that leads the metadata quorum.
pub(crate) async fn describe(
    context: &Context,
    hops: u8,
    request: DescribeCluster,
) -> Result<ClusterDescription, WireError> {
    let quorum = context.controller.quorum.status();
    let image = context.controller.image();
    let Some(status) = context.cluster.status() else {
        let leader = quorum.leader.and_then(|it| u32::try_from(it).ok());
        let leader = leader.filter(|it| *it != context.me() && hops < MAX_HOPS);
        if let Some(leader) = leader {
            match context.cluster.ask(leader, hops, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, "the steward does not answer"),
            }
        }
        let status = ClusterStatus::last_known(&image);
        return Ok(description(context, hops, &image, &quorum, status).await);
    };
    Ok(description(context, hops, &image, &quorum, status).await)
}

async fn description(
    context: &Context,
    hops: u8,
    image: &Image,
    quorum: &Status,
    status: ClusterStatus,
) -> ClusterDescription {
    let there = image.brokers().filter(|it| it.state.is_live());
    let questions = there.map(|it| (it.broker_id, ReplicaSelection::All));
    let answers = ask_all(context, hops, questions, REPORT_LIMIT).await;
    let mut reports = reports(answers);
    let brokers = status.brokers.into_iter().map(|status| {
        let report = reports.remove(&status.broker.broker_id);
        broker(status, report)
    });
    ClusterDescription {
        cluster_id: status.cluster_id,
        feature_level: status.feature_level,
        told_by: context.me(),
        controller: status.controller,
        quorum: quorum_description(quorum),
        brokers: brokers.collect(),
        partitions: status.partitions as u64,
        offline: listed(status.offline, offline),
        under_replicated: listed(status.under_replicated, |it| UnderReplicated {
            topic: it.topic,
            partition: it.partition.partition,
            missing: it.missing,
        }),
        changing: Listed {
            count: status.changing as u64,
            first: changing(image),
        },
    }
}

fn quorum_description(status: &Status) -> QuorumDescription {
    let number = |node_id: u64| u32::try_from(node_id).ok();
    let is_leader = status.leader == Some(status.node_id);
    let member = |node_id: &u64, votes| {
        let behind = match *node_id == status.node_id && is_leader {
            true => Some(0),
            false => status.behind.get(node_id).copied().flatten(),
        };
        Some(QuorumMember {
            broker_id: number(*node_id)?,
            votes,
            behind,
        })
    };
    let voters = status.voters.iter().filter_map(|it| member(it, true));
    let learners = status.learners.iter().filter_map(|it| member(it, false));
    let mut members: Vec<_> = voters.chain(learners).collect();
    members.sort_by_key(|it| it.broker_id);
    QuorumDescription {
        term: status.term,
        leader: status.leader.and_then(number),
        members,
        majority_silent_ms: status.quorum_ack_age_ms,
    }
}

fn broker(status: BrokerStatus, report: Option<BrokerReport>) -> ClusterBroker {
    let BrokerStatus {
        broker,
        silent_ms,
        leads,
        active,
        keeps,
        stuck,
        ..
    } = status;
    ClusterBroker {
        broker_id: broker.broker_id,
        address: broker.address,
        rack: broker.rack,
        directory_id: broker.directory_id,
        incarnation: broker.incarnation,
        state: match broker.state {
            BrokerState::Live => cluster::BrokerState::Live,
            BrokerState::Fenced => cluster::BrokerState::Gone,
            BrokerState::Draining => cluster::BrokerState::Draining,
            BrokerState::FencedDraining => cluster::BrokerState::GoneDraining,
        },
        silent_ms,
        leads: leads as u32,
        active: active.map(|it| it as u32),
        keeps: keeps as u32,
        stuck: stuck as u32,
        report,
    }
}

/// What each broker has told of itself.
fn reports(answers: Vec<DescribeReplicasResponse>) -> HashMap<u32, BrokerReport> {
    let mut ends: HashMap<TopicPartition, Offset> = HashMap::new();
    for replica in answers
        .iter()
        .filter_map(|it| it.replicas.as_ref())
        .flatten()
    {
        if replica.leading.is_some() {
            ends.insert(replica.partition, replica.log_end_offset);
        }
    }
    let report = |answer: DescribeReplicasResponse| {
        let replicas = answer.replicas.iter().flatten();
        let lags = replicas.filter_map(|it| {
            let end = ends.get(&it.partition)?;
            Some(end.saturating_sub(it.log_end_offset))
        });
        let report = BrokerReport {
            largest_lag: lags.max(),
            software: answer.software,
            uptime_ms: answer.uptime_ms,
            disk: answer.disk,
        };
        (answer.broker_id, report)
    };
    answers.into_iter().map(report).collect()
}

fn listed<T, U>(listed: steward::Listed<T>, of: impl Fn(T) -> U) -> Listed<U> {
    let first = listed.first.into_iter().take(PARTITIONS_PER_STATUS);
    Listed {
        count: listed.count as u64,
        first: first.map(of).collect(),
    }
}

fn offline(partition: steward::OfflinePartition) -> OfflinePartition {
    OfflinePartition {
        topic: partition.topic,
        partition: partition.partition.partition,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        reason: match partition.reason {
            steward::OfflineReason::Outage(Outage::NoLeader) => OfflineReason::NoLeader,
            steward::OfflineReason::Outage(Outage::NoMajority) => OfflineReason::NoMajority,
            steward::OfflineReason::NotLeading { for_ms, attempts } => {
                OfflineReason::NotLeading { for_ms, attempts }
            }
        },
    }
}

/// The first of the partitions that are getting other replicas.
fn changing(image: &Image) -> Vec<ChangingPartition> {
    let ids = |replicas: &[Replica]| replicas.iter().map(|it| it.broker_id).collect();
    let all = image.topics().flat_map(|topic| {
        let partitions = (0..).zip(&topic.partitions);
        let changing = partitions.filter(|(_, it)| it.is_changing());
        changing.map(|(partition, it)| ChangingPartition {
            topic: topic.name.clone(),
            partition,
            from: ids(&it.replicas),
            to: ids(&it.next),
        })
    });
    all.take(PARTITIONS_PER_STATUS).collect()
}
