//! Random traffic against a model: clients that check what they are told, offsets as they ought to
//! be, and a second coordinator made from the log after every step.

mod step;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use millstream_group::record::EncodedRecord;
use millstream_group::{
    Coordinator, Effect, Join, Limits, MemberHandle, Outcome, Record, Reset, StartWanted, Topic,
};
use millstream_protocol::api::group::{
    CommitOffsets, CoordinatorMessage, Generation, GroupState, MemberKind, NamedPartition,
    OffsetCommit,
};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::{Offset, TopicId, TopicPartition};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use step::{BROKERS, GROUPS, NAMES, POSITIONS, Step, TOPICS, WORKERS, pick, step};
use uuid::Uuid;

/// What happened in all runs together: one that exercised nothing proves nothing.
#[derive(Debug, Default)]
struct Seen {
    assigned: u64,
    revoked: u64,
    sought: u64,
    stood_by: u64,
    committed: u64,
    stale: u64,
    crashes: u64,
    /// Partitions of workers that another broker leads, and those that nobody owned in the end.
    led_otherwise: u64,
    nobodys: u64,
}

/// A member as it sees itself.
struct Client {
    group: &'static str,
    topics: BTreeSet<&'static str>,
    /// Of a worker.
    home: Option<u32>,
    seen: Generation,
    holds: BTreeMap<NamedPartition, Held>,
    /// What it released last, in which generation.
    released: Option<(Generation, Vec<NamedPartition>)>,
}

#[derive(Clone, Copy)]
struct Held {
    topic_id: TopicId,
    /// Its commits count from here on; never again after a reset on the way out.
    since: Option<Generation>,
    revoked_in: Option<Generation>,
}

struct World<'a> {
    coordinator: Coordinator,
    log: Vec<EncodedRecord>,
    topics: BTreeMap<&'static str, Topic>,
    clients: BTreeMap<MemberHandle, Client>,
    wanted: Vec<(String, StartWanted)>,
    offsets: BTreeMap<(String, TopicPartition), Offset>,
    generations: BTreeMap<String, Generation>,
    ids: u64,
    seen: &'a RefCell<Seen>,
}

impl<'a> World<'a> {
    fn new(seen: &'a RefCell<Seen>) -> Self {
        let mut world = Self {
            coordinator: Coordinator::new(Limits::default(), []),
            log: Vec::new(),
            topics: BTreeMap::new(),
            clients: BTreeMap::new(),
            wanted: Vec::new(),
            offsets: BTreeMap::new(),
            generations: BTreeMap::new(),
            ids: 0,
            seen,
        };
        for topic in TOPICS {
            world.put_topic(topic, 1, None);
        }
        world
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn client(&self, who: &Index) -> Option<MemberHandle> {
        let handles: Vec<_> = self.clients.keys().copied().collect();
        (!handles.is_empty()).then(|| *who.get(&handles))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join {
                group,
                topics,
                name,
                start,
                home,
            } => {
                let topics = topics.into_iter().map(|topic| TOPICS[topic]).collect();
                self.join(
                    pick(&group, &GROUPS),
                    topics,
                    pick(&name, &NAMES),
                    pick(&start, &POSITIONS),
                    pick(&home, &BROKERS),
                );
            }
            Step::Leave { who } => {
                if let Some(member) = self.client(&who) {
                    self.clients.remove(&member);
                    let outcome = self.coordinator.leave(member);
                    self.take(outcome, |_| None);
                }
            }
            Step::Commit {
                who,
                which,
                offset,
                late,
            } => self.commit_held(&who, &which, offset, late),
            Step::CommitAny {
                who,
                topic,
                partition,
                offset,
            } => {
                if let Some(member) = self.client(&who) {
                    let topic = pick(&topic, &TOPICS).to_owned();
                    self.commit(
                        member,
                        NamedPartition { topic, partition },
                        offset,
                        self.clients[&member].seen,
                    );
                }
            }
            Step::Release { who, how_many } => {
                if let Some(member) = self.client(&who) {
                    self.release(member, how_many);
                }
            }
            Step::Repeat { who } => {
                if let Some(member) = self.client(&who)
                    && let Some((generation, partitions)) = &self.clients[&member].released
                {
                    let outcome = self.coordinator.released(member, *generation, partitions);
                    assert!(outcome.records.is_empty() && outcome.effects.is_empty());
                }
            }
            Step::Resolve { which, offset } => {
                if !self.wanted.is_empty() {
                    let at = which.index(self.wanted.len());
                    self.resolve(at, offset);
                }
            }
            Step::Reset {
                group,
                topic,
                partitions,
                offset,
            } => {
                self.reset(
                    pick(&group, &GROUPS),
                    pick(&topic, &TOPICS),
                    partitions,
                    offset,
                );
            }
            Step::Admin {
                group,
                topic,
                partition,
                offset,
            } => {
                self.admin(
                    pick(&group, &GROUPS),
                    pick(&topic, &TOPICS),
                    partition,
                    offset,
                );
            }
            Step::Drop { group } => self.drop_group(pick(&group, &GROUPS)),
            Step::Grow { topic, by } => {
                let name = pick(&topic, &TOPICS);
                if let Some(Topic {
                    topic_id,
                    partitions,
                    ..
                }) = self.topics.get(name).cloned()
                {
                    self.put_topic(name, (partitions + by).min(9), Some(topic_id));
                }
            }
            Step::Recreate { topic, partitions } => {
                self.put_topic(pick(&topic, &TOPICS), partitions, None)
            }
            Step::Delete { topic } => {
                if let Some(topic) = self.topics.remove(pick(&topic, &TOPICS)) {
                    self.offsets
                        .retain(|(_, at), _| at.topic_id != topic.topic_id);
                    let outcome = self.coordinator.topic_deleted(topic.topic_id);
                    self.take(outcome, |_| None);
                }
            }
            Step::Lead {
                topic,
                partition,
                leader,
            } => self.lead(pick(&topic, &TOPICS), &partition, leader),
            Step::Crash => self.crash(),
        }
        self.check();
    }

    fn join(
        &mut self,
        group: &'static str,
        topics: BTreeSet<&'static str>,
        name: &str,
        start: Position,
        home: u32,
    ) {
        let home = (group == WORKERS).then_some(home);
        let member = MemberHandle(self.next_id());
        let outcome = self.coordinator.join(Join {
            group: group.to_owned(),
            member,
            member_name: name.to_owned(),
            principal: "CN=x".to_owned(),
            kind: match home {
                Some(_) => MemberKind::Worker,
                None => MemberKind::Client,
            },
            home,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start,
        });
        assert_eq!(
            outcome.response.is_ok(),
            topics.iter().all(|topic| self.topics.contains_key(topic))
        );
        if outcome.response.is_ok() {
            self.clients.insert(
                member,
                Client {
                    group,
                    topics,
                    home,
                    seen: 0,
                    holds: BTreeMap::new(),
                    released: None,
                },
            );
        }
        self.take(outcome, |_| None);
    }

    fn commit_held(&mut self, who: &Index, which: &Index, offset: Offset, late: u32) {
        let Some(member) = self.client(who) else {
            return;
        };
        let client = &self.clients[&member];
        let held: Vec<_> = client.holds.keys().cloned().collect();
        if !held.is_empty() {
            let generation = client.seen.saturating_sub(late);
            self.commit(member, which.get(&held).clone(), offset, generation);
        }
    }

    fn commit(
        &mut self,
        member: MemberHandle,
        at: NamedPartition,
        offset: Offset,
        generation: Generation,
    ) {
        let client = &self.clients[&member];
        let group = client.group.to_owned();
        let topic_id = self
            .topics
            .get(at.topic.as_str())
            .map(|topic| topic.topic_id);
        let held = client
            .holds
            .get(&at)
            .filter(|held| Some(held.topic_id) == topic_id);
        let taken = held
            .and_then(|held| held.since)
            .is_some_and(|since| since <= generation);
        let NamedPartition { topic, partition } = at;
        let commit = OffsetCommit {
            topic,
            partition,
            offset,
            metadata: String::new(),
        };
        let outcome = self.coordinator.commit(member, generation, vec![commit], 0);
        let answered = outcome.effects.iter().filter_map(|effect| match effect {
            Effect::Send {
                member: to,
                message: CoordinatorMessage::Committed(result),
            } => Some((*to, result.is_ok())),
            _ => None,
        });
        assert_eq!(answered.collect::<Vec<_>>(), [(member, taken)]);
        assert_eq!(outcome.records.len(), usize::from(taken));
        let mut seen = self.seen.borrow_mut();
        *if taken {
            &mut seen.committed
        } else {
            &mut seen.stale
        } += 1;
        drop(seen);
        if let Some(topic_id) = topic_id.filter(|_| taken) {
            self.offsets.insert(
                (
                    group,
                    TopicPartition {
                        topic_id,
                        partition,
                    },
                ),
                offset,
            );
        }
        self.take(outcome, |_| Some(offset));
    }

    fn release(&mut self, member: MemberHandle, how_many: usize) {
        let client = self.clients.get_mut(&member).unwrap();
        let revoked = client
            .holds
            .iter()
            .filter_map(|(at, held)| Some((at.clone(), held.revoked_in?)));
        let revoked: Vec<_> = revoked.take(how_many).collect();
        let Some(generation) = revoked.iter().map(|(_, generation)| *generation).max() else {
            return;
        };
        let partitions: Vec<_> = revoked.into_iter().map(|(at, _)| at).collect();
        client.holds.retain(|at, _| !partitions.contains(at));
        client.released = Some((generation, partitions.clone()));
        let outcome = self.coordinator.released(member, generation, &partitions);
        assert_eq!(outcome.response, Ok(()));
        self.take(outcome, |_| None);
    }

    fn resolve(&mut self, which: usize, offset: Offset) {
        let (group, start) = self.wanted.remove(which);
        let at = TopicPartition {
            topic_id: start.topic_id,
            partition: start.partition,
        };
        let known = self.offsets.contains_key(&(group.clone(), at));
        let outcome = self
            .coordinator
            .starts_resolved(&group, vec![start.at(offset)], 0);
        if !outcome.records.is_empty() {
            assert!(!known, "a start does not overwrite an offset");
            self.offsets.insert((group, at), offset);
        }
        self.take(outcome, |_| Some(offset));
    }

    fn reset(
        &mut self,
        group: &'static str,
        topic: &'static str,
        mut partitions: BTreeSet<u32>,
        offset: Offset,
    ) {
        let Some(Topic {
            topic_id,
            partitions: count,
            ..
        }) = self.topics.get(topic).cloned()
        else {
            return;
        };
        partitions.retain(|partition| *partition < count);
        let offsets: BTreeMap<_, _> = partitions
            .iter()
            .map(|partition| (*partition, offset))
            .collect();
        let reset = Reset {
            group: group.to_owned(),
            topic: topic.to_owned(),
            topic_id,
            offsets,
        };
        let outcome = self.coordinator.reset(reset, 0);
        let Ok(response) = &outcome.response else {
            assert!(partitions.is_empty() || !self.exists(group));
            return self.take(outcome, |_| None);
        };
        let generation = response.generation;
        for partition in partitions {
            self.offsets.insert(
                (
                    group.to_owned(),
                    TopicPartition {
                        topic_id,
                        partition,
                    },
                ),
                offset,
            );
            let at = NamedPartition {
                topic: topic.to_owned(),
                partition,
            };
            for client in self
                .clients
                .values_mut()
                .filter(|client| client.group == group)
            {
                if let Some(held) = client.holds.get_mut(&at) {
                    held.since = held.revoked_in.is_none().then_some(generation);
                }
            }
        }
        self.take(outcome, |_| Some(offset));
    }

    fn admin(&mut self, group: &'static str, topic: &'static str, partition: u32, offset: Offset) {
        let known = self
            .topics
            .get(topic)
            .filter(|topic| partition < topic.partitions)
            .cloned();
        let empty = self.clients.values().all(|client| client.group != group);
        let (topic, metadata) = (topic.to_owned(), String::new());
        let offsets = vec![OffsetCommit {
            topic,
            partition,
            offset,
            metadata,
        }];
        let outcome = self.coordinator.commit_offsets(
            CommitOffsets {
                group: group.to_owned(),
                offsets,
            },
            0,
        );
        assert_eq!(outcome.response.is_ok(), known.is_some() && empty);
        if let (Ok(()), Some(topic)) = (&outcome.response, known) {
            let at = TopicPartition {
                topic_id: topic.topic_id,
                partition,
            };
            self.offsets.insert((group.to_owned(), at), offset);
        }
        self.take(outcome, |_| Some(offset));
    }

    fn drop_group(&mut self, group: &'static str) {
        let exists = self.exists(group);
        let empty = self.clients.values().all(|client| client.group != group);
        let outcome = self.coordinator.delete_group(group);
        assert_eq!(outcome.response.is_ok(), exists && empty);
        if outcome.response.is_ok() {
            self.offsets.retain(|(of, _), _| of != group);
        }
        self.take(outcome, |_| None);
        assert!(!empty || !self.exists(group));
    }

    fn exists(&self, group: &str) -> bool {
        self.coordinator
            .list(None)
            .groups
            .iter()
            .any(|listed| listed.group == group)
    }

    fn put_topic(&mut self, name: &'static str, partitions: u32, topic_id: Option<TopicId>) {
        let born = topic_id.map_or(0, |_| self.topics[name].partitions);
        let topic_id = topic_id.unwrap_or_else(|| TopicId(Uuid::from_u128(self.next_id().into())));
        let topic = Topic {
            name: name.to_owned(),
            topic_id,
            partitions,
            leaders: (0..partitions as usize)
                .map(|partition| match self.topics.get(name) {
                    Some(known) if partition < known.leaders.len() => known.leaders[partition],
                    _ => Some(BROKERS[partition % BROKERS.len()]),
                })
                .collect(),
        };
        if let Some(before) = self.topics.insert(name, topic.clone()) {
            self.offsets
                .retain(|(_, at), _| at.topic_id != before.topic_id || before.topic_id == topic_id);
        }
        for group in GROUPS {
            let subscribed =
                |client: &Client| client.group == group && client.topics.contains(name);
            let consumes = self.clients.values().any(subscribed)
                || self
                    .offsets
                    .keys()
                    .any(|(of, at)| of == group && at.topic_id == topic_id);
            for partition in (born..partitions).filter(|_| consumes) {
                self.offsets
                    .entry((
                        group.to_owned(),
                        TopicPartition {
                            topic_id,
                            partition,
                        },
                    ))
                    .or_insert(0);
            }
        }
        let outcome = self.coordinator.topic_updated(topic, 0);
        self.take(outcome, |_| Some(0));
    }

    fn lead(&mut self, name: &'static str, partition: &Index, leader: Option<u32>) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let partition = partition.index(topic.leaders.len());
        topic.leaders[partition] = leader;
        let outcome = self.coordinator.topic_updated(topic.clone(), 0);
        let revoked = outcome.effects.iter().filter(|effect| {
            let Effect::Send { member, message } = effect else {
                return false;
            };
            assert!(self.clients[member].home.is_some(), "clients are let be");
            matches!(message, CoordinatorMessage::Revoke { .. })
        });
        self.seen.borrow_mut().led_otherwise += revoked.count() as u64;
        self.take(outcome, |_| None);
    }

    fn crash(&mut self) {
        self.coordinator = self.reloaded();
        self.clients.clear();
        self.wanted.clear();
        self.seen.borrow_mut().crashes += 1;
    }

    fn reloaded(&self) -> Coordinator {
        let mut coordinator = Coordinator::new(Limits::default(), self.topics.values().cloned());
        for EncodedRecord { key, value } in &self.log {
            coordinator.replay(&Record::decode(key, value.as_deref()).unwrap());
        }
        coordinator
    }

    /// Appends the records and delivers the effects. `offset` is what a committed offset must be.
    fn take<T>(&mut self, outcome: Outcome<T>, offset: impl Fn(&Record) -> Option<Offset>) {
        for record in outcome.records {
            self.log.push(record.encode().unwrap());
            match &record {
                Record::Group {
                    group,
                    generation: Some(generation),
                } => {
                    let before = self
                        .generations
                        .insert(group.clone(), *generation)
                        .unwrap_or(0);
                    assert_eq!(*generation, before + 1, "generations rise one by one");
                }
                Record::Group {
                    group,
                    generation: None,
                } => {
                    self.generations.remove(group);
                }
                Record::Offset {
                    committed: Some(committed),
                    ..
                } => {
                    assert_eq!(Some(committed.offset), offset(&record));
                }
                Record::Offset {
                    committed: None, ..
                } => {}
            }
        }
        for effect in outcome.effects {
            match effect {
                Effect::Send { member, message } => self.deliver(member, message),
                Effect::ResolveStarts { group, starts } => {
                    self.wanted
                        .extend(starts.into_iter().map(|start| (group.clone(), start)));
                }
            }
        }
    }

    fn deliver(&mut self, member: MemberHandle, message: CoordinatorMessage) {
        let group = self.clients[&member].group;
        let generation = match &message {
            CoordinatorMessage::Joined { generation, .. }
            | CoordinatorMessage::Assign { generation, .. }
            | CoordinatorMessage::Revoke { generation, .. }
            | CoordinatorMessage::Seek { generation, .. } => *generation,
            CoordinatorMessage::Committed(_) => return,
        };
        assert!(generation <= self.generations.get(group).copied().unwrap_or(0));
        let mut seen = self.seen.borrow_mut();
        match message {
            CoordinatorMessage::Joined { .. } | CoordinatorMessage::Committed(_) => {}
            CoordinatorMessage::Assign { partitions, .. } => {
                seen.stood_by += u64::from(partitions.is_empty());
                for at in partitions {
                    seen.assigned += 1;
                    let named = NamedPartition {
                        topic: at.topic,
                        partition: at.partition,
                    };
                    for client in self.clients.values().filter(|client| client.group == group) {
                        assert!(
                            !client.holds.contains_key(&named),
                            "{named:?} has two owners"
                        );
                    }
                    let partition = TopicPartition {
                        topic_id: at.topic_id,
                        partition: at.partition,
                    };
                    assert_eq!(
                        self.offsets.get(&(group.to_owned(), partition)),
                        Some(&at.offset)
                    );
                    let held = Held {
                        topic_id: at.topic_id,
                        since: Some(generation),
                        revoked_in: None,
                    };
                    self.clients
                        .get_mut(&member)
                        .unwrap()
                        .holds
                        .insert(named, held);
                }
            }
            CoordinatorMessage::Revoke { partitions, .. } => {
                for at in partitions {
                    seen.revoked += 1;
                    let held = self
                        .clients
                        .get_mut(&member)
                        .unwrap()
                        .holds
                        .get_mut(&at)
                        .unwrap();
                    assert_eq!(
                        held.revoked_in.replace(generation),
                        None,
                        "{at:?} is revoked once"
                    );
                }
            }
            CoordinatorMessage::Seek { partitions, .. } => {
                for at in partitions {
                    seen.sought += 1;
                    let named = NamedPartition {
                        topic: at.topic,
                        partition: at.partition,
                    };
                    let held = self.clients[&member].holds[&named];
                    assert_eq!(
                        (held.topic_id, held.since, held.revoked_in),
                        (at.topic_id, Some(generation), None)
                    );
                    let partition = TopicPartition {
                        topic_id: at.topic_id,
                        partition: at.partition,
                    };
                    assert_eq!(
                        self.offsets.get(&(group.to_owned(), partition)),
                        Some(&at.offset)
                    );
                }
            }
        }
        let client = self.clients.get_mut(&member).unwrap();
        assert!(
            generation >= client.seen,
            "a stream's generations never fall"
        );
        client.seen = generation;
    }

    /// What holds after every step.
    fn check(&self) {
        for group in GROUPS {
            let fetched = self
                .coordinator
                .fetch_offsets(group)
                .offsets
                .into_iter()
                .map(|commit| {
                    let topic_id = self.topics[commit.topic.as_str()].topic_id;
                    (
                        TopicPartition {
                            topic_id,
                            partition: commit.partition,
                        },
                        commit.offset,
                    )
                });
            let expected = self.offsets.iter().filter(|((of, _), _)| of == group);
            let expected: BTreeMap<_, _> =
                expected.map(|((_, at), offset)| (*at, *offset)).collect();
            assert_eq!(fetched.collect::<BTreeMap<_, _>>(), expected);
        }
        for group in GROUPS {
            let Ok(described) = self.coordinator.describe(group, |_| None) else {
                continue;
            };
            let clients = || self.clients.iter().filter(|(_, it)| it.group == group);
            for (name, topic) in &self.topics {
                let partitions = described.partitions.iter();
                let shown = partitions.filter(|at| at.topic == *name).count();
                let consumed = clients().any(|(_, it)| it.topics.contains(name));
                assert!(!consumed || shown == topic.partitions as usize);
            }
            for at in described.partitions {
                let topic_id = self.topics[at.topic.as_str()].topic_id;
                let named = NamedPartition {
                    topic: at.topic,
                    partition: at.partition,
                };
                let holds = |it: &Client| {
                    let held = it.holds.get(&named);
                    held.is_some_and(|held| held.topic_id == topic_id)
                };
                let owner = clients().find(|(_, it)| holds(it));
                let owner = owner.map(|(handle, _)| handle.to_string());
                let told = at.owner.as_deref().and_then(|id| id.rsplit('-').next());
                assert_eq!(told, owner.as_deref(), "{named:?}");
            }
        }
        assert_eq!(
            self.coordinator.snapshot(),
            self.reloaded().snapshot(),
            "the log makes the same state"
        );
    }

    /// Everybody does what it was asked to, and then everything has its owner.
    fn settle(&mut self) {
        loop {
            let revoked =
                |client: &Client| client.holds.values().any(|held| held.revoked_in.is_some());
            let busy = self
                .clients
                .iter()
                .find(|(_, client)| revoked(client))
                .map(|(member, _)| *member);
            match busy {
                Some(member) => self.release(member, usize::MAX),
                None if self.wanted.is_empty() => break,
                None => self.resolve(0, 77),
            }
            self.check();
        }
        for group in self.coordinator.list(None).groups {
            let members: Vec<_> = self
                .clients
                .values()
                .filter(|client| client.group == group.group)
                .collect();
            let state = if members.is_empty() {
                GroupState::Empty
            } else {
                GroupState::Stable
            };
            assert_eq!(
                (group.state, group.members as usize),
                (state, members.len())
            );
            let mut owned = BTreeSet::new();
            for client in &members {
                for (at, held) in &client.holds {
                    let topic = &self.topics[at.topic.as_str()];
                    assert!(owned.insert(at.clone()) && client.topics.contains(at.topic.as_str()));
                    assert!(topic.topic_id == held.topic_id && at.partition < topic.partitions);
                }
            }
            if group.group == WORKERS {
                self.are_at_home(&members);
                continue;
            }
            let consumed: BTreeSet<_> = members.iter().flat_map(|client| &client.topics).collect();
            let partitions = consumed
                .iter()
                .filter_map(|name| self.topics.get(**name))
                .map(|topic| topic.partitions);
            assert_eq!(
                owned.len(),
                partitions.sum::<u32>() as usize,
                "everything has its owner"
            );
            let loads = || members.iter().map(|client| client.holds.len());
            if members
                .iter()
                .all(|client| client.topics.len() == consumed.len())
            {
                assert!(loads().max().unwrap_or(0) - loads().min().unwrap_or(0) <= 1);
            }
        }
    }

    /// Every partition is the newest worker's where it is led, and nobody's where there is none.
    fn are_at_home(&self, workers: &[&Client]) {
        for (name, topic) in &self.topics {
            for (partition, leader) in (0..).zip(&topic.leaders) {
                let at = NamedPartition {
                    topic: (*name).to_owned(),
                    partition,
                };
                let consumers = workers.iter().filter(|it| it.topics.contains(name));
                let is_home = |it: &&&Client| it.home.is_some() && it.home == *leader;
                let newest = consumers.clone().rfind(is_home);
                for worker in workers {
                    let owns = newest.is_some_and(|newest| std::ptr::eq(*newest, *worker));
                    assert_eq!(worker.holds.contains_key(&at), owns, "{at:?}");
                }
                let is_nobodys = newest.is_none() && consumers.count() > 0;
                self.seen.borrow_mut().nobodys += u64::from(is_nobodys);
                let at = TopicPartition {
                    topic_id: topic.topic_id,
                    partition,
                };
                assert!(
                    !is_nobodys || self.offsets.contains_key(&(WORKERS.to_owned(), at)),
                    "who comes to {at} later has a start"
                );
            }
        }
    }
}

#[test]
fn random_traffic_keeps_the_invariants() {
    let seen = RefCell::new(Seen::default());
    let steps = prop::collection::vec(step(), 1..80);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    });
    let result = runner.run(&steps, |steps| {
        let mut world = World::new(&seen);
        for step in steps {
            world.step(step);
        }
        world.settle();
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}\n{error:?}"));
    let Seen {
        assigned,
        revoked,
        sought,
        stood_by,
        committed,
        stale,
        crashes,
        led_otherwise,
        nobodys,
    } = *seen.borrow();
    for count in [
        assigned,
        revoked,
        sought,
        stood_by,
        committed,
        stale,
        crashes,
        led_otherwise,
        nobodys,
    ] {
        assert!(count >= 50, "{:?}", seen.borrow());
    }
}
