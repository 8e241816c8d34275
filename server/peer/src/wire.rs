//! A replication frame as it travels: postcard of these structs, and behind it the batches of its
//! messages' spans, one after the other. Where those of one message end, its span says.
//!
//! They mirror the types of the replication core, which knows no wire. Enums grow only at the end.

use std::fmt;
use std::marker::PhantomData;

use millstream_protocol::{LeaderEpoch, Offset, TopicPartition};
use millstream_replication::limits::MAX_RUNS;
use millstream_replication::{Ack, DirectoryId, Durable, Message, Position, Run, Span};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_MESSAGES_PER_FRAME;

/// Messages that are sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplicationFrame {
    #[serde(deserialize_with = "take_parts")]
    pub(crate) parts: Vec<Part>,
}

/// One message about one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) partition: TopicPartition,
    #[serde(with = "WireMessage")]
    pub(crate) message: Message,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Message")]
enum WireMessage {
    Seal {
        epoch: LeaderEpoch,
    },
    Sealed {
        epoch: LeaderEpoch,
        #[serde(with = "WireDurable")]
        durable: Durable,
        #[serde(with = "WirePosition")]
        tip: Position,
        high_watermark: Offset,
    },
    Fetch {
        epoch: LeaderEpoch,
        #[serde(with = "WireDirectoryId")]
        directory: DirectoryId,
        #[serde(with = "WirePosition")]
        tip: Position,
        #[serde(with = "WirePosition")]
        from: Position,
    },
    Fetched {
        epoch: LeaderEpoch,
        #[serde(with = "WireSpan")]
        span: Span,
    },
    Parted {
        epoch: LeaderEpoch,
        #[serde(with = "WirePosition")]
        asked: Position,
        #[serde(with = "WirePosition")]
        floor: Position,
    },
    Append {
        epoch: LeaderEpoch,
        #[serde(with = "WireSpan")]
        span: Span,
        high_watermark: Offset,
        deleted: Offset,
        asks: bool,
    },
    #[serde(with = "WireAck")]
    Ack(Ack),
    Mismatch {
        epoch: LeaderEpoch,
        #[serde(with = "WirePosition")]
        asked: Position,
        #[serde(with = "WirePosition")]
        floor: Position,
    },
    Trust {
        epoch: LeaderEpoch,
        #[serde(with = "WireDirectoryId")]
        directory: DirectoryId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ack")]
struct WireAck {
    epoch: LeaderEpoch,
    #[serde(with = "WireDirectoryId")]
    directory: DirectoryId,
    trusted: bool,
    verified: Offset,
    flushed: Offset,
    high_watermark: Offset,
    deleted: Offset,
    answers: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Durable")]
struct WireDurable {
    #[serde(with = "WireDirectoryId")]
    directory: DirectoryId,
    promised: LeaderEpoch,
    trusted: bool,
    deleted: Offset,
    committed: Offset,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DirectoryId")]
struct WireDirectoryId(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Position")]
struct WirePosition {
    epoch: LeaderEpoch,
    offset: Offset,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Span")]
struct WireSpan {
    #[serde(with = "WirePosition")]
    prev: Position,
    #[serde(serialize_with = "put_runs", deserialize_with = "take_runs")]
    runs: Vec<Run>,
    until: Offset,
    from_start: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Run")]
struct WireRun {
    epoch: LeaderEpoch,
    start: Offset,
}

/// A run where a list of them is read and written.
#[derive(Serialize, Deserialize)]
struct ListedRun(#[serde(with = "WireRun")] Run);

fn put_runs<S: Serializer>(runs: &[Run], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().map(|run| ListedRun(*run)))
}

fn take_runs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Run>, D::Error> {
    let runs = deserializer.deserialize_seq(List::<ListedRun, MAX_RUNS>(PhantomData))?;
    Ok(runs.into_iter().map(|ListedRun(run)| run).collect())
}

fn take_parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Part>, D::Error> {
    deserializer.deserialize_seq(List::<Part, MAX_MESSAGES_PER_FRAME>(PhantomData))
}

/// Reads a whole list, and keeps no more of it than shows that it has more than `MAX` elements.
struct List<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut kept = Vec::new();
        while let Some(element) = list.next_element()? {
            if kept.len() <= MAX {
                kept.push(element);
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests;
