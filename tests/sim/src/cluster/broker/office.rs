//! The shell of the groups' coordinator: on the broker that leads the groups' log, while it does.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use millstream_group::{
    Coordinator, Effect, Join, Limits, MemberHandle, Outcome, Record, ResolvedStart, Topic,
};
use millstream_protocol::api::group::{CoordinatorMessage, MemberKind, MemberMessage};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::{LeaderEpoch, Offset};

use super::{Broker, Trouble};
use crate::cluster::env::Env;
use crate::cluster::layout::{EVENTS, EVENTS_NAME, GROUPS, events};
use crate::cluster::packet::{Node, Packet, Session};
use crate::cluster::stream::{End, Segment};

/// The group that there is.
const GROUP: &str = "readers";

/// A member that was not heard of for so long is gone.
pub(crate) const SILENCE_US: u64 = 1_500_000;

/// What one append of the groups' log carries at most, bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// A coordinator at work.
pub(super) struct Office {
    coordinator: Coordinator,
    session: Session,
    /// Members, by their numbers.
    seats: BTreeMap<u32, Seat>,
    /// The newest stream of each member that was ever here: an older one is over.
    streams: BTreeMap<u32, u64>,
    due: VecDeque<Due>,
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut office = f.debug_struct("Office");
        office
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A member's stream.
#[derive(Debug)]
struct Seat {
    handle: MemberHandle,
    end: End<CoordinatorMessage>,
}

/// What is to be done once the groups' log is committed up to an offset.
#[derive(Debug)]
struct Due {
    visible_at: Offset,
    effects: Vec<Effect>,
}

impl Office {
    fn epoch(&self) -> LeaderEpoch {
        self.session.epoch
    }

    fn seat_of(&mut self, handle: MemberHandle) -> Option<(u32, &mut Seat)> {
        let mut seats = self.seats.iter_mut();
        let seat = seats.find(|(_, seat)| seat.handle == handle);
        seat.map(|(number, seat)| (*number, seat))
    }
}

impl Broker {
    fn office(&mut self) -> Option<&mut Office> {
        self.process.as_mut()?.office.as_mut()
    }

    /// Has a coordinator here while this broker leads the groups' log, and in each epoch another one.
    pub(super) fn coordinate(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let leads = self.settled_in(GROUPS);
        if self.office().map(|it| it.epoch()) != leads {
            self.close_office();
            if let Some(epoch) = leads {
                self.open_office(env, epoch)?;
            }
        }
        self.perform_due(env)
    }

    /// Its members find out when they are not answered.
    fn close_office(&mut self) {
        if let Some(process) = &mut self.process {
            process.office = None;
        }
    }

    /// A coordinator with what the log says.
    fn open_office(&mut self, env: &mut Env, epoch: LeaderEpoch) -> Result<(), Trouble> {
        let topic = Topic {
            name: EVENTS_NAME.to_owned(),
            topic_id: EVENTS,
            partitions: env.events,
            leaders: Vec::new(),
        };
        let mut coordinator = Coordinator::new(Limits::default(), [topic]);
        self.each_record(
            env,
            GROUPS,
            0,
            |env, offset, key, value| match Record::decode(&key, value.as_deref()) {
                Ok(record) => coordinator.replay(&record),
                Err(error) => env
                    .oracles
                    .violated(format!("{offset} of the groups' log: {error}")),
            },
        )?;
        env.report.coordinators += 1;
        env.oracles.groups.begins(epoch);
        let number = env.next_number();
        if let Some(process) = &mut self.process {
            process.office = Some(Office {
                coordinator,
                session: Session { epoch, number },
                seats: BTreeMap::new(),
                streams: BTreeMap::new(),
                due: VecDeque::new(),
            });
        }
        self.call(env, Coordinator::forget_unknown_topics).map(drop)
    }

    /// Runs one request. What it leads to is done once its records, and those of all before it, are
    /// committed.
    fn call<T>(
        &mut self,
        env: &mut Env,
        request: impl FnOnce(&mut Coordinator) -> Outcome<T>,
    ) -> Result<Option<T>, Trouble> {
        let Some(office) = self.office() else {
            return Ok(None);
        };
        let epoch = office.epoch();
        let Outcome {
            records,
            effects,
            response,
        } = request(&mut office.coordinator);
        let mut visible_at = office.due.back().map_or(0, |it| it.visible_at);
        if !records.is_empty() {
            let appended = match encode(&records) {
                Some(batch) => self.append_in(env, GROUPS, epoch, &batch)?,
                None => None,
            };
            let Some((_, end)) = appended else {
                // What it holds is not in the log: it is read back, and every member joins again.
                self.close_office();
                return Ok(None);
            };
            visible_at = end;
        }
        if planted!(AcknowledgeBeforeCommit) {
            visible_at = 0;
        }
        let due = Due {
            visible_at,
            effects,
        };
        if let Some(office) = self.office() {
            office.due.push_back(due);
        }
        match records.is_empty() {
            true => self.perform_due(env)?,
            false => self.written(env, GROUPS)?,
        }
        Ok(Some(response))
    }

    fn perform_due(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let visible = self.visible(GROUPS);
        let mut wanted = Vec::new();
        while let Some(office) = self.office()
            && let Some(due) = office.due.pop_front_if(|it| it.visible_at <= visible)
        {
            for effect in due.effects {
                match effect {
                    Effect::Send { member, message } => self.tell(env, member, message),
                    Effect::ResolveStarts { group, starts } => wanted.push((group, starts)),
                }
            }
        }
        for (group, starts) in wanted {
            // Nothing is ever deleted of what groups read.
            let starts = starts.into_iter().map(|it| it.at(0));
            let starts: Vec<ResolvedStart> = starts.collect();
            let now_ms = self.now_ms(env);
            self.call(env, |it| it.starts_resolved(&group, starts, now_ms))?;
        }
        Ok(())
    }

    fn tell(&mut self, env: &mut Env, member: MemberHandle, message: CoordinatorMessage) {
        let Some(office) = self.office() else {
            return;
        };
        let epoch = office.epoch();
        let Some((number, seat)) = office.seat_of(member) else {
            return;
        };
        if let CoordinatorMessage::Assign {
            generation,
            partitions,
        } = &message
        {
            env.report.assignments += partitions.len() as u64;
            for it in partitions {
                let at = (it.partition, it.offset);
                let groups = &mut env.oracles.groups;
                groups.assigned(epoch, member, *generation, at);
            }
        }
        seat.end.push(message);
        self.send_to_member(env, number);
    }

    /// Sends a member everything that it has not acknowledged.
    fn send_to_member(&mut self, env: &mut Env, number: u32) {
        let node = self.node();
        let Some(office) = self.office() else {
            return;
        };
        if let (Some(seat), Some(stream)) = (office.seats.get(&number), office.streams.get(&number))
        {
            let packet = Packet::Told {
                stream: *stream,
                session: office.session,
                segment: seat.end.segment(),
            };
            env.send(node, Node::Member(number), packet);
        }
    }

    /// A member's stream has brought something, and be it that it is there.
    pub(super) fn heard_member(
        &mut self,
        env: &mut Env,
        number: u32,
        (stream, session): (u64, Option<Session>),
        segment: Segment<MemberMessage>,
    ) -> Result<(), Trouble> {
        let node = self.node();
        let leader = self.partition(GROUPS);
        let leader = leader.and_then(|it| it.replica.appointed_leader());
        let hang_up = Packet::HungUp {
            stream,
            leader: leader.map(|(leader, _)| leader),
        };
        let Some(office) = self.office() else {
            env.send(node, Node::Member(number), hang_up);
            return Ok(());
        };
        let newest = office.streams.get(&number).copied();
        let is_new = newest.is_none_or(|newest| newest < stream) && session.is_none();
        if is_new {
            self.joins(env, number, stream)?;
        }
        let Some(office) = self.office() else {
            return Ok(());
        };
        let is_current = office.streams.get(&number) == Some(&stream)
            && session.is_none_or(|session| session == office.session);
        let now_us = env.queue.now_us;
        let seat = office.seats.get_mut(&number).filter(|_| is_current);
        let Some(seat) = seat else {
            env.send(node, Node::Member(number), hang_up);
            return Ok(());
        };
        let handle = seat.handle;
        for message in seat.end.take(segment, now_us) {
            self.asked(env, number, handle, message)?;
        }
        self.send_to_member(env, number);
        Ok(())
    }

    fn joins(&mut self, env: &mut Env, number: u32, stream: u64) -> Result<(), Trouble> {
        self.leaves(env, number)?;
        let handle = MemberHandle(env.next_number());
        let now_us = env.queue.now_us;
        let Some(office) = self.office() else {
            return Ok(());
        };
        office.streams.insert(number, stream);
        let end = End::new(now_us);
        office.seats.insert(number, Seat { handle, end });
        let join = Join {
            group: GROUP.to_owned(),
            member: handle,
            member_name: format!("reader-{number}"),
            principal: "CN=reader".to_owned(),
            kind: MemberKind::Client,
            home: None,
            topics: vec![EVENTS_NAME.to_owned()],
            start: Position::Earliest,
        };
        let joined = self.call(env, |it| it.join(join))?;
        env.report.joins += 1;
        if let Some(Err(error)) = joined {
            env.oracles
                .violated(format!("a member is refused: {error}"));
        }
        Ok(())
    }

    fn leaves(&mut self, env: &mut Env, number: u32) -> Result<(), Trouble> {
        let Some(office) = self.office() else {
            return Ok(());
        };
        let epoch = office.epoch();
        let Some(Seat { handle, .. }) = office.seats.remove(&number) else {
            return Ok(());
        };
        env.oracles.groups.gone(epoch, handle);
        self.call(env, |it| it.leave(handle)).map(drop)
    }

    fn asked(
        &mut self,
        env: &mut Env,
        number: u32,
        member: MemberHandle,
        message: MemberMessage,
    ) -> Result<(), Trouble> {
        let now_ms = self.now_ms(env);
        match message {
            MemberMessage::Commit {
                generation,
                offsets,
            } => {
                for it in &offsets {
                    let committed = env.oracles.of(events(it.partition)).committed_end();
                    let at = (it.partition, it.offset);
                    env.oracles.groups.commits(at, committed);
                }
                self.call(env, |it| it.commit(member, generation, offsets, now_ms))
                    .map(drop)
            }
            MemberMessage::Released {
                generation,
                partitions,
            } => {
                if let Some(epoch) = self.office().map(|it| it.epoch()) {
                    for it in &partitions {
                        env.oracles.groups.released(epoch, member, it.partition);
                    }
                }
                self.call(env, |it| it.released(member, generation, &partitions))
                    .map(drop)
            }
            MemberMessage::Leave => self.leaves(env, number),
        }
    }

    /// Members that were silent for too long are gone.
    pub(super) fn expel(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let now_us = env.queue.now_us;
        let silent = self.office().map(|office| {
            let seats = office.seats.iter();
            let silent = seats.filter(|(_, seat)| seat.end.silent_us(now_us) > SILENCE_US);
            silent.map(|(number, _)| *number).collect::<Vec<_>>()
        });
        for number in silent.unwrap_or_default() {
            env.report.expulsions += 1;
            self.leaves(env, number)?;
        }
        // One that was closed because its log had no room opens again.
        self.coordinate(env)
    }

    /// Whether it coordinates a group of which each partition has an owner.
    pub(crate) fn has_settled_group(&self) -> bool {
        let office = self.process.as_ref().and_then(|it| it.office.as_ref());
        office.is_some_and(|office| {
            let group = office.coordinator.describe(GROUP, |_| None);
            let owned = group.is_ok_and(|it| it.partitions.iter().all(|it| it.owner.is_some()));
            owned && office.due.is_empty()
        })
    }
}

fn encode(records: &[Record]) -> Option<Vec<u8>> {
    let mut builder = BatchBuilder::new(Compression::None, BATCH_BYTES);
    for record in records {
        let record = record.encode().ok()?;
        let (key, value) = (&record.key[..], record.value.as_deref());
        builder.append(0, Some(key), value, &[]).ok()?;
    }
    builder.finish(None).ok().map(|it| it.to_vec())
}
