use bytes::BytesMut;
use millstream_protocol::TopicId;
use millstream_protocol::batch::{self, BatchBuilder, Compression};
use millstream_replication::{DirectoryId, Position, Run};

use super::*;

const PARTITION: TopicPartition = TopicPartition {
    topic_id: TopicId(uuid::Uuid::nil()),
    partition: 3,
};

fn batch(epoch: LeaderEpoch, base_offset: Offset, records: u32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    for _ in 0..records {
        builder.append(1, None, Some(b"value"), &[]).unwrap();
    }
    let mut batch = builder.finish(None).unwrap().to_vec();
    batch::assign(&mut batch, base_offset, epoch).unwrap();
    batch
}

fn span(from: Offset, runs: &[(LeaderEpoch, Offset)], until: Offset) -> Span {
    let runs = runs.iter().map(|&(epoch, start)| Run { epoch, start });
    Span {
        prev: Position {
            epoch: runs.clone().next().map_or(1, |run| run.epoch),
            offset: from,
        },
        runs: runs.collect(),
        until,
        from_start: false,
    }
}

fn part(message: Message) -> Part {
    Part {
        partition: PARTITION,
        message,
    }
}

fn append(span: Span) -> Part {
    part(Message::Append {
        epoch: 4,
        span,
        high_watermark: 0,
        deleted: 0,
        asks: false,
    })
}

/// The batches of each part.
fn check_all(parts: Vec<Part>, batches: &[Vec<u8>]) -> Result<Vec<Vec<ReceivedBatch>>, FrameFault> {
    let payload = BytesMut::from(&batches.concat()[..]);
    let checked = with_batches(
        ReplicationFrame {
            parts: parts.clone(),
        },
        payload,
    )?;
    let (checked, batches): (Vec<_>, Vec<_>) = checked.into_iter().unzip();
    assert_eq!(checked, parts);
    Ok(batches)
}

fn check(span: Span, batches: &[Vec<u8>]) -> Result<Vec<ReceivedBatch>, FrameFault> {
    check_all(vec![append(span)], batches).map(|batches| batches.concat())
}

fn entries(fault: EntriesFault) -> FrameFault {
    let partition = PARTITION;
    FrameFault::Entries { partition, fault }
}

#[test]
fn whole_batches_come_out_as_they_were_sent() {
    // Compaction has left a gap from 15 to 17.
    let batches = [batch(3, 10, 5), batch(3, 17, 3), batch(4, 20, 1)];
    let received = check(span(10, &[(3, 10), (4, 20)], 21), &batches).unwrap();
    let bytes: Vec<_> = received.iter().map(|it| &it.bytes[..]).collect();
    assert_eq!(bytes, batches);
    let offsets: Vec<_> = received.iter().map(|it| it.header.base_offset).collect();
    assert_eq!(offsets, [10, 17, 20]);
    assert_eq!(check(span(10, &[], 10), &[]), Ok(Vec::new()));
}

#[test]
fn each_message_has_its_own_batches() {
    let seal = || part(Message::Seal { epoch: 4 });
    let parts = vec![
        seal(),
        append(span(10, &[(3, 10)], 13)),
        append(span(13, &[], 13)),
        append(span(5, &[(3, 5)], 9)),
        seal(),
    ];
    let batches = [batch(3, 10, 2), batch(3, 12, 1), batch(3, 5, 4)];
    let received = check_all(parts.clone(), &batches).unwrap();
    let counts: Vec<_> = received.iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 2, 0, 1, 0]);
    let stray = [&batches[..], &[batch(3, 9, 1)]].concat();
    let bytes = stray[3].len();
    assert_eq!(
        check_all(parts.clone(), &stray),
        Err(FrameFault::Stray { bytes })
    );
    let fewer = check_all(parts, &batches[..2]);
    let end = EntriesFault::End { found: 5, until: 9 };
    assert_eq!(fewer, Err(entries(end)));
}

#[test]
fn few_bytes_do_not_keep_many() {
    let value_bytes = 10_000;
    let large = || {
        let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
        builder
            .append(1, None, Some(&vec![7; value_bytes]), &[])
            .unwrap();
        let mut batch = builder.finish(None).unwrap().to_vec();
        batch::assign(&mut batch, 10, 3).unwrap();
        batch
    };
    let parts = vec![
        append(span(10, &[(3, 10)], 12)),
        append(span(10, &[(3, 10)], 11)),
    ];
    let batches = [batch(3, 10, 1), batch(3, 11, 1), large()];
    let mut received = check_all(parts, &batches).unwrap();
    let bytes: Vec<_> = received
        .concat()
        .iter()
        .map(|it| it.bytes.to_vec())
        .collect();
    assert_eq!(bytes, batches);
    // Whoever is alone in its buffer can have all of it.
    let mut small = received.swap_remove(0).into_iter().map(|it| it.bytes);
    drop(received);
    let mut first = small.next().unwrap();
    drop(small);
    first.clear();
    assert!(!first.try_reclaim(value_bytes), "it keeps the large one");
}

#[test]
fn batches_that_are_not_the_spans_are_refused() {
    let place = |from, until, behind| EntriesFault::Place {
        from,
        until,
        behind,
    };
    let end = |found, until| EntriesFault::End { found, until };
    for (span, batches, expected) in [
        // Before it, beyond it, twice.
        (
            span(10, &[(3, 10)], 15),
            vec![batch(3, 9, 6)],
            place(9, 15, 10),
        ),
        (
            span(10, &[(3, 10)], 15),
            vec![batch(3, 10, 6)],
            place(10, 16, 10),
        ),
        (
            span(10, &[(3, 10)], 15),
            vec![batch(3, 10, 3), batch(3, 10, 3)],
            place(10, 13, 13),
        ),
        // Across two epochs.
        (
            span(10, &[(3, 10), (4, 12)], 15),
            vec![batch(3, 10, 5)],
            place(10, 15, 10),
        ),
        // Too few, or none.
        (span(10, &[(3, 10)], 15), vec![batch(3, 10, 4)], end(14, 15)),
        (span(10, &[(3, 10)], 15), vec![], end(10, 15)),
        (
            span(10, &[(3, 10), (4, 12)], 15),
            vec![batch(3, 10, 2), batch(3, 12, 3)],
            EntriesFault::Epoch {
                from: 12,
                found: 3,
                expected: 4,
            },
        ),
    ] {
        assert_eq!(check(span, &batches), Err(entries(expected)));
    }
}

#[test]
fn a_span_that_does_not_hold_together_is_refused() {
    let of = |span: &Span| FrameFault::Span {
        partition: PARTITION,
        from: span.prev.offset,
        until: span.until,
        runs: span.runs.len(),
    };
    let many: Vec<_> = (0..300).map(|it| (it + 1, u64::from(it))).collect();
    for wrong in [
        span(10, &[(3, 11)], 15),
        span(10, &[(3, 10)], 10),
        span(10, &[(5, 10)], 15),
        span(10, &[(3, 10), (3, 12)], 15),
        span(0, &many, 400),
    ] {
        let expected = of(&wrong);
        assert_eq!(check(wrong, &[batch(3, 10, 5)]), Err(expected));
    }
    // What is fetched is older than its message's epoch.
    let span = span(10, &[(4, 10)], 15);
    let expected = of(&span);
    let fetched = part(Message::Fetched { epoch: 4, span });
    let found = check_all(vec![fetched], &[batch(4, 10, 5)]);
    assert_eq!(found, Err(expected));
}

#[test]
fn bytes_that_are_no_whole_batches_are_refused() {
    let whole = batch(3, 10, 5);
    let fault = |batches: &[Vec<u8>]| match check(span(10, &[(3, 10)], 15), batches) {
        Err(FrameFault::Entries {
            fault: EntriesFault::Batch { behind, source },
            ..
        }) => (behind, source),
        other => panic!("{other:?}"),
    };
    for length in 1..whole.len() {
        let (behind, source) = fault(&[whole[..length].to_vec()]);
        assert_eq!(behind, 10);
        assert!(matches!(source, BatchError::Length { .. }), "{source}");
    }
    // Every bit behind the checksum counts.
    for place in 21..whole.len() {
        let mut spoilt = whole.clone();
        spoilt[place] ^= 1;
        fault(&[spoilt]);
    }
    let (behind, _) = fault(&[batch(3, 10, 2), vec![0xff; 70]]);
    assert_eq!(behind, 12);
}

#[test]
fn the_number_of_batches_is_bounded() {
    let one = batch(3, 0, 1);
    let count = MAX_BATCHES_PER_FRAME + 1;
    let batches: Vec<_> = (0..count as u64)
        .map(|offset| {
            let mut batch = one.clone();
            batch::assign(&mut batch, offset, 3).unwrap();
            batch
        })
        .collect();
    let whole = span(0, &[(3, 0)], count as u64);
    let whole = Span {
        prev: Position::default(),
        ..whole
    };
    assert_eq!(
        check(whole.clone(), &batches),
        Err(FrameFault::TooManyBatches)
    );
    let fewer = Span {
        until: count as u64 - 1,
        ..whole
    };
    let received = check(fewer, &batches[..count - 1]).unwrap();
    assert_eq!(received.len(), MAX_BATCHES_PER_FRAME);
}

#[test]
fn nothing_comes_with_a_message_without_entries() {
    let trust = || {
        part(Message::Trust {
            epoch: 1,
            directory: DirectoryId(1),
        })
    };
    assert_eq!(check_all(vec![trust()], &[]), Ok(vec![Vec::new()]));
    let stray = check_all(vec![trust()], &[b"stray".to_vec()]);
    assert_eq!(stray, Err(FrameFault::Stray { bytes: 5 }));
    let stray = check_all(Vec::new(), &[b"stray".to_vec()]);
    assert_eq!(stray, Err(FrameFault::Stray { bytes: 5 }));
}
