use std::sync::Arc;

use millstream_protocol::{LeaderEpoch, Offset, TopicId, TopicPartition};
use millstream_replication::limits::MAX_RUNS;
use millstream_replication::{Ack, DirectoryId, Message, Position, Run, Span};

use super::*;
use crate::entries::{Entries, Piece};

/// Entries that nobody reads here.
struct Unread;

impl Entries for Unread {
    fn read(&self, _: Offset, _: Offset, _: usize) -> Option<Piece> {
        None
    }

    fn read_cached(&self, _: Offset, _: Offset, _: usize) -> Option<Piece> {
        None
    }
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition {
        topic_id: TopicId::from_bytes([7; 16]),
        partition,
    }
}

fn at(epoch: LeaderEpoch, offset: Offset) -> Position {
    Position { epoch, offset }
}

fn span(prev: Position, runs: &[(LeaderEpoch, Offset)], until: Offset) -> Span {
    let runs = runs.iter().map(|&(epoch, start)| Run { epoch, start });
    Span {
        prev,
        runs: runs.collect(),
        until,
        from_start: false,
    }
}

fn append(epoch: LeaderEpoch, span: Span, high_watermark: Offset) -> Message {
    Message::Append {
        epoch,
        span,
        high_watermark,
        deleted: high_watermark / 2,
        asks: false,
    }
}

fn asking(message: Message) -> Message {
    match message {
        Message::Append {
            epoch,
            span,
            high_watermark,
            deleted,
            ..
        } => Message::Append {
            epoch,
            span,
            high_watermark,
            deleted,
            asks: true,
        },
        other => other,
    }
}

fn ack(epoch: LeaderEpoch, flushed: Offset, answers: bool) -> Message {
    Message::Ack(Ack {
        epoch,
        directory: DirectoryId(1),
        trusted: true,
        verified: flushed,
        flushed,
        high_watermark: 0,
        deleted: 0,
        answers,
    })
}

fn outgoing(partition: TopicPartition, message: Message) -> Outgoing {
    Outgoing {
        partition,
        message,
        entries: Some(Arc::new(Unread)),
    }
}

fn outbox() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.open();
    outbox
}

/// Hands messages of one partition in, and takes out what is to be sent.
fn sent(lane: Lane, messages: impl IntoIterator<Item = Message>) -> Vec<Message> {
    let mut outbox = outbox();
    for message in messages {
        assert_eq!(outbox.push(outgoing(partition(0), message)), Some(lane));
    }
    drain(&mut outbox, lane)
}

fn drain(outbox: &mut Outbox, lane: Lane) -> Vec<Message> {
    std::iter::from_fn(|| outbox.next(lane))
        .map(|outgoing| outgoing.message)
        .collect()
}

#[test]
fn what_follows_is_sent_as_one() {
    let first = append(4, span(at(3, 10), &[(3, 10), (4, 12)], 20), 12);
    let second = append(4, span(at(4, 20), &[(4, 20)], 30), 15);
    let told = append(4, span(at(4, 30), &[], 30), 18);
    let joined = append(4, span(at(3, 10), &[(3, 10), (4, 12)], 30), 18);
    assert_eq!(
        sent(Lane::Spans, [first.clone(), second.clone(), told.clone()]),
        std::slice::from_ref(&joined)
    );
    // A question that is behind them is one about all of them.
    assert_eq!(
        sent(Lane::Spans, [first, second, asking(told)]),
        [asking(joined)]
    );
}

#[test]
fn runs_are_joined_where_the_epoch_changes_and_where_it_does_not() {
    for (runs, expected) in [
        (vec![(2, 5)], vec![(1, 0), (2, 5)]),
        (vec![(1, 5), (2, 7)], vec![(1, 0), (2, 7)]),
        (vec![(1, 5)], vec![(1, 0)]),
        (vec![(2, 5), (3, 7)], vec![(1, 0), (2, 5), (3, 7)]),
    ] {
        let first = append(9, span(at(0, 0), &[(1, 0)], 5), 0);
        let second = append(9, span(at(1, 5), &runs, 9), 0);
        let joined = append(9, span(at(0, 0), &expected, 9), 0);
        assert_eq!(sent(Lane::Spans, [first, second]), [joined]);
    }
    // What is empty has no run to go on with.
    let nothing = append(9, span(at(1, 5), &[], 5), 0);
    let second = append(9, span(at(1, 5), &[(1, 5)], 9), 0);
    assert_eq!(sent(Lane::Spans, [nothing, second.clone()]), [second]);
}

#[test]
fn what_does_not_follow_takes_the_place_of_what_waits() {
    let waiting = append(4, span(at(4, 10), &[(4, 10)], 20), 5);
    for (newer, keeps_question) in [
        // Elsewhere, or of another prefix.
        (append(4, span(at(4, 5), &[(4, 5)], 30), 5), true),
        (append(4, span(at(4, 25), &[(4, 25)], 30), 5), true),
        (append(4, span(at(4, 5), &[], 5), 5), true),
        (append(4, span(at(3, 20), &[(4, 20)], 30), 5), true),
        // Of another leadership.
        (append(5, span(at(4, 20), &[(5, 20)], 30), 5), false),
        (append(3, span(at(4, 20), &[], 20), 5), false),
    ] {
        let messages = [waiting.clone(), newer.clone()];
        assert_eq!(sent(Lane::Spans, messages), std::slice::from_ref(&newer));
        let messages = [asking(waiting.clone()), newer.clone()];
        let expected = if keeps_question { asking(newer) } else { newer };
        assert_eq!(sent(Lane::Spans, messages), [expected]);
    }
}

#[test]
fn a_joined_span_has_no_more_runs_than_a_message_may() {
    let runs = |epochs: std::ops::Range<u32>| -> Vec<_> {
        epochs.map(|epoch| (epoch, u64::from(epoch))).collect()
    };
    let most = MAX_RUNS as u32;
    let first = append(9999, span(at(0, 0), &runs(0..most - 1), 255), 0);
    let last = append(9999, span(at(most - 2, 255), &runs(most - 1..most), 256), 0);
    let beyond = append(9999, span(at(most - 1, 256), &runs(most..most + 1), 257), 0);
    let joined = append(9999, span(at(0, 0), &runs(0..most), 256), 0);
    assert_eq!(
        sent(Lane::Spans, [first.clone(), last.clone()]),
        std::slice::from_ref(&joined)
    );
    let messages = [first, last, beyond.clone()];
    assert_eq!(sent(Lane::Spans, messages), [beyond]);
}

#[test]
fn a_span_is_cut_into_pieces_that_follow_each_other() {
    let whole = Span {
        from_start: true,
        ..span(at(0, 0), &[(1, 0), (3, 10), (4, 15)], 20)
    };
    let parts = |cut_at: &[Offset]| {
        let mut parts = vec![asking(append(4, whole.clone(), 17))];
        for at in cut_at {
            let rest = split(parts.last_mut().unwrap(), *at).unwrap();
            parts.push(rest);
        }
        parts
    };
    let first = |runs, until| Span {
        from_start: true,
        ..span(at(0, 0), runs, until)
    };
    assert_eq!(
        parts(&[5, 10, 12]),
        [
            append(4, first(&[(1, 0)], 5), 17),
            append(4, span(at(1, 5), &[(1, 5)], 10), 17),
            append(4, span(at(1, 10), &[(3, 10)], 12), 17),
            // The question is about the end.
            asking(append(4, span(at(3, 12), &[(3, 12), (4, 15)], 20), 17)),
        ]
    );
    assert_eq!(
        parts(&[16]),
        [
            append(4, first(&[(1, 0), (3, 10), (4, 15)], 16), 17),
            asking(append(4, span(at(4, 16), &[(4, 16)], 20), 17)),
        ]
    );
    let mut all = append(4, whole.clone(), 17);
    assert_eq!(split(&mut all, 20), None);
    assert_eq!(all, append(4, whole.clone(), 17));
    // Who has asked for entries asks again for the rest.
    let mut fetched = Message::Fetched {
        epoch: 5,
        span: whole,
    };
    assert_eq!(split(&mut fetched, 12), None);
    let span = first(&[(1, 0), (3, 10)], 12);
    assert_eq!(fetched, Message::Fetched { epoch: 5, span });
}

#[test]
fn what_is_put_back_is_joined_with_what_came_meanwhile() {
    let whole = append(4, span(at(4, 10), &[(4, 10)], 20), 5);
    let behind = append(4, span(at(4, 20), &[(4, 20)], 30), 8);
    let elsewhere = append(4, span(at(4, 12), &[(4, 12)], 40), 9);
    for (newer, left) in [
        (None, append(4, span(at(4, 15), &[(4, 15)], 20), 5)),
        (Some(behind), append(4, span(at(4, 15), &[(4, 15)], 30), 8)),
        (Some(elsewhere.clone()), elsewhere),
    ] {
        let mut outbox = outbox();
        outbox.push(outgoing(partition(0), whole.clone()));
        let mut taken = outbox.next(Lane::Spans).unwrap();
        let rest = split(&mut taken.message, 15).unwrap();
        if let Some(newer) = newer {
            outbox.push(outgoing(partition(0), newer));
        }
        outbox.put_back(outgoing(partition(0), rest));
        assert_eq!(drain(&mut outbox, Lane::Spans), [left]);
    }
}

#[test]
fn entries_that_are_nowhere_are_not_promised() {
    let mut outbox = outbox();
    let entries = append(4, span(at(4, 10), &[(4, 10)], 20), 5);
    let none = append(4, span(at(4, 10), &[], 10), 5);
    let mut push = |message| {
        outbox.push(Outgoing {
            partition: partition(0),
            message,
            entries: None,
        })
    };
    assert_eq!(push(entries), None);
    assert_eq!(push(none.clone()), Some(Lane::Spans));
    assert_eq!(drain(&mut outbox, Lane::Spans), [none]);
}

#[test]
fn a_newer_acknowledgement_takes_the_place_of_an_older_one() {
    assert_eq!(
        sent(Lane::Words, [ack(4, 10, false), ack(4, 20, false)]),
        [ack(4, 20, false)]
    );
    assert_eq!(
        sent(Lane::Words, [ack(4, 10, true), ack(4, 20, false)]),
        [ack(4, 20, true)]
    );
    let other_directory = Message::Ack(Ack {
        epoch: 4,
        directory: DirectoryId(2),
        trusted: false,
        verified: 5,
        flushed: 5,
        high_watermark: 0,
        deleted: 0,
        answers: false,
    });
    let all = [ack(3, 10, true), ack(4, 20, false), other_directory];
    assert_eq!(sent(Lane::Words, all.clone()), all);
}

#[test]
fn words_of_a_partition_keep_their_order_and_the_oldest_are_lost() {
    let seals: Vec<_> = (0..MAX_WORDS_PER_PARTITION as u32 + 3)
        .map(|epoch| Message::Seal { epoch })
        .collect();
    assert_eq!(sent(Lane::Words, seals.clone()), seals[3..]);
}

/// The partitions in the order in which they had their turns.
fn turns(outbox: &mut Outbox, lane: Lane) -> Vec<u32> {
    std::iter::from_fn(|| outbox.next(lane))
        .map(|outgoing| outgoing.partition.partition)
        .collect()
}

#[test]
fn partitions_take_turns() {
    let mut outbox = outbox();
    for index in [0, 0, 0, 1, 2, 1] {
        let message = Message::Seal { epoch: 1 };
        outbox.push(outgoing(partition(index), message));
    }
    assert_eq!(turns(&mut outbox, Lane::Words), [0, 1, 2, 0, 1, 0]);

    // A partition that catches up waits for the others between its pieces.
    for index in 0..3 {
        let message = append(4, span(at(4, 10), &[(4, 10)], 20), 5);
        outbox.push(outgoing(partition(index), message));
    }
    let mut order = Vec::new();
    while let Some(mut taken) = outbox.next(Lane::Spans) {
        let from = span_of(&taken.message).map_or(0, |span| span.prev.offset);
        order.push((taken.partition.partition, from));
        if let Some(rest) = split(&mut taken.message, from + 5) {
            outbox.put_back(outgoing(taken.partition, rest));
        }
    }
    let expected = [(0, 10), (1, 10), (2, 10), (0, 15), (1, 15), (2, 15)];
    assert_eq!(order, expected);
}

#[test]
fn what_is_short_goes_first_but_not_for_ever() {
    let mut outbox = outbox();
    let long = append(4, span(at(4, 10), &[(4, 10)], 20), 5);
    let short = append(4, span(at(4, 10), &[], 10), 5);
    outbox.push(outgoing(partition(0), long));
    for index in 1..=SHORT_TURNS as u32 + 2 {
        outbox.push(outgoing(partition(index), short.clone()));
    }
    let order = turns(&mut outbox, Lane::Spans);
    let place = order.iter().position(|it| *it == 0);
    assert_eq!(place, Some(SHORT_TURNS));
    assert_eq!(order.len(), SHORT_TURNS + 3);
}

#[test]
fn what_was_fetched_goes_beside_what_is_appended() {
    let append = append(6, span(at(4, 10), &[(4, 10)], 20), 5);
    let fetched = |until| Message::Fetched {
        epoch: 6,
        span: span(at(4, 0), &[(4, 0)], until),
    };
    // The newest answer is to the newest question.
    let messages = [append.clone(), fetched(5), fetched(9)];
    assert_eq!(sent(Lane::Spans, messages), [fetched(9), append]);
}

#[test]
fn without_a_link_everything_is_lost() {
    let mut outbox = Outbox::default();
    let seal = || outgoing(partition(0), Message::Seal { epoch: 1 });
    assert_eq!(outbox.push(seal()), None);
    outbox.open();
    assert_eq!(outbox.push(seal()), Some(Lane::Words));
    outbox.close();
    assert_eq!(outbox.push(seal()), None);
    outbox.put_back(outgoing(partition(0), append(4, span(at(4, 1), &[], 1), 0)));
    outbox.open();
    assert!(outbox.next(Lane::Words).is_none() && outbox.next(Lane::Spans).is_none());
}

#[test]
fn what_is_held_waits_with_what_follows_it_and_for_nobody_else() {
    let mut outbox = outbox();
    let first = append(4, span(at(4, 10), &[(4, 10)], 20), 12);
    let second = append(4, span(at(4, 20), &[(4, 20)], 30), 15);
    let third = append(4, span(at(4, 30), &[(4, 30)], 40), 18);
    let asked = Message::Fetched {
        epoch: 3,
        span: span(at(1, 0), &[(1, 0)], 5),
    };
    outbox.push(outgoing(partition(0), first));
    let taken = outbox.next(Lane::Spans).unwrap();
    // Handed in before it is held, and afterwards.
    outbox.push(outgoing(partition(0), second));
    outbox.push(outgoing(partition(0), asked.clone()));
    outbox.hold(taken);
    outbox.push(outgoing(partition(0), third));
    let other = append(1, span(at(1, 0), &[(1, 0)], 5), 0);
    outbox.push(outgoing(partition(1), other.clone()));
    assert_eq!(drain(&mut outbox, Lane::Spans), [asked, other]);
    assert!(outbox.has_held());
    let held = outbox.next_held().unwrap();
    let joined = append(4, span(at(4, 10), &[(4, 10)], 40), 18);
    assert_eq!((held.partition, held.message), (partition(0), joined));
    assert!(!outbox.has_held());
    assert!(outbox.next_held().is_none());
}

#[test]
fn nothing_is_held_without_a_link() {
    let mut outbox = outbox();
    outbox.push(outgoing(
        partition(0),
        append(4, span(at(4, 10), &[(4, 10)], 20), 12),
    ));
    let taken = outbox.next(Lane::Spans).unwrap();
    outbox.close();
    outbox.hold(taken);
    assert!(!outbox.has_held());
}
