//! What a broker tells the steward of itself, again and again, and what it is told.
//!
//! A broker beats once it has registered, every [`HEARTBEAT_MS`]. A beat says which start it is, and
//! now and then what it leads: of that only what has changed since the steward has been told, however
//! much it is altogether. A steward that is new to its office is told everything, in pieces of
//! [`MAX_LEADS_PER_BEAT`], and waits for the last of them before it thinks that a partition is not led.
//! The broker's side of this is [`Reporter`](crate::steward::Reporter).
//!
//! [`HEARTBEAT_MS`]: crate::limits::HEARTBEAT_MS

use std::fmt;

use millstream_protocol::{LeaderEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::broker::{BrokerId, Start};
use crate::codec::{CodecError, Format};
use crate::command::WIRE_VERSION;
use crate::limits::{MAX_BEAT_ANSWER_BYTES, MAX_BEAT_BYTES, MAX_LEADS_PER_BEAT};

const FORMAT: Format = Format {
    what: "beat",
    version: WIRE_VERSION,
    limit: MAX_BEAT_BYTES,
};

const ANSWER_FORMAT: Format = Format {
    what: "answer to a beat",
    version: WIRE_VERSION,
    limit: MAX_BEAT_ANSWER_BYTES,
};

/// The steward's term of office: a number that no other steward of the cluster has, drawn at random
/// by who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session(pub u64);

/// A broker is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its number.
    pub broker_id: BrokerId,
    /// Which start of which data directory it is.
    pub start: Start,
    /// Where it is reached. A copy of its data directory is elsewhere.
    pub address: String,
    /// Which beat of this start it is, counted from 1.
    pub number: u64,
    /// The index of the last entry of the metadata log that its image has.
    pub revision: u64,
    /// Whether its disk has no room for further records: it cannot lead where some come.
    pub is_full: bool,
    /// What it leads, if there is anything to say about that.
    pub report: Option<Report>,
}

/// What a broker leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The steward that has been told the rest; `None` if none has, and this is the beginning of
    /// everything.
    pub since: Option<Session>,
    /// The partitions about which there is something to say, at most [`MAX_LEADS_PER_BEAT`]; `None`
    /// for one that it leads no more.
    pub leads: Vec<(TopicPartition, Option<Leads>)>,
    /// Whether there is more to say than there was room for.
    pub has_more: bool,
}

/// A partition that is led: its leader has sealed the epoch and takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leads {
    /// In which epoch.
    pub epoch: LeaderEpoch,
    /// Whether all its replicas keep up: each could take over without much to fetch. A leader says
    /// so when it has been so for a while, lest it changes with every batch.
    pub is_whole: bool,
}

/// What the steward says to a [`Beat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeatAnswer {
    /// It is known as what it says it is.
    Heard {
        /// The steward's term of office.
        session: Session,
        /// The number of the beat.
        number: u64,
        /// The beat with the last report that it has taken in; `None` if it wants everything.
        reported: Option<u64>,
    },
    /// It has been silent for too long and was fenced, or this start has not registered: it is to
    /// register.
    Register,
    /// It is not the broker that it says it is, and is to stop.
    Stop(StopReason),
}

/// Why a process is to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// No broker has its number any more.
    Removed,
    /// A later process has registered on the same data directory.
    LaterStart {
        /// Which start that is.
        incarnation: u64,
        /// Where it is.
        address: String,
    },
    /// Another data directory has registered under its number.
    OtherDirectory {
        /// Where that is.
        address: String,
    },
    /// The same start of the same data directory has registered elsewhere: one of them is a copy.
    Copied {
        /// Where the one that has registered is.
        address: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("this broker has been removed from the cluster"),
            Self::LaterStart {
                incarnation,
                address,
            } => write!(
                f,
                "start {incarnation} of this data directory has taken over at {address}: this is an old \
                 process or an old copy of the directory"
            ),
            Self::OtherDirectory { address } => write!(
                f,
                "another data directory has taken over this broker's number, at {address}"
            ),
            Self::Copied { address } => write!(
                f,
                "the same start of the same data directory is live at {address}: one of them is a copy"
            ),
        }
    }
}

impl Beat {
    /// The beat in bytes, at most [`MAX_BEAT_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        FORMAT.encode(self)
    }

    /// Reads a broker's beat.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let beat: Self = FORMAT.decode(bytes)?;
        let leads = beat.report.as_ref().map_or(0, |it| it.leads.len());
        if leads > MAX_LEADS_PER_BEAT {
            return Err(CodecError::TooMany {
                what: FORMAT.what,
                part: "partitions",
                count: leads,
                limit: MAX_LEADS_PER_BEAT,
            });
        }
        Ok(beat)
    }
}

impl BeatAnswer {
    /// The answer in bytes, at most [`MAX_BEAT_ANSWER_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        ANSWER_FORMAT.encode(self)
    }

    /// Reads the steward's answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        ANSWER_FORMAT.decode(bytes)
    }
}
