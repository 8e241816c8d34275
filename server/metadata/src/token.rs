//! Join tokens: with which new brokers are let in, each once.
//!
//! The token itself is known to the operator and the new broker alone. What is kept, written and
//! compared is its hash, made by who asks.

use std::fmt;

use millstream_protocol::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::broker::BrokerId;
use crate::deployment::check_principal;
use crate::error::{OverLimit, TokenError};
use crate::image::Image;
use crate::limits::{MAX_JOIN_TOKEN_MS, MAX_JOIN_TOKENS};
use crate::record::Record;
use crate::registration::Join;

/// The SHA-256 of a join token. It is shown by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TokenHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// A join token that nobody has redeemed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The hash of the token.
    pub hash: TokenHash,
    /// The number that whoever is let in with it has, which nobody else gets meanwhile.
    pub broker_id: BrokerId,
    /// When it was issued.
    pub issued_at_ms: TimestampMs,
    /// From when on it lets nobody in.
    pub expires_at_ms: TimestampMs,
    /// Who has issued it.
    pub issued_by: String,
}

impl JoinToken {
    fn has_expired(&self, now_ms: TimestampMs) -> bool {
        self.expires_at_ms <= now_ms
    }
}

impl Image {
    /// The join tokens that nobody has redeemed, in the order of their hashes. Some may have
    /// expired.
    pub fn join_tokens(&self) -> impl Iterator<Item = &JoinToken> + Clone {
        self.tokens.values()
    }

    /// The number for the next new broker: above all that are in use, and those that are promised to
    /// the holders of tokens that have not expired. `None` if there is none left.
    pub fn next_broker_id(&self, now_ms: TimestampMs) -> Option<BrokerId> {
        let used = self.brokers().map(|it| it.broker_id);
        let promised = self.join_tokens().filter(|it| !it.has_expired(now_ms));
        let highest = used.chain(promised.map(|it| it.broker_id)).max();
        highest.map_or(Some(1), |highest| highest.checked_add(1))
    }

    pub(crate) fn validate_issue_join_token(
        &self,
        token: &JoinToken,
    ) -> Result<Option<Record>, TokenError> {
        check_principal(&token.issued_by)?;
        let life_ms = token.expires_at_ms.saturating_sub(token.issued_at_ms);
        if !(1..=MAX_JOIN_TOKEN_MS).contains(&life_ms) {
            return Err(TokenError::Lifetime);
        }
        if self.tokens.contains_key(&token.hash) {
            return Err(TokenError::Repeated);
        }
        let broker_id = token.broker_id;
        if self.broker(broker_id).is_some() {
            return Err(TokenError::NumberInUse { broker_id });
        }
        let outstanding = self.join_tokens();
        let outstanding = outstanding.filter(|it| !it.has_expired(token.issued_at_ms));
        if outstanding.clone().any(|it| it.broker_id == broker_id) {
            return Err(TokenError::NumberPromised { broker_id });
        }
        if outstanding.count() >= MAX_JOIN_TOKENS {
            return Err(OverLimit {
                what: "join tokens that nobody has redeemed",
                limit: MAX_JOIN_TOKENS,
            }
            .into());
        }
        let token = token.clone();
        Ok(Some(Record::JoinTokenIssued { token }))
    }

    /// The token with which a new broker is let in.
    pub(crate) fn check_token(
        &self,
        broker_id: BrokerId,
        join: Option<Join>,
    ) -> Result<TokenHash, TokenError> {
        let Join { token, now_ms } = join.ok_or(TokenError::Missing { broker_id })?;
        match self.tokens.get(&token) {
            None => Err(TokenError::Unknown { broker_id }),
            Some(issued) if issued.has_expired(now_ms) => Err(TokenError::Expired { broker_id }),
            Some(issued) if issued.broker_id != broker_id => Err(TokenError::OtherNumber {
                broker_id,
                promised: issued.broker_id,
            }),
            Some(_) => Ok(token),
        }
    }

    /// Those that have expired by then make room.
    pub(crate) fn apply_join_token_issued(&mut self, token: &JoinToken) {
        let now_ms = token.issued_at_ms;
        self.tokens.retain(|_, it| !it.has_expired(now_ms));
        self.tokens.insert(token.hash, token.clone());
    }
}
