//! Brokers: registration and fencing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{BrokerError, OverLimit, UnknownBroker};
use crate::image::Image;
use crate::limits::{Limits, MAX_ADDRESS_BYTES};
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
    /// Where clients and peers reach it, `host:port`.
    pub address: String,
    /// Whether it takes new partitions.
    pub state: BrokerState,
}

/// Whether a broker takes new partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerState {
    /// It does.
    Live,
    /// Not until it registers again.
    Fenced,
}

impl Image {
    pub(crate) fn validate_register_broker(
        &self,
        broker_id: BrokerId,
        directory_id: Uuid,
        address: &str,
        limits: &Limits,
    ) -> Result<Option<Record>, BrokerError> {
        if address.is_empty()
            || address.len() > MAX_ADDRESS_BYTES
            || address.chars().any(char::is_control)
        {
            return Err(BrokerError::Address { broker_id });
        }
        if self.broker(broker_id).is_none() && self.brokers().count() >= limits.brokers {
            return Err(OverLimit {
                what: "brokers",
                limit: limits.brokers,
            }
            .into());
        }
        let broker = Broker {
            broker_id,
            directory_id,
            address: address.to_owned(),
            state: BrokerState::Live,
        };
        let changes = self.broker(broker_id) != Some(&broker);
        Ok(changes.then_some(Record::BrokerRegistered { broker }))
    }

    pub(crate) fn validate_fence_broker(
        &self,
        broker_id: BrokerId,
    ) -> Result<Option<Record>, BrokerError> {
        let broker = self.broker(broker_id).ok_or(UnknownBroker { broker_id })?;
        Ok((broker.state == BrokerState::Live).then_some(Record::BrokerFenced { broker_id }))
    }
}
