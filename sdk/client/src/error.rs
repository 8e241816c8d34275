//! What can go wrong in the client, and what a caller may do about it.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::batch::BatchError;
use millstream_protocol::{Advice, ErrorCode, Offset, PartitionIndex, WireError};
use millstream_transport::identity::IdentityError;
use millstream_transport::profile::ProfileError;
use millstream_transport::{CloseReason, ConnectError, ConnectorError, ReceiveError, SendError};

/// The result of most operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Cheap to clone: every record of a failed batch gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable client profile was found.
    #[error(transparent)]
    Profile(Arc<ProfileError>),
    /// The identity cannot be read.
    #[error(transparent)]
    Identity(Arc<IdentityError>),
    /// The identity or configuration cannot be used to connect.
    #[error(transparent)]
    Connector(Arc<ConnectorError>),
    /// No connection to the broker could be made. [`Error::hint`] may say what to do.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// The connection or one of its streams broke.
    #[error("the connection to the broker was lost")]
    ConnectionLost(#[source] StreamError),
    /// The broker refused. [`Error::advice`] says whether to try again.
    #[error(transparent)]
    Broker(#[from] WireError),
    /// It took too long. What was asked may or may not have happened.
    #[error("{what} took longer than {} ms", after.as_millis())]
    Timeout {
        /// What took too long.
        what: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The client, producer or consumer has been closed.
    #[error("the {what} is closed")]
    Closed {
        /// What is closed.
        what: &'static str,
    },
    /// An argument makes no sense; nothing was sent.
    #[error("{0}")]
    InvalidArgument(String),
    /// A record that does not fit into a batch of its topic; nothing was sent.
    #[error("record of {bytes} bytes exceeds the limit of {limit}")]
    RecordTooLarge {
        /// The record's size, bytes.
        bytes: usize,
        /// What the topic takes, bytes.
        limit: usize,
    },
    /// A fetched batch fails its checksum or its layout is wrong. The partition stands still until
    /// the consumer seeks past it.
    #[error("partition {partition} of topic {topic} is unreadable at offset {offset}")]
    Corrupt {
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionIndex,
        /// The offset that was to be read next.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// The consumer lost its place in the group before its commit was confirmed. It joins again by
    /// itself; records that were not committed are handed out again, here or to another member.
    #[error("membership of group {group} was lost before the commit was confirmed")]
    MembershipLost {
        /// The group's name.
        group: Arc<str>,
    },
}

/// How a stream broke.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] CloseReason),
    /// Nothing more can be sent on it.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Nothing more can be received on it.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The broker ended it early.
    #[error("the broker ended the stream")]
    Ended,
    /// The broker said what makes no sense at this place.
    #[error("the broker sent {0}")]
    Unexpected(&'static str),
}

impl Error {
    /// The broker's error code, where the broker refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later. The client has already tried again on its own, as
    /// long as its timeouts allow.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Broker(error) => error.code.advice(),
            Self::Connect(error) => connect_advice(error),
            Self::ConnectionLost(
                StreamError::Receive(ReceiveError::Frame(_)) | StreamError::Unexpected(_),
            ) => Advice::GiveUp,
            Self::ConnectionLost(_) | Self::Timeout { .. } => Advice::Retry,
            Self::MembershipLost { .. } => Advice::Refresh,
            Self::Profile(_)
            | Self::Identity(_)
            | Self::Connector(_)
            | Self::Closed { .. }
            | Self::InvalidArgument(_)
            | Self::RecordTooLarge { .. }
            | Self::Corrupt { .. } => Advice::GiveUp,
        }
    }

    /// What a person can do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    pub(crate) fn unexpected(what: &'static str) -> Self {
        Self::ConnectionLost(StreamError::Unexpected(what))
    }
}

/// A refused certificate or a wrong address stays what it is; a silent broker may come back.
fn connect_advice(error: &ConnectError) -> Advice {
    match error {
        ConnectError::TimedOut { .. } | ConnectError::Resolve { .. } | ConnectError::Socket(_) => {
            Advice::Retry
        }
        ConnectError::Closed { reason, .. } => match reason {
            CloseReason::CertificateRefused(_)
            | CloseReason::PeerNotTrusted(_)
            | CloseReason::Protocol { .. } => Advice::GiveUp,
            CloseReason::Local
            | CloseReason::Peer { .. }
            | CloseReason::TimedOut
            | CloseReason::Forgotten
            | CloseReason::Refused => Advice::Retry,
        },
        ConnectError::Address(_)
        | ConnectError::ServerName { .. }
        | ConnectError::Principal { .. } => Advice::GiveUp,
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl From<ConnectorError> for Error {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(Arc::new(error))
    }
}

impl From<ProfileError> for Error {
    fn from(error: ProfileError) -> Self {
        Self::Profile(Arc::new(error))
    }
}

impl From<IdentityError> for Error {
    fn from(error: IdentityError) -> Self {
        Self::Identity(Arc::new(error))
    }
}

impl From<CloseReason> for Error {
    fn from(reason: CloseReason) -> Self {
        Self::ConnectionLost(reason.into())
    }
}

impl From<ReceiveError> for Error {
    fn from(error: ReceiveError) -> Self {
        Self::ConnectionLost(error.into())
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            // Nothing was sent: the request itself is too large.
            SendError::Frame(error) => Self::InvalidArgument(error.to_string()),
            error => Self::ConnectionLost(error.into()),
        }
    }
}
