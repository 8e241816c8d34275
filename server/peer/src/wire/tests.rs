use std::fmt::Write;

use bytes::BytesMut;
use millstream_protocol::{TopicId, frame};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::check::{FrameFault, check_count, with_batches};

fn at(epoch: LeaderEpoch, offset: Offset) -> Position {
    Position { epoch, offset }
}

fn framed(message: Message) -> ReplicationFrame {
    let topic_id = TopicId::from_bytes([0xab; 16]);
    let partition = TopicPartition {
        topic_id,
        partition: 3,
    };
    ReplicationFrame {
        parts: vec![Part { partition, message }],
    }
}

fn encoded(frame: &ReplicationFrame) -> Vec<u8> {
    postcard::to_stdvec(frame).unwrap()
}

fn span() -> Span {
    Span {
        prev: at(1, 10),
        runs: vec![
            Run {
                epoch: 2,
                start: 10,
            },
            Run {
                epoch: 3,
                start: 300,
            },
        ],
        until: 400,
        from_start: true,
    }
}

/// What messages look like. Nothing of it ever changes; lines are added at the end.
#[test]
fn every_message_has_its_bytes() {
    let durable = Durable {
        directory: DirectoryId(8),
        promised: 9,
        trusted: true,
        deleted: 7,
        committed: 6,
    };
    let ack = Ack {
        epoch: 4,
        directory: DirectoryId(8),
        trusted: false,
        verified: 300,
        flushed: 200,
        high_watermark: 100,
        deleted: 90,
        answers: true,
    };
    let (epoch, directory) = (4, DirectoryId(8));
    let cases = [
        (Message::Seal { epoch }, "0004"),
        (
            Message::Sealed {
                epoch,
                durable,
                tip: at(3, 300),
                high_watermark: 100,
            },
            "0104080901070603ac0264",
        ),
        (
            Message::Fetch {
                epoch,
                directory,
                tip: at(3, 300),
                from: at(2, 5),
            },
            "02040803ac020205",
        ),
        (
            Message::Fetched {
                epoch,
                span: span(),
            },
            "0304010a02020a03ac02900301",
        ),
        (
            Message::Parted {
                epoch,
                asked: at(3, 300),
                floor: at(2, 5),
            },
            "040403ac020205",
        ),
        (
            Message::Append {
                epoch,
                span: span(),
                high_watermark: 100,
                deleted: 90,
                asks: true,
            },
            "0504010a02020a03ac02900301645a01",
        ),
        (Message::Ack(ack), "06040800ac02c801645a01"),
        (
            Message::Mismatch {
                epoch,
                asked: at(3, 300),
                floor: at(2, 5),
            },
            "070403ac020205",
        ),
        (Message::Trust { epoch, directory }, "080408"),
    ];
    let head = format!("0110{}03", "ab".repeat(16));
    for (message, expected) in cases {
        let frame = framed(message);
        let mut hex = String::new();
        for byte in encoded(&frame) {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(hex, format!("{head}{expected}"), "{frame:?}");
        assert_eq!(frame::decode_body(&encoded(&frame)), Ok(frame));
    }
}

#[test]
fn a_list_of_runs_is_read_to_its_end_but_not_kept() {
    let run = Run { epoch: 1, start: 1 };
    let many = Span {
        runs: vec![run; 100_000],
        ..span()
    };
    let message = Message::Fetched {
        epoch: 4,
        span: many,
    };
    let read: ReplicationFrame = frame::decode_body(&encoded(&framed(message))).unwrap();
    let Message::Fetched { span, .. } = &read.parts[0].message else {
        panic!("{read:?}");
    };
    assert_eq!(span.runs.len(), MAX_RUNS + 1);
    assert!(with_batches(read, BytesMut::new()).is_err());
}

#[test]
fn so_is_a_list_of_messages() {
    let one = framed(Message::Seal { epoch: 1 });
    let many = |count| ReplicationFrame {
        parts: vec![one.parts[0].clone(); count],
    };
    let most = many(MAX_MESSAGES_PER_FRAME);
    assert_eq!(frame::decode_body(&encoded(&most)), Ok(most));
    let read: ReplicationFrame = frame::decode_body(&encoded(&many(30_000))).unwrap();
    assert_eq!(read.parts.len(), MAX_MESSAGES_PER_FRAME + 1);
    assert_eq!(check_count(&read), Err(FrameFault::TooManyMessages));
}

fn positions() -> impl Strategy<Value = Position> {
    (any::<u32>(), any::<u64>()).prop_map(|(epoch, offset)| at(epoch, offset))
}

fn spans() -> impl Strategy<Value = Span> {
    let run = (any::<u32>(), any::<u64>()).prop_map(|(epoch, start)| Run { epoch, start });
    let runs = vec(run, 0..=MAX_RUNS);
    (positions(), runs, any::<u64>(), any::<bool>()).prop_map(|(prev, runs, until, from_start)| {
        Span {
            prev,
            runs,
            until,
            from_start,
        }
    })
}

fn messages() -> impl Strategy<Value = Message> {
    let epoch = any::<u32>;
    let directory = || any::<u64>().prop_map(DirectoryId);
    let durable = (directory(), epoch(), any::<(bool, u64, u64)>()).prop_map(
        |(directory, promised, rest)| {
            let (trusted, deleted, committed) = rest;
            Durable {
                directory,
                promised,
                trusted,
                deleted,
                committed,
            }
        },
    );
    prop_oneof![
        epoch().prop_map(|epoch| Message::Seal { epoch }),
        (epoch(), durable, positions(), any::<u64>()).prop_map(
            |(epoch, durable, tip, high_watermark)| Message::Sealed {
                epoch,
                durable,
                tip,
                high_watermark,
            }
        ),
        (epoch(), directory(), positions(), positions()).prop_map(
            |(epoch, directory, tip, from)| Message::Fetch {
                epoch,
                directory,
                tip,
                from,
            }
        ),
        (epoch(), spans()).prop_map(|(epoch, span)| Message::Fetched { epoch, span }),
        (epoch(), positions(), positions()).prop_map(|(epoch, asked, floor)| Message::Parted {
            epoch,
            asked,
            floor,
        }),
        (epoch(), spans(), any::<(u64, u64)>(), any::<bool>()).prop_map(
            |(epoch, span, (high_watermark, deleted), asks)| Message::Append {
                epoch,
                span,
                high_watermark,
                deleted,
                asks,
            }
        ),
        (
            (epoch(), directory(), any::<bool>(), any::<bool>()),
            any::<[u64; 4]>()
        )
            .prop_map(|((epoch, directory, trusted, answers), offsets)| {
                let [verified, flushed, high_watermark, deleted] = offsets;
                Message::Ack(Ack {
                    epoch,
                    directory,
                    trusted,
                    verified,
                    flushed,
                    high_watermark,
                    deleted,
                    answers,
                })
            }),
        (epoch(), positions(), positions()).prop_map(|(epoch, asked, floor)| Message::Mismatch {
            epoch,
            asked,
            floor,
        }),
        (epoch(), directory()).prop_map(|(epoch, directory)| Message::Trust { epoch, directory }),
    ]
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(messages in vec(messages(), 0..5)) {
        let parts = messages.into_iter().flat_map(|it| framed(it).parts);
        let frame = ReplicationFrame { parts: parts.collect() };
        prop_assert_eq!(frame::decode_body(&encoded(&frame)), Ok(frame));
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        body in vec(any::<u8>(), 0..200),
        payload in vec(any::<u8>(), 0..400),
    ) {
        if let Ok(frame) = frame::decode_body::<ReplicationFrame>(&body) {
            let _ = with_batches(frame, BytesMut::from(&payload[..]));
        }
    }

    #[test]
    fn a_message_with_arbitrary_bytes_behind_it_is_read_or_refused(
        message in messages(),
        cut in any::<proptest::sample::Index>(),
        payload in vec(any::<u8>(), 0..400),
    ) {
        let frame = framed(message);
        let bytes = encoded(&frame);
        let cut = cut.index(bytes.len());
        prop_assert!(frame::decode_body::<ReplicationFrame>(&bytes[..cut]).is_err());
        let _ = with_batches(frame, BytesMut::from(&payload[..]));
    }
}
