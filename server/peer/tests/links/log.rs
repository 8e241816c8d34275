//! A log in memory, and messages about it.

use bytes::{Bytes, BytesMut};
use millstream_peer::{Entries, Piece};
use millstream_protocol::batch::{self, BatchBuilder, BatchHeader, Compression};
use millstream_protocol::{LeaderEpoch, Offset, TopicId, TopicPartition};
use millstream_replication::{Ack, DirectoryId, Message, Position, Run, Span};
use tokio::sync::watch;

pub(crate) const EPOCH: LeaderEpoch = 3;

pub(crate) fn partition(partition: u32) -> TopicPartition {
    TopicPartition {
        topic_id: TopicId::from_bytes([9; 16]),
        partition,
    }
}

/// A batch of one record.
pub(crate) fn batch(base_offset: Offset, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, value_bytes + 1024);
    let value = vec![0x5a; value_bytes];
    builder.append(1, None, Some(&value), &[]).unwrap();
    let mut batch = BytesMut::from(&builder.finish(None).unwrap()[..]);
    batch::assign(&mut batch, base_offset, EPOCH).unwrap();
    batch.freeze()
}

/// Where entries are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
}

/// Batches of one record each, all of the same size.
pub(crate) struct Log {
    batches: Vec<Bytes>,
    place: Place,
    /// Bytes that were handed out.
    pub(crate) read_bytes: watch::Sender<usize>,
}

impl Log {
    pub(crate) fn new(records: u64, value_bytes: usize, place: Place) -> Self {
        Self::of(
            (0..records)
                .map(|offset| batch(offset, value_bytes))
                .collect(),
            place,
        )
    }

    pub(crate) fn of(batches: Vec<Bytes>, place: Place) -> Self {
        Self {
            batches,
            place,
            read_bytes: watch::Sender::new(0),
        }
    }

    fn piece(&self, from: Offset, until: Offset, max_bytes: usize) -> Piece {
        let mut piece = Piece {
            batches: Vec::new(),
            next_offset: until,
        };
        let mut bytes = 0;
        for batch in &self.batches {
            let header = BatchHeader::parse(batch).unwrap();
            if header.base_offset < from {
                continue;
            }
            let fits = piece.batches.is_empty() || bytes + batch.len() <= max_bytes;
            if header.next_offset() > until || !fits {
                break;
            }
            bytes += batch.len();
            piece.batches.push(batch.clone());
            piece.next_offset = header.next_offset();
        }
        self.read_bytes.send_modify(|read| *read += bytes);
        piece
    }
}

impl Entries for Log {
    fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        Some(self.piece(from, until, max_bytes))
    }

    fn read_cached(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        (self.place == Place::Memory).then(|| self.piece(from, until, max_bytes))
    }
}

pub(crate) fn append(from: Offset, until: Offset) -> Message {
    let prev = Position {
        epoch: if from == 0 { 0 } else { EPOCH },
        offset: from,
    };
    let run = Run {
        epoch: EPOCH,
        start: from,
    };
    Message::Append {
        epoch: EPOCH,
        span: Span {
            prev,
            runs: (until > from).then_some(run).into_iter().collect(),
            until,
            from_start: from == 0,
        },
        high_watermark: from,
        deleted: 0,
        asks: false,
    }
}

pub(crate) fn ack(flushed: Offset) -> Message {
    Message::Ack(Ack {
        epoch: EPOCH,
        deleted: 0,
        directory: DirectoryId(1),
        trusted: true,
        verified: flushed,
        flushed,
        high_watermark: 0,
        answers: false,
    })
}
