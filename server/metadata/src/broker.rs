//! Brokers: what is known of each, and the states that they are in.

use millstream_protocol::api::peer::{Lineage, RegisteredStart};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{BrokerError, ConflictError, UnknownBroker};
use crate::image::{FEATURE_LEVEL, Image, MIN_FEATURE_LEVEL};
use crate::record::Record;

/// A broker's number in the cluster.
pub type BrokerId = u32;

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its number.
    pub broker_id: BrokerId,
    /// The identity of its data directory.
    pub directory_id: Uuid,
    /// Which start of a process on this data directory it is: a later one is greater.
    pub incarnation: u64,
    /// What was drawn at random for it.
    pub run: Uuid,
    /// Where clients and peers reach it, `host:port`.
    pub address: String,
    /// What it shares its fate with: replicas are spread over racks. Brokers without one share one.
    pub rack: Option<String>,
    /// The kinds of records that it understands.
    pub features: FeatureRange,
    /// Whether it is there, and what it takes.
    pub state: BrokerState,
}

/// One start of a broker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The identity of its data directory.
    pub directory_id: Uuid,
    /// Which start on this directory it is: a later one is greater.
    pub incarnation: u64,
}

/// Whether a broker is there, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerState {
    /// It is there, and takes replicas and leaderships.
    Live,
    /// It is not there: it leads nothing and takes nothing until it registers again.
    Fenced,
    /// It is there and keeps what it has, but takes no new replicas and leaderships.
    Draining,
    /// It is not there, and is draining when it registers again.
    FencedDraining,
}

/// The metadata feature levels that a broker understands, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl FeatureRange {
    /// What this crate understands.
    pub const CURRENT: Self = Self {
        min: MIN_FEATURE_LEVEL,
        max: FEATURE_LEVEL,
    };
}

impl BrokerState {
    /// Whether it is there.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Draining)
    }

    /// Whether it is being emptied.
    pub fn is_draining(self) -> bool {
        matches!(self, Self::Draining | Self::FencedDraining)
    }

    /// Whether it is there and takes new replicas and leaderships.
    pub fn takes_new(self) -> bool {
        self == Self::Live
    }

    fn of(is_live: bool, is_draining: bool) -> Self {
        match (is_live, is_draining) {
            (true, false) => Self::Live,
            (true, true) => Self::Draining,
            (false, false) => Self::Fenced,
            (false, true) => Self::FencedDraining,
        }
    }

    /// The state when it is there.
    pub(crate) fn live(self) -> Self {
        Self::of(true, self.is_draining())
    }

    fn fenced(self) -> Self {
        Self::of(false, self.is_draining())
    }

    fn draining(self) -> Self {
        Self::of(self.is_live(), true)
    }

    fn serving(self) -> Self {
        Self::of(self.is_live(), false)
    }
}

impl Broker {
    /// The start that has registered last.
    pub fn start(&self) -> Start {
        Start {
            directory_id: self.directory_id,
            incarnation: self.incarnation,
        }
    }

    /// Refuses a copy of what its data directory was before the start that has registered last.
    pub fn check_lineage(
        &self,
        directory_id: Uuid,
        lineage: &Lineage,
    ) -> Result<(), ConflictError> {
        let known = RegisteredStart {
            incarnation: self.incarnation,
            run: self.run,
        };
        if self.directory_id != directory_id || lineage.may_have(known) {
            return Ok(());
        }
        Err(ConflictError::OldCopy {
            broker_id: self.broker_id,
            known: self.incarnation,
            address: self.address.clone(),
        })
    }
}

impl Image {
    /// Whether this broker is there.
    pub fn is_live(&self, broker_id: BrokerId) -> bool {
        self.broker(broker_id)
            .is_some_and(|broker| broker.state.is_live())
    }

    /// Whether this broker is there and takes new replicas and leaderships.
    pub fn takes_new(&self, broker_id: BrokerId) -> bool {
        self.broker(broker_id)
            .is_some_and(|broker| broker.state.takes_new())
    }

    /// How many replicas this broker has, those included that it is to get or to give away.
    pub fn replicas_on(&self, broker_id: BrokerId) -> usize {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions
            .filter(|partition| partition.member(broker_id).is_some())
            .count()
    }

    pub(crate) fn validate_fence_broker(
        &self,
        broker_id: BrokerId,
        start: Start,
    ) -> Result<Option<Record>, BrokerError> {
        match self.known_broker(broker_id)?.start() == start {
            true => self.set_state(broker_id, BrokerState::fenced),
            false => Ok(None),
        }
    }

    pub(crate) fn validate_drain_broker(
        &self,
        broker_id: BrokerId,
    ) -> Result<Option<Record>, BrokerError> {
        self.set_state(broker_id, BrokerState::draining)
    }

    pub(crate) fn validate_undrain_broker(
        &self,
        broker_id: BrokerId,
    ) -> Result<Option<Record>, BrokerError> {
        self.set_state(broker_id, BrokerState::serving)
    }

    fn set_state(
        &self,
        broker_id: BrokerId,
        change: impl Fn(BrokerState) -> BrokerState,
    ) -> Result<Option<Record>, BrokerError> {
        let now = self.known_broker(broker_id)?.state;
        let state = change(now);
        Ok((state != now).then_some(Record::BrokerStateSet { broker_id, state }))
    }

    pub(crate) fn validate_remove_broker(
        &self,
        broker_id: BrokerId,
    ) -> Result<Option<Record>, BrokerError> {
        self.known_broker(broker_id)?;
        match self.replicas_on(broker_id) {
            0 => Ok(Some(Record::BrokerRemoved { broker_id })),
            replicas => Err(BrokerError::HoldsReplicas {
                broker_id,
                replicas,
            }),
        }
    }

    pub(crate) fn known_broker(&self, broker_id: BrokerId) -> Result<&Broker, UnknownBroker> {
        self.broker(broker_id).ok_or(UnknownBroker { broker_id })
    }
}
