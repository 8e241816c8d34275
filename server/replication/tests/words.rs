//! What peers say, whatever it is, stops no replica: neither nonsense nor lies that sound well.
//!
//! Messages of all kinds, whole and spoilt, come to a replica that follows, seals or leads. Small
//! numbers are drawn for epochs and offsets, so that they often meet what is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what supports a test fails like the test"
)]

use std::collections::BTreeMap;

use millstream_replication::{
    Ack, Appointment, BrokerId, DirectoryId, Durability, Durable, Effect, Input, LogView, Message,
    Position, Replica, ReplicaSet, Role, Run, Span, limits,
};
use proptest::prelude::*;

const ME: BrokerId = 1;
const PEER: BrokerId = 2;

/// The epoch in which it begins.
const EPOCH: u32 = 5;

/// Offsets at the end of all.
const FAR: [u64; 4] = [
    limits::MAX_OFFSET - 1,
    limits::MAX_OFFSET,
    limits::MAX_OFFSET + 1,
    u64::MAX,
];

/// What comes to the replica.
#[derive(Clone, Debug)]
enum Event {
    Message(BrokerId, Message),
    /// As if its leader sent it: with its epoch, and maybe from a position on that its log has.
    FromLeader(Span, Option<u64>, (u64, u64), bool),
    /// As if a peer had promised the epoch, with a log that goes to the one before or not.
    Promised(BrokerId, bool, Position, u64),
    /// As if a follower had verified, flushed and deleted so much.
    Acked(BrokerId, [u64; 3]),
    /// As if the donor that was asked sent it, from where it was asked on.
    FromDonor(Span),
    /// As if the donor did not have the position that it was asked for.
    Parted(u64),
    /// In the next epoch.
    Appointed(BrokerId),
    Appends(u64),
    Flushes,
    Deletes(u64),
    Remembers,
    Tick,
    Linked,
}

fn epoch() -> BoxedStrategy<u32> {
    prop_oneof![10 => Just(EPOCH), 10 => 0..8_u32, 1 => Just(u32::MAX)].boxed()
}

fn offset() -> BoxedStrategy<u64> {
    prop_oneof![20 => 0..16_u64, 1 => prop::sample::select(&FAR[..])].boxed()
}

fn position() -> BoxedStrategy<Position> {
    (epoch(), offset())
        .prop_map(|(epoch, offset)| Position { epoch, offset })
        .boxed()
}

/// Epochs and starts that increase from `(epoch, start)` on.
fn runs(epoch: u32, start: u64) -> BoxedStrategy<Vec<Run>> {
    let steps = prop::collection::vec((0..2_u32, 1..4_u64), 0..3);
    steps
        .prop_map(move |steps| {
            let mut next = Run { epoch, start };
            let runs = steps.into_iter().map(|(epochs, offsets)| {
                let run = next;
                next.epoch = next.epoch.saturating_add(epochs + 1);
                next.start = next.start.saturating_add(offsets);
                run
            });
            runs.collect()
        })
        .boxed()
}

fn sound_span() -> BoxedStrategy<Span> {
    let behind = (position(), 0..2_u32, 1..6_u64, any::<bool>());
    behind
        .prop_flat_map(|(prev, epochs, length, from_start)| {
            let runs = runs(prev.epoch.saturating_add(epochs), prev.offset);
            runs.prop_map(move |runs| {
                let last = runs.last().map(|run| run.start.saturating_add(length));
                let until = last.unwrap_or(prev.offset);
                Span {
                    prev,
                    runs,
                    until,
                    from_start,
                }
            })
        })
        .boxed()
}

fn span() -> BoxedStrategy<Span> {
    let run = (epoch(), offset()).prop_map(|(epoch, start)| Run { epoch, start });
    let spoilt = (
        position(),
        prop::collection::vec(run, 0..4),
        offset(),
        any::<bool>(),
    );
    let spoilt = spoilt.prop_map(|(prev, runs, until, from_start)| Span {
        prev,
        runs,
        until,
        from_start,
    });
    prop_oneof![4 => sound_span(), 1 => spoilt].boxed()
}

fn durable() -> BoxedStrategy<Durable> {
    (0..4_u64, epoch(), any::<bool>(), offset(), offset())
        .prop_map(
            |(directory, promised, trusted, deleted, committed)| Durable {
                directory: DirectoryId(directory),
                promised,
                trusted,
                deleted,
                committed,
            },
        )
        .boxed()
}

fn message() -> BoxedStrategy<Message> {
    let ack = (durable(), offset(), offset(), offset(), any::<bool>());
    prop_oneof![
        epoch().prop_map(|epoch| Message::Seal { epoch }),
        (epoch(), durable(), position(), offset()).prop_map(
            |(epoch, durable, tip, high_watermark)| Message::Sealed {
                epoch,
                durable,
                tip,
                high_watermark,
            }
        ),
        (epoch(), durable(), position(), position()).prop_map(|(epoch, durable, tip, from)| {
            let directory = durable.directory;
            Message::Fetch {
                epoch,
                directory,
                tip,
                from,
            }
        }),
        (epoch(), span()).prop_map(|(epoch, span)| Message::Fetched { epoch, span }),
        (epoch(), position(), position()).prop_map(|(epoch, asked, floor)| Message::Parted {
            epoch,
            asked,
            floor,
        }),
        (epoch(), span(), offset(), offset(), any::<bool>()).prop_map(
            |(epoch, span, high_watermark, deleted, asks)| Message::Append {
                epoch,
                span,
                high_watermark,
                deleted,
                asks,
            }
        ),
        ack.prop_map(|(durable, verified, flushed, high_watermark, answers)| {
            Message::Ack(Ack {
                epoch: durable.promised,
                directory: durable.directory,
                trusted: durable.trusted,
                verified,
                flushed,
                high_watermark,
                deleted: durable.deleted,
                answers,
            })
        }),
        (epoch(), position(), position()).prop_map(|(epoch, asked, floor)| Message::Mismatch {
            epoch,
            asked,
            floor,
        }),
        (epoch(), durable()).prop_map(|(epoch, durable)| Message::Trust {
            epoch,
            directory: durable.directory,
        }),
    ]
    .boxed()
}

fn event() -> BoxedStrategy<Event> {
    prop_oneof![
        8 => (1..5_u32, message()).prop_map(|(from, message)| Event::Message(from, message)),
        8 => (
            span(),
            prop::option::of(0..16_u64),
            (offset(), 0..16_u64),
            any::<bool>()
        )
            .prop_map(|(span, at, told, asks)| Event::FromLeader(span, at, told, asks)),
        8 => (2..4_u32, any::<bool>(), position(), 0..8_u64).prop_map(
            |(from, recent, tip, committed)| Event::Promised(from, recent, tip, committed)
        ),
        4 => (2..4_u32, [offset(), offset(), offset()])
            .prop_map(|(from, offsets)| Event::Acked(from, offsets)),
        8 => span().prop_map(Event::FromDonor),
        6 => (0..8_u64).prop_map(Event::Parted),
        2 => (1..4_u32).prop_map(Event::Appointed),
        1 => (1..3_u64).prop_map(Event::Appends),
        1 => Just(Event::Flushes),
        1 => offset().prop_map(Event::Deletes),
        1 => Just(Event::Remembers),
        1 => Just(Event::Tick),
        1 => Just(Event::Linked),
    ]
    .boxed()
}

/// A log that begins anywhere, of epochs before [`EPOCH`].
fn log() -> BoxedStrategy<LogView> {
    (1..3_u32, 0..6_u64, 0..4_u64)
        .prop_flat_map(|(first, start, length)| {
            runs(first, start.saturating_sub(1)).prop_map(move |mut runs| {
                runs.retain(|run| run.epoch < EPOCH);
                match runs.last().map(|run| run.start + 1 + length) {
                    Some(end) => LogView::new(start.min(end), end, end, runs),
                    None => LogView::default(),
                }
            })
        })
        .boxed()
}

/// A replica, and a shell that does what it wants.
struct Node {
    replica: Replica,
    /// Writes come to no more than so many entries.
    room: u64,
    /// The newest epoch that it was told of by metadata, and who leads in it.
    told: u32,
    leader: BrokerId,
    /// Where it has asked for entries last, and whom.
    asked: Option<(BrokerId, Position)>,
    sent: Vec<(BrokerId, Message)>,
    refusals: usize,
    version: u64,
}

impl Node {
    fn new(log: LogView, trusted: bool, room: u64) -> Self {
        let durable = Durable {
            trusted,
            ..Durable::assigned(DirectoryId(1), 0)
        };
        let mut effects = Vec::new();
        let replica = Replica::open(ME, durable, log, &mut effects);
        let mut node = Self {
            replica,
            room,
            // Its log's epochs were handed out.
            told: EPOCH - 1,
            leader: 0,
            asked: None,
            sent: Vec::new(),
            refusals: 0,
            version: 0,
        };
        node.perform(effects, 0);
        node
    }

    fn appoint(&mut self, leader: BrokerId, epoch: u32) {
        self.version += 1;
        (self.told, self.leader) = (epoch, leader);
        let directories = (1..=3).map(|broker| (broker, DirectoryId(broker.into())));
        self.step(Input::Appointed(Appointment {
            version: self.version,
            epoch,
            leader,
            replicas: ReplicaSet::new(&[1, 2, 3]).unwrap(),
            directories: directories.collect::<BTreeMap<_, _>>(),
            accepted: None,
            durability: Durability::Sync,
        }));
    }

    /// Makes it what it is to be in [`EPOCH`]: a follower that has the leader's log, of which some is
    /// committed, or who is to lead, with a peer whose log ends earlier.
    fn become_role(&mut self, role: Role, committed: u64) {
        let leader = if role == Role::Follower { PEER } else { ME };
        self.appoint(leader, EPOCH);
        match role {
            Role::Follower => {
                let prev = self.replica.log().tip();
                self.receive(PEER, append(EPOCH, prev, vec![], committed));
            }
            Role::Sealing => {}
            Role::Leader => self.receive(PEER, sealed_empty()),
        }
    }

    fn receive(&mut self, from: BrokerId, message: Message) {
        self.step(Input::Received { from, message });
    }

    fn step(&mut self, input: Input) {
        let until = match &input {
            Input::Received {
                message: Message::Append { span, .. } | Message::Fetched { span, .. },
                ..
            } => span.until,
            _ => 0,
        };
        let (high_watermark, durable) = (self.replica.high_watermark(), self.replica.durable());
        let mut effects = Vec::new();
        self.replica.step(0, input, &mut effects);
        for effect in &effects {
            match effect {
                Effect::Truncate { to } => assert!(*to >= high_watermark, "{effect:?}"),
                Effect::Restart { at } => assert!(at.offset > high_watermark, "{effect:?}"),
                _ => {}
            }
        }
        self.perform(effects, until);
        assert!(self.replica.high_watermark() >= high_watermark);
        assert!(self.replica.high_watermark() <= self.replica.log().end());
        assert!(self.replica.durable().promised >= durable.promised);
        assert!(
            self.replica.durable().promised <= self.told.max(durable.promised),
            "an epoch is promised that metadata has not handed out"
        );
    }

    fn perform(&mut self, effects: Vec<Effect>, until: u64) {
        let mut written = None;
        let mut restarts = true;
        let mut persisted = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(durable) => persisted.push(durable),
                Effect::Truncate { to } => written = Some(to),
                Effect::Restart { at } => {
                    restarts = self.room > 0;
                    written = Some(at.offset);
                }
                Effect::Write { from } => written = Some(until.min(from.saturating_add(self.room))),
                Effect::WriteEpochStart { .. } => {
                    written = Some(self.replica.log().end() + self.room.min(1));
                }
                Effect::Send { to, message } => {
                    if let Message::Fetch { from, .. } = message {
                        self.asked = Some((to, from));
                    }
                    self.sent.push((to, message));
                }
                Effect::Refused { .. } => self.refusals += 1,
                Effect::Activated { .. } | Effect::Deposed { .. } | Effect::Finalise { .. } => {}
            }
        }
        match written {
            Some(_) if !restarts => self.not_restarted(),
            Some(end) => self.step(Input::Written { end }),
            None => {}
        }
        for durable in persisted {
            self.step(Input::Persisted(durable));
        }
    }

    /// The disk has no room for another log: the old one is still there.
    fn not_restarted(&mut self) {
        let mut effects = Vec::new();
        self.replica.step(0, Input::NotRestarted, &mut effects);
        self.perform(effects, 0);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Message(from, message) => self.receive(from, message),
            Event::FromLeader(mut span, at, (high_watermark, deleted), asks) => {
                if let Some(prev) = at.and_then(|at| self.replica.log().position(at)) {
                    move_to(prev, &mut span);
                }
                let message = Message::Append {
                    epoch: self.told,
                    span,
                    high_watermark,
                    deleted,
                    asks,
                };
                self.receive(self.leader, message);
            }
            Event::Promised(from, recent, mut tip, high_watermark) => {
                if recent {
                    tip.epoch = self.told - 1;
                }
                let durable = Durable {
                    deleted: high_watermark / 2,
                    ..Durable::assigned(DirectoryId(from.into()), self.told)
                };
                let message = Message::Sealed {
                    epoch: self.told,
                    durable,
                    tip,
                    high_watermark,
                };
                self.receive(from, message);
            }
            Event::Acked(from, [verified, flushed, deleted]) => {
                let ack = Ack {
                    epoch: self.told,
                    directory: DirectoryId(from.into()),
                    trusted: true,
                    verified,
                    flushed,
                    high_watermark: 0,
                    deleted,
                    answers: true,
                };
                self.receive(from, Message::Ack(ack));
            }
            Event::FromDonor(mut span) => {
                let Some((donor, asked)) = self.asked else {
                    return;
                };
                if !span.from_start {
                    move_to(asked, &mut span);
                }
                let epoch = self.told;
                self.receive(donor, Message::Fetched { epoch, span });
            }
            Event::Parted(offset) => {
                let Some((donor, asked)) = self.asked else {
                    return;
                };
                let parted = Message::Parted {
                    epoch: self.told,
                    asked,
                    floor: Position { offset, ..asked },
                };
                self.receive(donor, parted);
            }
            Event::Appointed(leader) => self.appoint(leader, self.told + 1),
            Event::Appends(count) => {
                if self.replica.leading().is_some() {
                    let end = self.replica.log().end() + count;
                    self.step(Input::Written { end });
                }
            }
            Event::Flushes => self.flush(),
            Event::Deletes(below) => self.step(Input::Delete { below }),
            Event::Remembers => self.step(Input::Remember),
            Event::Tick => self.step(Input::Tick),
            Event::Linked => self.step(Input::Linked { peer: PEER }),
        }
    }

    fn flush(&mut self) {
        let offset = self.replica.log().end();
        self.step(Input::Flushed { offset });
    }

    /// What was sent since this was asked last.
    fn said(&mut self) -> Vec<(BrokerId, Message)> {
        std::mem::take(&mut self.sent)
    }

    /// A leader of the next epoch that has the same log is promised, and its entry is taken.
    fn follows(&mut self) {
        let epoch = self.told + 1;
        self.room = u64::MAX;
        self.said();
        self.receive(PEER, Message::Seal { epoch });
        assert_eq!(self.said(), [], "it is not known to be appointed");
        self.appoint(PEER, epoch);
        self.receive(PEER, Message::Seal { epoch });
        let is_promised = |(to, it): &(BrokerId, Message)| {
            *to == PEER
                && matches!(it, Message::Sealed { epoch: promised, .. } if *promised == epoch)
        };
        assert!(self.said().iter().any(is_promised));
        let prev = self.replica.log().tip();
        let (refusals, until) = (self.refusals, prev.offset + 1);
        let runs = vec![Run {
            epoch,
            start: prev.offset,
        }];
        self.receive(PEER, append(epoch, prev, runs, prev.offset));
        self.flush();
        let is_taken = |(to, it): &(BrokerId, Message)| {
            *to == PEER && matches!(it, Message::Ack(ack) if ack.flushed == until)
        };
        assert!(self.said().iter().any(is_taken), "{:?}", self.replica);
        assert_eq!(self.replica.high_watermark(), prev.offset);
        assert_eq!(self.refusals, refusals);
    }
}

/// Has a span begin elsewhere.
fn move_to(prev: Position, span: &mut Span) {
    let moved = |offset: u64| {
        offset
            .saturating_sub(span.prev.offset)
            .saturating_add(prev.offset)
    };
    span.until = moved(span.until);
    for run in &mut span.runs {
        run.start = moved(run.start);
        run.epoch = run.epoch.max(prev.epoch);
    }
    span.runs.dedup_by_key(|run| run.epoch);
    span.prev = prev;
}

/// A leader's entries, one for each run, that its log has at its end.
fn append(epoch: u32, prev: Position, runs: Vec<Run>, high_watermark: u64) -> Message {
    let until = prev.offset + runs.len() as u64;
    Message::Append {
        epoch,
        span: Span {
            prev,
            runs,
            until,
            from_start: false,
        },
        high_watermark,
        deleted: 0,
        asks: false,
    }
}

fn sealed_empty() -> Message {
    Message::Sealed {
        epoch: EPOCH,
        durable: Durable {
            promised: EPOCH,
            ..Durable::assigned(DirectoryId(PEER.into()), EPOCH)
        },
        tip: Position::default(),
        high_watermark: 0,
    }
}

/// No promise is made of an epoch that may never come.
#[test]
fn a_leader_is_promised_once_its_appointment_is_known() {
    let mut node = Node::new(LogView::default(), true, u64::MAX);
    node.become_role(Role::Follower, 0);
    let next = EPOCH + 1;
    for epoch in [u32::MAX, next] {
        node.said();
        node.receive(PEER, Message::Seal { epoch });
        assert_eq!(node.said(), []);
        assert_eq!(node.replica.durable().promised, EPOCH);
    }
    node.appoint(PEER, next);
    let said = node.said();
    assert!(
        matches!(said[..], [(PEER, Message::Sealed { epoch, .. })] if epoch == next),
        "{said:?}"
    );
    assert_eq!(node.refusals, 0);
    node.receive(3, Message::Seal { epoch: next });
    assert_eq!(node.refusals, 1);
}

/// What a peer has that calls itself newer is not taken for what is committed.
#[test]
fn nobody_leads_without_what_is_committed() {
    let run = |epoch, start| Run { epoch, start };
    let mut node = Node::new(LogView::new(0, 5, 5, vec![run(1, 0)]), true, u64::MAX);
    node.become_role(Role::Follower, 5);
    let epoch = EPOCH + 1;
    node.appoint(ME, epoch);
    let sealed = |broker: BrokerId, epoch_of_log, offset| Message::Sealed {
        epoch,
        durable: Durable::assigned(DirectoryId(broker.into()), epoch),
        tip: Position {
            epoch: epoch_of_log,
            offset,
        },
        high_watermark: 0,
    };
    node.receive(PEER, sealed(PEER, 4, 2));
    assert_eq!((node.replica.role(), node.refusals), (Role::Sealing, 1));
    assert_eq!(node.asked, None);
    node.receive(3, sealed(3, EPOCH, 7));
    let tip = node.replica.log().tip();
    assert_eq!((node.asked, node.refusals), (Some((3, tip)), 1));
}

/// A deletion that was acknowledged is known to whoever counts.
#[test]
fn nobody_counts_again_without_what_was_deleted() {
    let runs = vec![Run { epoch: 1, start: 0 }];
    let mut node = Node::new(LogView::new(0, 5, 5, runs), true, u64::MAX);
    node.become_role(Role::Leader, 0);
    node.flush();
    let end = node.replica.log().end();
    node.happens(Event::Acked(PEER, [end, end, 0]));
    assert_eq!(node.replica.high_watermark(), end);
    node.step(Input::Delete { below: 4 });
    assert_eq!(node.replica.deleted(), 0, "nobody else has done so");
    node.happens(Event::Acked(PEER, [end, end, 4]));
    assert_eq!(node.replica.deleted(), 4);
    node.said();
    let emptied = |deleted| {
        Message::Ack(Ack {
            epoch: EPOCH,
            directory: DirectoryId(9),
            trusted: false,
            verified: end,
            flushed: end,
            high_watermark: end,
            deleted,
            answers: false,
        })
    };
    let is_trusted = |node: &mut Node| {
        let is_trust =
            |(to, it): &(BrokerId, Message)| *to == 3 && matches!(it, Message::Trust { .. });
        node.said().iter().any(is_trust)
    };
    node.receive(3, emptied(3));
    assert!(!is_trusted(&mut node), "it has not deleted all");
    node.receive(3, emptied(4));
    assert!(is_trusted(&mut node));
}

const ROLES: [Role; 3] = [Role::Follower, Role::Sealing, Role::Leader];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 30_000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn no_word_stops_a_replica_or_what_follows(
        log in log(),
        role in prop::sample::select(&ROLES[..]),
        committed in 0..12_u64,
        trusted in prop::bool::weighted(0.8),
        room in prop_oneof![3 => Just(u64::MAX), 1 => 0..3_u64],
        events in prop::collection::vec(event(), 0..32),
    ) {
        let mut node = Node::new(log, trusted, room);
        node.become_role(role, committed);
        for event in events {
            node.happens(event);
        }
        // Where its leader has said that the log is at its last offset, there is nothing to follow.
        if node.replica.log().end() < limits::MAX_OFFSET {
            node.follows();
        }
    }
}
