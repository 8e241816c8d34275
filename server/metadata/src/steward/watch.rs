//! The brokers as the steward hears of them.

use std::collections::BTreeMap;

use millstream_protocol::TopicPartition;

use crate::beat::{Beat, BeatAnswer, Leads, Report, Session, StopReason};
use crate::broker::{Broker, BrokerId, Start};
use crate::image::Image;
use crate::limits::TROUBLE_MS;
use crate::partition::Partition;
use crate::steward::trials::Standing;

/// What is known by a report that was not known before it.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The partitions that it names, and what its broker had said of them before.
    pub(super) named: Vec<(TopicPartition, Option<Leads>)>,
    /// Whether it says something of the others as well: that they are not led, or may not be.
    pub(super) is_sweeping: bool,
}

/// What is known of all brokers.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    brokers: BTreeMap<BrokerId, Watched>,
    /// When one has last come, gone or started again.
    pub(super) restless_ms: u64,
}

/// One start of a broker.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    start: Start,
    is_live: bool,
    /// When it was last heard, or else from when on it could be.
    pub(super) heard_ms: u64,
    /// The last beat that was heard; 0 before the first.
    number: u64,
    /// What its image has, as it says.
    pub(super) revision: u64,
    /// When it has last said that its disk is full, and whether it says so still.
    full: Option<(u64, bool)>,
    /// The beat with the last report.
    reported: Option<u64>,
    /// Whether it has said everything once, so that what it has not said is not so.
    has_told: bool,
    leads: BTreeMap<TopicPartition, Leads>,
}

impl Watched {
    fn new(broker: &Broker, now_ms: u64) -> Self {
        Self {
            start: broker.start(),
            is_live: broker.state.is_live(),
            heard_ms: now_ms,
            number: 0,
            revision: 0,
            full: None,
            reported: None,
            has_told: false,
            leads: BTreeMap::new(),
        }
    }

    /// Whether it has been heard since the steward watches it.
    pub(super) fn was_heard(&self) -> bool {
        self.number > 0
    }

    /// Whether its disk is full.
    pub(super) fn is_full(&self) -> bool {
        self.full.is_some_and(|(_, is_full)| is_full)
    }

    /// Whether its disk has room, and has had some for a while if it was full before.
    pub(super) fn has_room(&self, now_ms: u64) -> bool {
        self.full
            .is_none_or(|(last_ms, _)| last_ms.saturating_add(TROUBLE_MS) <= now_ms)
    }

    /// Takes a report in, unless it is an old one or says what has changed since what is not known
    /// here.
    fn report(&mut self, image: &Image, session: Session, beat: &Beat, report: &Report) -> News {
        let is_new = self.reported.is_none_or(|reported| reported < beat.number);
        let is_all = report.since.is_none();
        let has_base = report.since == Some(session) && self.reported.is_some();
        if !is_new || !(is_all || has_base) {
            return News::default();
        }
        self.reported = Some(beat.number);
        let has_told = (self.has_told && !is_all) || !report.has_more;
        let is_sweeping = is_all || has_told != self.has_told;
        self.has_told = has_told;
        if is_all {
            self.leads.clear();
        }
        // Nothing is noted of what it does not keep: it cannot lead that.
        let keeps = |it: &TopicPartition| {
            let partition = image.partition(*it);
            partition.is_some_and(|it| it.member(beat.broker_id).is_some())
        };
        let named = report.leads.iter().map(|(partition, leads)| {
            let before = match leads.filter(|_| keeps(partition)) {
                Some(leads) => self.leads.insert(*partition, leads),
                None => self.leads.remove(partition),
            };
            (*partition, before)
        });
        News {
            named: named.collect(),
            is_sweeping,
        }
    }
}

impl Watch {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            brokers: BTreeMap::new(),
            restless_ms: now_ms,
        }
    }

    /// What is known of a broker.
    pub(super) fn get(&self, broker_id: BrokerId) -> Option<&Watched> {
        self.brokers.get(&broker_id)
    }

    /// What the leader of a partition has said of it, if it is there and leads in the newest epoch.
    pub(super) fn led(
        &self,
        image: &Image,
        at: TopicPartition,
        partition: &Partition,
    ) -> Option<Leads> {
        let leads = self.get(partition.leader)?.leads.get(&at).copied()?;
        (leads.epoch == partition.leader_epoch && image.has_leader(partition)).then_some(leads)
    }

    /// How the leadership of a partition stands.
    pub(super) fn standing(
        &self,
        image: &Image,
        at: TopicPartition,
        partition: &Partition,
    ) -> Standing {
        let leader = self.get(partition.leader);
        if self.led(image, at, partition).is_some() {
            Standing::Led
        } else if image.has_leader(partition)
            && image.can_be_sealed(partition)
            && leader.is_some_and(|it| it.has_told)
        {
            Standing::Due
        } else {
            Standing::Excused
        }
    }

    /// Takes a beat in. The answer, and what is known by it.
    pub(super) fn beat(
        &mut self,
        image: &Image,
        session: Session,
        now_ms: u64,
        beat: &Beat,
    ) -> (BeatAnswer, News) {
        let known = match recognise(image, beat) {
            Ok(known) => known,
            Err(answer) => return (answer, News::default()),
        };
        let watched = self.watched(known, now_ms);
        // What is late or was sent twice says nothing of now.
        if beat.number > watched.number {
            watched.number = beat.number;
            watched.heard_ms = now_ms;
            watched.revision = watched.revision.max(beat.revision);
            watched.full = match beat.is_full {
                true => Some((now_ms, true)),
                false => watched.full.map(|(last_ms, _)| (last_ms, false)),
            };
        }
        let report = beat.report.as_ref();
        let news = report.map(|it| watched.report(image, session, beat, it));
        let answer = BeatAnswer::Heard {
            session,
            number: beat.number,
            reported: watched.reported,
        };
        (answer, news.unwrap_or_default())
    }

    /// What is watched of a broker: of its last start. One that is there again was heard just now.
    fn watched(&mut self, known: &Broker, now_ms: u64) -> &mut Watched {
        let (start, is_live) = (known.start(), known.state.is_live());
        let new = || Watched::new(known, now_ms);
        let watched = self.brokers.entry(known.broker_id).or_insert_with(|| {
            self.restless_ms = now_ms;
            new()
        });
        if watched.start != start {
            *watched = new();
            self.restless_ms = now_ms;
        }
        if watched.is_live != is_live {
            self.restless_ms = now_ms;
        }
        if is_live && !watched.is_live {
            watched.heard_ms = now_ms;
        }
        watched.is_live = is_live;
        watched
    }

    /// Watches the brokers that the image has by now.
    pub(super) fn follow(&mut self, image: &Image, now_ms: u64) {
        for known in image.brokers() {
            self.watched(known, now_ms);
        }
        self.brokers.retain(|it, _| image.broker(*it).is_some());
    }

    fn live(&self) -> impl Iterator<Item = (BrokerId, Start)> {
        let live = self.brokers.iter().filter(|(_, it)| it.is_live);
        live.map(|(broker_id, it)| (*broker_id, it.start))
    }

    /// The live brokers of which nothing was heard for so long.
    pub(super) fn silent(
        &self,
        limit_ms: u64,
        now_ms: u64,
    ) -> impl Iterator<Item = (BrokerId, Start)> {
        self.live().filter(move |(broker_id, _)| {
            let watched = self.get(*broker_id);
            watched.is_some_and(|it| it.heard_ms.saturating_add(limit_ms) <= now_ms)
        })
    }

    /// Nobody could be heard for so long.
    pub(super) fn sleep(&mut self, gap_ms: u64) {
        for watched in self.brokers.values_mut() {
            watched.heard_ms += gap_ms;
        }
    }
}

/// The broker that beats, if it is the one that is known and live.
fn recognise<'a>(image: &'a Image, beat: &Beat) -> Result<&'a Broker, BeatAnswer> {
    let known = image.broker(beat.broker_id);
    let known = known.ok_or(BeatAnswer::Stop(StopReason::Removed))?;
    let address = known.address.clone();
    if known.directory_id != beat.start.directory_id {
        return Err(BeatAnswer::Stop(StopReason::OtherDirectory { address }));
    }
    if beat.start.incarnation < known.incarnation {
        return Err(BeatAnswer::Stop(StopReason::LaterStart {
            incarnation: known.incarnation,
            address,
        }));
    }
    if known.start() != beat.start || !known.state.is_live() {
        return Err(BeatAnswer::Register);
    }
    if beat.address != address {
        return Err(BeatAnswer::Stop(StopReason::Copied { address }));
    }
    Ok(known)
}
