use millstream_protocol::batch::{self, BatchBuilder, Compression};
use millstream_protocol::{TopicId, TopicPartition};
use millstream_replication::{Position, Run, Span};

use super::*;

/// A log that is empty up to an offset, behind which it has what it says.
struct Gap {
    until: Offset,
    step: Offset,
}

impl Entries for Gap {
    fn read(&self, from: Offset, _: Offset, _: usize) -> Option<Piece> {
        (from <= self.until).then(|| match from == self.until {
            true => piece(from, &[10]),
            false => Piece {
                batches: Vec::new(),
                next_offset: (from + self.step).min(self.until),
            },
        })
    }

    fn read_cached(&self, _: Offset, _: Offset, _: usize) -> Option<Piece> {
        None
    }
}

fn batch(base_offset: Offset, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    let value = vec![7; value_bytes];
    builder.append(1, None, Some(&value), &[]).unwrap();
    let mut bytes = BytesMut::from(&builder.finish(None).unwrap()[..]);
    batch::assign(&mut bytes, base_offset, 4).unwrap();
    bytes.freeze()
}

/// Batches of one record each, of values of these sizes.
fn piece(from: Offset, sizes: &[usize]) -> Piece {
    let offsets = from..;
    let batches = offsets
        .zip(sizes)
        .map(|(offset, size)| batch(offset, *size));
    Piece {
        batches: batches.collect(),
        next_offset: from + sizes.len() as u64,
    }
}

fn append(from: Offset, until: Offset) -> Outgoing {
    let run = Run {
        epoch: 4,
        start: from,
    };
    let partition = TopicPartition {
        topic_id: TopicId::from_bytes([1; 16]),
        partition: 0,
    };
    let span = Span {
        prev: Position {
            epoch: 4,
            offset: from,
        },
        runs: (until > from).then_some(run).into_iter().collect(),
        until,
        from_start: false,
    };
    Outgoing {
        partition,
        message: Message::Append {
            epoch: 4,
            span,
            high_watermark: 5,
            deleted: 3,
            asks: true,
        },
        entries: Some(Arc::new(Gap { until: 0, step: 1 })),
    }
}

fn fetched(from: Offset, until: Offset) -> Outgoing {
    let mut outgoing = append(from, until);
    if let Message::Append { span, .. } = outgoing.message {
        outgoing.message = Message::Fetched { epoch: 5, span };
    }
    outgoing
}

/// A frame of one message, and what is left of that.
fn gathered(outgoing: Outgoing, piece: Option<Piece>) -> (Gathered, Option<Message>) {
    let mut gathered = Gathered::default();
    let rest = gathered.add(outgoing, piece);
    (gathered, rest.map(|rest| rest.message))
}

#[test]
fn what_was_read_goes_and_the_rest_stays() {
    let (frame, rest) = gathered(append(10, 20), Some(piece(10, &[5, 5])));
    let (frame, payload) = frame.into_frame();
    assert_eq!(payload, [[batch(10, 5), batch(11, 5)].concat()]);
    let [
        Part {
            message: Message::Append { span, asks, .. },
            ..
        },
    ] = &frame.parts[..]
    else {
        panic!("{frame:?}");
    };
    assert_eq!((span.until, *asks), (12, false));
    assert_eq!(rest, Some(append(12, 20).message));

    let (_, rest) = gathered(append(10, 12), Some(piece(10, &[5, 5])));
    assert_eq!(rest, None);
    let (frame, rest) = gathered(fetched(10, 20), Some(piece(10, &[5])));
    assert_eq!(rest, None);
    assert_eq!(frame.parts[0].message, fetched(10, 11).message);
}

#[test]
fn what_is_not_there_is_not_said_to_be() {
    let nothing = |next_offset| {
        Some(Piece {
            batches: Vec::new(),
            next_offset,
        })
    };
    let (frame, rest) = gathered(append(10, 20), nothing(20));
    assert_eq!((frame.parts.len(), rest), (1, None));
    assert_eq!(frame.parts[0].message, append(10, 10).message);
    assert!(gathered(fetched(10, 20), nothing(20)).0.is_empty());
    assert!(gathered(append(10, 20), None).0.is_empty());
}

#[test]
fn what_no_peer_would_take_is_not_sent() {
    let unlike = |change: fn(&mut Piece)| {
        let mut piece = piece(10, &[5, 5]);
        change(&mut piece);
        piece
    };
    for wrong in [
        unlike(|piece| piece.next_offset = 21),
        unlike(|piece| piece.next_offset = 10),
        unlike(|piece| piece.batches[0] = batch(9, 5)),
        unlike(|piece| piece.batches[0] = Bytes::from_static(b"no batch")),
        unlike(|piece| piece.batches[1] = batch(11, TURN_BYTES)),
    ] {
        let (frame, rest) = gathered(append(10, 20), Some(wrong));
        assert!(frame.is_empty() && rest.is_none());
    }
    // One alone may be larger than a turn.
    let (frame, _) = gathered(append(10, 20), Some(piece(10, &[TURN_BYTES])));
    assert!(!frame.is_empty() && frame.is_full());
}

#[test]
fn small_batches_are_copied_together_and_large_ones_are_not() {
    let sizes = [10, 20, SMALL_BATCH_BYTES, SMALL_BATCH_BYTES, 30];
    let read = piece(10, &sizes);
    let large = read.batches[2].clone();
    let whole = read.batches.concat();
    let (mut frame, _) = gathered(append(10, 15), Some(read));
    // Behind it those of another message.
    frame.add(append(3, 4), Some(piece(3, &[40])));
    let (frame, payload) = frame.into_frame();
    assert_eq!(frame.parts.len(), 2);
    assert_eq!(payload.len(), 4);
    assert_eq!(payload[1].as_ptr(), large.as_ptr());
    assert_eq!(payload.concat(), [whole, batch(3, 40).to_vec()].concat());
}

#[test]
fn a_frame_is_full_at_its_bytes_or_messages() {
    let mut frame = Gathered::default();
    for _ in 0..MAX_MESSAGES_PER_FRAME {
        assert!(!frame.is_full());
        frame.add(append(10, 10), None);
    }
    assert!(frame.is_full());
    let (frame, _) = gathered(append(10, 20), Some(piece(10, &[FULL_FRAME_BYTES - 100])));
    assert!(!frame.is_full());
    let (frame, _) = gathered(append(10, 20), Some(piece(10, &[FULL_FRAME_BYTES])));
    assert!(frame.is_full());
}

#[test]
fn gaps_are_read_over_as_far_as_the_span_goes() {
    let read = |log: &Gap, until| read_on(0, until, |from| log.read(from, until, 0));
    let log = Gap { until: 9, step: 2 };
    assert_eq!(read(&log, 10), Some(piece(9, &[10])));
    assert_eq!(read(&log, 5).map(|it| it.batches.len()), Some(0));
    // A log that gets nowhere is not asked for ever.
    let stuck = Gap { until: 9, step: 0 };
    assert_eq!(read(&stuck, 10).map(|it| it.batches.len()), Some(0));
}
