//! The cluster itself.

use millstream_protocol::PartitionIndex;
use millstream_protocol::api::cluster::{
    AcceptLoss, ClusterDescription, DescribeCluster, DescribeReplicas, DescribeReplicasResponse,
    DrainBroker, Draining, IssueTicket, IssuedTicket, LossDescription, RebalanceCluster,
    Rebalancing, RemoveBroker, ReplicaSelection, UndrainBroker,
};

use super::Admin;
use crate::error::Result;

impl Admin {
    /// A ticket that lets one new broker into the cluster, once.
    ///
    /// # Errors
    ///
    /// There are as many tickets as there may be, or it would be good for too long.
    pub async fn issue_ticket(&self, request: IssueTicket) -> Result<IssuedTicket> {
        self.client.call(request).await
    }

    /// How the cluster stands.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        self.client.call(DescribeCluster {}).await
    }

    /// What the broker at the other end of the connection is, and the replicas that it keeps, if these are not
    /// too many.
    pub async fn describe_replicas(&self) -> Result<DescribeReplicasResponse> {
        let replicas = ReplicaSelection::All;
        self.client.call(DescribeReplicas { replicas }).await
    }

    /// Has a broker emptied: what it leads and keeps goes to others, step by step. It is told how much that
    /// is.
    ///
    /// # Errors
    ///
    /// There is no such broker.
    pub async fn drain_broker(&self, broker_id: u32) -> Result<Draining> {
        self.client.call(DrainBroker { broker_id }).await
    }

    /// Has a broker stay that was to be emptied.
    ///
    /// # Errors
    ///
    /// There is no such broker.
    pub async fn undrain_broker(&self, broker_id: u32) -> Result<()> {
        self.client.call(UndrainBroker { broker_id }).await
    }

    /// Removes a broker that keeps nothing.
    ///
    /// # Errors
    ///
    /// There is no such broker, it still keeps something, or it is the only one.
    pub async fn remove_broker(&self, broker_id: u32) -> Result<()> {
        self.client.call(RemoveBroker { broker_id }).await
    }

    /// Begins the next step to an even load. It is asked for again until there is nothing under way and
    /// nothing ahead.
    pub async fn rebalance_cluster(&self) -> Result<Rebalancing> {
        self.client.call(RebalanceCluster {}).await
    }

    /// What would be lost if a partition went on with the replica of one broker alone.
    ///
    /// # Errors
    ///
    /// It would be refused: the partition can go on by itself, or the replica is not there.
    pub async fn foresee_loss(
        &self,
        topic: impl Into<String>,
        partition: PartitionIndex,
        broker_id: u32,
    ) -> Result<LossDescription> {
        self.loss(topic.into(), partition, broker_id, true).await
    }

    /// Has a partition go on with the replica of one broker alone, as it is. What only the others had is
    /// gone for good. Tells what was known of them before.
    ///
    /// # Errors
    ///
    /// The partition can go on by itself, or the replica is not there.
    pub async fn accept_loss(
        &self,
        topic: impl Into<String>,
        partition: PartitionIndex,
        broker_id: u32,
    ) -> Result<LossDescription> {
        self.loss(topic.into(), partition, broker_id, false).await
    }

    async fn loss(
        &self,
        topic: String,
        partition: PartitionIndex,
        broker_id: u32,
        dry_run: bool,
    ) -> Result<LossDescription> {
        let request = AcceptLoss {
            topic,
            partition,
            broker_id,
            dry_run,
        };
        self.client.call(request).await
    }
}
