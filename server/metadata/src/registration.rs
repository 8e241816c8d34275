//! A broker's registration: who may take a number, and what becomes of the replicas under it.
//!
//! With another data directory all its replicas begin anew, and what it led needs a leader. With the
//! same directory but a later start it leads on what it led, in the next epoch by the very record:
//! no epoch is resumed after a start, and no moment passes in which one could seem to be. The same
//! start, which was fenced though it was there, goes on in the epoch in which it is.

use millstream_protocol::TimestampMs;
use millstream_protocol::api::peer::Lineage;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::{Broker, BrokerId, BrokerState, FeatureRange};
use crate::error::{ConflictError, FeatureError, OverLimit, RegisterError};
use crate::image::Image;
use crate::limits::{Limits, MAX_ADDRESS_BYTES, MAX_RACK_BYTES};
use crate::partition::DirectoryNumber;
use crate::record::Record;
use crate::token::TokenHash;

/// What a broker says of itself when it starts, or is there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its number.
    pub broker_id: BrokerId,
    /// The identity of its data directory: another one after the disk was emptied or replaced.
    pub directory_id: Uuid,
    /// Rises with every start of a process on this data directory.
    pub incarnation: u64,
    /// Which starts the directory knows to be its own.
    pub lineage: Lineage,
    /// Where clients and peers reach it, `host:port`.
    pub address: String,
    /// What it shares its fate with.
    pub rack: Option<String>,
    /// The kinds of records that it understands.
    pub features: FeatureRange,
    /// How a new number joins. The cluster's first broker needs none, and those that are known
    /// need none any more.
    pub join: Option<Join>,
}

/// A one-time token, redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The token's hash.
    pub token: TokenHash,
    /// The time.
    pub now_ms: TimestampMs,
}

impl Image {
    pub(crate) fn validate_register_broker(
        &self,
        registration: &Registration,
        limits: &Limits,
    ) -> Result<Option<Record>, RegisterError> {
        check_text(registration)?;
        self.check_features(registration)?;
        let known = self.broker(registration.broker_id);
        let redeemed = match known {
            Some(known) => {
                self.check_conflict(known, registration)?;
                None
            }
            None => self.check_new_broker(registration, limits)?,
        };
        let state = known.map_or(BrokerState::Live, |known| known.state.live());
        let broker = Broker {
            broker_id: registration.broker_id,
            directory_id: registration.directory_id,
            incarnation: registration.incarnation,
            run: registration.lineage.run,
            address: registration.address.clone(),
            rack: registration.rack.clone(),
            features: registration.features,
            state,
        };
        if known == Some(&broker) {
            return Ok(None);
        }
        let renewed = known
            .is_some_and(|known| known.directory_id != broker.directory_id)
            .then_some(self.next_directory);
        Ok(Some(Record::BrokerRegistered {
            broker,
            renewed,
            redeemed,
        }))
    }

    fn check_features(&self, registration: &Registration) -> Result<(), FeatureError> {
        let (broker_id, level) = (registration.broker_id, self.feature_level());
        let FeatureRange { min, max } = registration.features;
        if min > max {
            Err(FeatureError::Reversed {
                broker_id,
                min,
                max,
            })
        } else if level > max {
            Err(FeatureError::TooOld {
                broker_id,
                level,
                max,
            })
        } else if level < min {
            Err(FeatureError::TooNew {
                broker_id,
                level,
                min,
            })
        } else {
            Ok(())
        }
    }

    fn check_new_broker(
        &self,
        registration: &Registration,
        limits: &Limits,
    ) -> Result<Option<TokenHash>, RegisterError> {
        if self.brokers.len() >= limits.brokers {
            return Err(OverLimit {
                what: "brokers",
                limit: limits.brokers,
            }
            .into());
        }
        if self.brokers.is_empty() {
            return Ok(None);
        }
        Ok(Some(
            self.check_token(registration.broker_id, registration.join)?,
        ))
    }

    pub(crate) fn apply_broker_registered(
        &mut self,
        broker: &Broker,
        renewed: Option<DirectoryNumber>,
        redeemed: Option<TokenHash>,
    ) {
        let before = self.brokers.insert(broker.broker_id, broker.clone());
        let has_restarted = before.is_some_and(|before| {
            before.directory_id == broker.directory_id && before.incarnation != broker.incarnation
        });
        if has_restarted {
            self.lead_on(broker.broker_id);
        }
        if let Some(hash) = redeemed {
            self.tokens.remove(&hash);
        }
        if let Some(first) = renewed {
            self.renew_directories(broker.broker_id, first);
        }
    }

    /// Refuses who is not the broker that is known, nor its successor.
    fn check_conflict(
        &self,
        known: &Broker,
        registration: &Registration,
    ) -> Result<(), ConflictError> {
        let is_live = known.state.is_live();
        let (broker_id, address) = (known.broker_id, &known.address);
        if known.directory_id != registration.directory_id {
            // Incarnations are counted by each data directory for itself.
            return match is_live {
                false => Ok(()),
                true => Err(ConflictError::NumberInUse {
                    broker_id,
                    address: address.clone(),
                }),
            };
        }
        if registration.incarnation < known.incarnation {
            return Err(ConflictError::OldIncarnation {
                broker_id,
                known: known.incarnation,
                given: registration.incarnation,
                address: address.clone(),
            });
        }
        known.check_lineage(registration.directory_id, &registration.lineage)?;
        // A broker that was killed and starts elsewhere before that was noticed looks like a copy of its directory that
        // was made while it was at work: nobody but the others can tell, by its beats. Without others, nobody can.
        let could_be_told = self.brokers.len() > 1 || registration.incarnation == known.incarnation;
        if is_live && registration.address != *address && could_be_told {
            return Err(ConflictError::CopiedDirectory {
                broker_id,
                address: address.clone(),
                given: registration.address.clone(),
            });
        }
        Ok(())
    }
}

/// An address and a rack are lines of text that are there.
fn check_text(registration: &Registration) -> Result<(), RegisterError> {
    let is_line = |text: &str, longest| {
        !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
    };
    let broker_id = registration.broker_id;
    if !is_line(&registration.address, MAX_ADDRESS_BYTES) {
        return Err(RegisterError::Address { broker_id });
    }
    match &registration.rack {
        Some(rack) if !is_line(rack, MAX_RACK_BYTES) => Err(RegisterError::Rack { broker_id }),
        _ => Ok(()),
    }
}
