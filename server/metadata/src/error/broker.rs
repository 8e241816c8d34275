//! Errors of commands about brokers.

use thiserror::Error;

use super::{OverLimit, UnknownBroker};
use crate::broker::BrokerId;

/// Why a broker does not drain, is not fenced or removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BrokerError {
    /// There is no such broker.
    #[error(transparent)]
    UnknownBroker(#[from] UnknownBroker),
    /// It still keeps something.
    #[error("broker {broker_id} has {replicas} replicas: drain it, and remove it when it has none")]
    HoldsReplicas {
        /// Its number.
        broker_id: BrokerId,
        /// How many.
        replicas: usize,
    },
}

/// Why a broker is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// Its address is empty, too long or has control characters.
    #[error("the address of broker {broker_id} is empty, too long or has control characters")]
    Address {
        /// Its number.
        broker_id: BrokerId,
    },
    /// Its rack's name is empty, too long or has control characters.
    #[error("the rack of broker {broker_id} is empty, too long or has control characters")]
    Rack {
        /// Its number.
        broker_id: BrokerId,
    },
    /// It does not understand what the cluster writes.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// It is not the broker that is known by this number.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
    /// It has no token that lets it in.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Too many brokers.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// A broker that does not understand what the cluster writes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeatureError {
    /// Its range has no level in it.
    #[error("broker {broker_id} claims to understand feature levels from {min} to {max}")]
    Reversed {
        /// Its number.
        broker_id: BrokerId,
        /// The lowest.
        min: u16,
        /// The highest.
        max: u16,
    },
    /// Its software is older than the cluster's.
    #[error(
        "broker {broker_id} understands feature levels up to {max}, and the cluster is at {level}: start it \
         with a version at least as new as that of the other brokers"
    )]
    TooOld {
        /// Its number.
        broker_id: BrokerId,
        /// The cluster's level.
        level: u16,
        /// The highest that it understands.
        max: u16,
    },
    /// Its software is so new that it has forgotten the cluster's level.
    #[error(
        "broker {broker_id} understands feature levels from {min} on, and the cluster is at {level}: start it \
         with an older version, and bring the whole cluster to that one first"
    )]
    TooNew {
        /// Its number.
        broker_id: BrokerId,
        /// The cluster's level.
        level: u16,
        /// The lowest that it understands.
        min: u16,
    },
}

/// A broker that is not the one known by its number, nor the successor of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConflictError {
    /// A later process has registered on the same data directory.
    #[error(
        "broker {broker_id} at {address} runs start {known} of this data directory, and this is start {given}: \
         it is an old process or an old copy of the directory; stop it"
    )]
    OldIncarnation {
        /// Its number.
        broker_id: BrokerId,
        /// The last start that is known.
        known: u64,
        /// The start that it says it is.
        given: u64,
        /// Where the later one is.
        address: String,
    },
    /// The directory knows nothing of the start that has registered last.
    #[error(
        "this is an old copy of the data directory of broker {broker_id}, which was started since (last as start \
         {known}, at {address}): it lacks what the broker has acknowledged meanwhile; start the broker with its own \
         directory or, if that is lost, let it in under a new number with a ticket of its own and an empty directory, and \
         remove broker {broker_id}"
    )]
    OldCopy {
        /// Its number.
        broker_id: BrokerId,
        /// The last start that is known.
        known: u64,
        /// Where that was.
        address: String,
    },
    /// Two processes at a time claim the same data directory.
    #[error(
        "broker {broker_id} is live at {address} with the same data directory as the one at {given}: one of them is a \
         copy; stop it, and start it with an empty directory and a number of its own. If the broker was only \
         moved, start it again once `cluster status` calls it gone"
    )]
    CopiedDirectory {
        /// Its number.
        broker_id: BrokerId,
        /// Where the live one is.
        address: String,
        /// Where the other is.
        given: String,
    },
    /// Another data directory has this number, and is at work.
    #[error(
        "broker {broker_id} is live at {address} with another data directory: give this one another number, \
         or stop the other first if this one is to take its place"
    )]
    NumberInUse {
        /// Its number.
        broker_id: BrokerId,
        /// Where the other is.
        address: String,
    },
}

/// A join token that is not issued, or lets nobody in. No error tells a token or its hash.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// A new broker has brought none.
    #[error("broker {broker_id} is new: it needs a join token, which an operator issues")]
    Missing {
        /// Its number.
        broker_id: BrokerId,
    },
    /// It has been redeemed, or never was.
    #[error(
        "the join token of broker {broker_id} is not known: each lets in one broker; issue another one"
    )]
    Unknown {
        /// Its number.
        broker_id: BrokerId,
    },
    /// It is too old.
    #[error("the join token of broker {broker_id} has expired: issue another one")]
    Expired {
        /// Its number.
        broker_id: BrokerId,
    },
    /// It is for another broker.
    #[error(
        "the join token of broker {broker_id} is for broker {promised}: start it with the ticket that was \
         made for it"
    )]
    OtherNumber {
        /// Its number.
        broker_id: BrokerId,
        /// The number that the token is for.
        promised: BrokerId,
    },
    /// The number that it would be for is a broker's.
    #[error("there is a broker {broker_id} already: a join token is for a number that nobody has")]
    NumberInUse {
        /// The number.
        broker_id: BrokerId,
    },
    /// The number that it would be for is promised to somebody else.
    #[error("number {broker_id} is promised to the holder of another join token: take another one")]
    NumberPromised {
        /// The number.
        broker_id: BrokerId,
    },
    /// It would be too old at once, or never.
    #[error("a join token lives for a millisecond at least, and for a week at most")]
    Lifetime,
    /// There is the same one already.
    #[error("this join token is issued already: make another one")]
    Repeated,
    /// Too many, or a name that is too long.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}
