//! Messages and entries, from one broker to another.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use millstream_peer::Entries;
use millstream_peer::limits::{RECEIVED_BYTES_IN_FLIGHT, TURN_BYTES};
use millstream_replication::{Message, Position};
use millstream_transport::identity::Authority;

use crate::log::{EPOCH, Log, Place, ack, append, batch, partition};
use crate::node::{Event, Node, introduce};

/// Where the entries that a broker has received of a partition end.
fn received_until(events: &[Event], of: u32) -> u64 {
    let of = partition(of);
    let received = events
        .iter()
        .filter(|it| it.received().is_some_and(|it| it.1 == of));
    received.filter_map(Event::until).max().unwrap_or(0)
}

#[tokio::test]
async fn entries_and_acknowledgements_arrive_as_they_were_sent() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    for place in [Place::Memory, Place::Disk] {
        let log: Arc<dyn Entries> = Arc::new(Log::new(3, 100, place));
        let of = partition(place as u32);
        one.links.send(2, of, append(0, 3), Some(log));
        let expected = Event::Received {
            from: 1,
            partition: of,
            message: append(0, 3),
            batches: (0..3).map(|offset| batch(offset, 100).to_vec()).collect(),
        };
        two.diary.until(|events| events.contains(&expected)).await;
        two.links.send(1, of, ack(3), None);
        let expected = Event::Received {
            from: 2,
            partition: of,
            message: ack(3),
            batches: Vec::new(),
        };
        one.diary.until(|events| events.contains(&expected)).await;
    }
}

#[tokio::test]
async fn all_of_three_send_to_all_others() {
    let authority = Authority::create("test").unwrap();
    let nodes = [1, 2, 3].map(|id| Node::start(&authority, id));
    introduce(&nodes.each_ref()).await;
    for node in &nodes {
        for peer in nodes.iter().filter(|peer| peer.id != node.id) {
            let message = Message::Seal { epoch: node.id };
            // From a thread that knows no runtime.
            std::thread::scope(|threads| {
                threads.spawn(|| node.links.send(peer.id, partition(peer.id), message, None));
            });
        }
    }
    for node in &nodes {
        for peer in nodes.iter().filter(|peer| peer.id != node.id) {
            let message = Message::Seal { epoch: peer.id };
            let expected = (peer.id, partition(node.id), &message);
            node.diary
                .until(|events| events.iter().any(|it| it.received() == Some(expected)))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_span_comes_in_pieces_that_follow_each_other() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    // A tenth of it is a turn's.
    let (records, value_bytes) = (100, TURN_BYTES / 10);
    let logs = [(0, Place::Memory), (1, Place::Disk)];
    for (of, place) in logs {
        let log: Arc<dyn Entries> = Arc::new(Log::new(records, value_bytes, place));
        one.links
            .send(2, partition(of), append(0, records), Some(log));
    }
    let events = two
        .diary
        .until(|events| {
            logs.iter()
                .all(|(of, _)| received_until(events, *of) == records)
        })
        .await;
    for (of, _) in logs {
        let mut end = Position::default();
        let mut pieces = 0;
        for event in &events {
            let Some((_, _, Message::Append { span, .. })) =
                event.received().filter(|it| it.1 == partition(of))
            else {
                continue;
            };
            assert_eq!(span.prev, end);
            end = Position {
                epoch: EPOCH,
                offset: span.until,
            };
            pieces += 1;
        }
        assert!(pieces >= 10, "{pieces} pieces");
    }
}

#[tokio::test]
async fn what_is_old_takes_its_time_and_nothing_else_waits_for_it() {
    const RECORDS: u64 = 10;
    const BYTES_PER_SECOND: u64 = 10 * TURN_BYTES as u64;
    let authority = Authority::create("test").unwrap();
    let one = Node::with(&authority, 1, |manners| {
        manners.catch_up_bytes_per_second = NonZeroU64::new(BYTES_PER_SECOND);
    });
    let two = Node::start(&authority, 2);
    introduce(&[&one, &two]).await;
    let began = Instant::now();
    // A record is a turn's.
    let old: Arc<dyn Entries> = Arc::new(Log::new(RECORDS, TURN_BYTES / 2 + 1, Place::Disk));
    let old_bytes = RECORDS * (TURN_BYTES as u64 / 2);
    one.links
        .send(2, partition(0), append(0, RECORDS), Some(old));
    two.diary
        .until(|events| received_until(events, 0) > 0)
        .await;
    let new: Arc<dyn Entries> = Arc::new(Log::new(1, 100, Place::Memory));
    one.links.send(2, partition(1), append(0, 1), Some(new));
    let events = two
        .diary
        .until(|events| received_until(events, 1) == 1)
        .await;
    assert!(received_until(&events, 0) < RECORDS);
    two.diary
        .until(|events| received_until(events, 0) == RECORDS)
        .await;
    // The last of it is not waited for.
    let least = (RECORDS - 1) * 1_000 * old_bytes / RECORDS / BYTES_PER_SECOND;
    let took = began.elapsed().as_millis();
    assert!(took >= u128::from(least), "{took} ms, not {least}");
}

#[tokio::test]
async fn what_compaction_has_taken_away_is_passed_over() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    let gaps = |place| {
        let batches = [2, 3, 7].map(|offset| batch(offset, 10)).to_vec();
        Arc::new(Log::of(batches, place)) as Arc<dyn Entries>
    };
    for place in [Place::Memory, Place::Disk] {
        let of = partition(place as u32);
        one.links.send(2, of, append(0, 8), Some(gaps(place)));
        let whole = |events: &[Event]| events.iter().any(|it| it.until() == Some(8));
        two.diary.until(whole).await;
        // What it ends with is not there: it is not said to be.
        one.links.send(2, of, append(4, 7), Some(gaps(place)));
        let nothing = append(4, 4);
        let Message::Append { high_watermark, .. } = nothing else {
            panic!("an append");
        };
        assert_eq!(high_watermark, 4);
        two.diary
            .until(|events| {
                let received = events.iter().filter_map(Event::received);
                received
                    .into_iter()
                    .any(|it| (it.1, it.2) == (of, &nothing))
            })
            .await;
    }
}

/// A log that is no longer as it was.
struct Changed;

impl Entries for Changed {
    fn read(&self, _: u64, _: u64, _: usize) -> Option<millstream_peer::Piece> {
        None
    }

    fn read_cached(&self, _: u64, _: u64, _: usize) -> Option<millstream_peer::Piece> {
        None
    }
}

#[tokio::test]
async fn what_is_there_no_longer_is_lost_and_nothing_else() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    one.links
        .send(2, partition(0), append(0, 3), Some(Arc::new(Changed)));
    let log = || Arc::new(Log::new(3, 10, Place::Memory));
    one.links.send(2, partition(1), append(0, 3), Some(log()));
    let events = two
        .diary
        .until(|events| received_until(events, 1) == 3)
        .await;
    assert_eq!(received_until(&events, 0), 0);
    // A log that gives something else than it is asked for does not break the link.
    one.links.send(2, partition(2), append(5, 8), Some(log()));
    one.links.send(2, partition(3), append(0, 3), Some(log()));
    let events = two
        .diary
        .until(|events| received_until(events, 3) == 3)
        .await;
    assert!(received_until(&events, 2) <= 5);
    let links = one.diary.events();
    assert_eq!(links, [Event::Linked(2)]);
}

#[tokio::test]
async fn a_broker_that_does_not_write_stops_its_peer() {
    let authority = Authority::create("test").unwrap();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    introduce(&[&one, &two]).await;
    *two.diary.rooms.lock() = Some(Vec::new());
    let (records, value_bytes) = (60, TURN_BYTES);
    let log = Arc::new(Log::new(records, value_bytes, Place::Memory));
    one.links
        .send(2, partition(0), append(0, records), Some(log));
    let most = (RECEIVED_BYTES_IN_FLIGHT / value_bytes) as u64;
    two.diary
        .until(|events| received_until(events, 0) + 1 >= most)
        .await;
    // Words are not held back by entries.
    one.links.send(2, partition(0), ack(7), None);
    let events = two
        .diary
        .until(|events| {
            let mut received = events.iter().filter_map(Event::received);
            received.any(|it| *it.2 == ack(7))
        })
        .await;
    assert!(received_until(&events, 0) <= most, "{most} pieces fit");
    *two.diary.rooms.lock() = None;
    two.diary
        .until(|events| received_until(events, 0) == records)
        .await;
}
