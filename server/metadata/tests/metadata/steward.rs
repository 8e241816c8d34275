//! What the steward decides, in scripts.

use std::collections::{BTreeMap, BTreeSet};

use millstream_metadata::beat::Leads;
use millstream_metadata::limits::{
    ACTIVATION_LIMIT_MS, CALM_MS, HEARTBEAT_MS, MAX_APPOINTMENTS, MAX_BALANCED,
    MAX_CHANGES_UNDER_WAY, SILENCE_LIMIT_MS, TROUBLE_MS,
};
use millstream_metadata::steward::{ClusterStatus, OfflineReason, Patience, Reporter};
use millstream_metadata::{
    Beat, BeatAnswer, Command, Record, Registration, Session, Start, Steward,
};
use millstream_protocol::{TopicId, TopicPartition};
use uuid::Uuid;

use super::cluster::{Cluster, appoint, at, fence, reassign, register, registration, start};
use super::plans::finish;

/// The broker that leads the metadata quorum.
pub(crate) const OWN: u32 = 1;

/// A steward at work, and brokers that beat.
pub(crate) struct Office {
    pub(crate) cluster: Cluster,
    pub(crate) steward: Steward,
    pub(crate) now_ms: u64,
    pub(crate) revision: u64,
    pub(crate) reporters: BTreeMap<u32, Reporter>,
    /// The brokers whose disks are full.
    pub(crate) full: BTreeSet<u32>,
}

impl Office {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            steward: steward(1, 0),
            now_ms: 0,
            revision: 1,
            reporters: BTreeMap::new(),
            full: BTreeSet::new(),
        }
    }

    /// A steward of a cluster in which everybody leads what he should.
    pub(crate) fn settled(cluster: Cluster) -> Self {
        let mut office = Self::new(cluster);
        office.lead_all();
        let brokers = office.brokers();
        assert_eq!(office.pass(200, &brokers), []);
        office
    }

    pub(crate) fn brokers(&self) -> Vec<u32> {
        let brokers = self.cluster.image.brokers();
        brokers.map(|it| it.broker_id).collect()
    }

    pub(crate) fn run(&mut self, command: Command) -> Record {
        self.revision += 1;
        self.cluster.run(command)
    }

    /// A broker says of a partition that it leads it in the newest epoch, or no more.
    fn says(&mut self, broker_id: u32, at: TopicPartition, leads: bool, is_whole: bool) {
        let epoch = self.cluster.partition(at).leader_epoch;
        let leads = leads.then_some(Leads { epoch, is_whole });
        self.reporters
            .entry(broker_id)
            .or_default()
            .leads(at, leads);
    }

    /// Every leader leads, and all replicas keep up.
    pub(crate) fn lead_all(&mut self) {
        let partitions = self.cluster.image.partitions();
        let led: Vec<_> = partitions.map(|(at, it)| (at, it.leader)).collect();
        for (at, leader) in led {
            self.says(leader, at, true, true);
        }
    }

    /// What this broker would send now.
    pub(crate) fn next_beat(&mut self, broker_id: u32) -> Beat {
        let (number, report) = self.reporters.entry(broker_id).or_default().beat();
        let known = self.cluster.image.broker(broker_id).unwrap();
        Beat {
            broker_id,
            start: known.start(),
            address: known.address.clone(),
            number,
            revision: self.revision,
            is_full: self.full.contains(&broker_id),
            report,
        }
    }

    pub(crate) fn beat(&mut self, broker_id: u32) -> BeatAnswer {
        let beat = self.next_beat(broker_id);
        let beat = Beat::decode(&beat.encode().unwrap()).unwrap();
        let answer = self.steward.beat(self.now_ms, &self.cluster.image, &beat);
        let read_back = BeatAnswer::decode(&answer.encode().unwrap());
        assert_eq!(read_back.as_ref(), Ok(&answer));
        let reporter = self.reporters.entry(broker_id).or_default();
        reporter.answered(&answer);
        answer
    }

    /// What is to be done now, which is done. All of it is granted, and changes something.
    pub(crate) fn decide(&mut self) -> Vec<Command> {
        let image = &self.cluster.image;
        let commands = self.steward.decide(self.now_ms, self.revision, image);
        commands.iter().cloned().for_each(|it| drop(self.run(it)));
        commands
    }

    /// Time passes, and these brokers beat.
    pub(crate) fn pass(&mut self, ms: u64, brokers: &[u32]) -> Vec<Command> {
        let until_ms = self.now_ms + ms;
        let mut commands = Vec::new();
        while self.now_ms < until_ms {
            self.now_ms += HEARTBEAT_MS.min(until_ms - self.now_ms);
            brokers.iter().for_each(|it| drop(self.beat(*it)));
            commands.extend(self.decide());
        }
        commands
    }
}

pub(crate) fn steward(session: u64, now_ms: u64) -> Steward {
    Steward::new(
        OWN,
        start(OWN, 1),
        Session(session),
        Patience::default(),
        now_ms,
    )
}

fn restart(broker_id: u32, incarnation: u64) -> Command {
    let registration = Registration {
        incarnation,
        ..registration(broker_id)
    };
    Command::RegisterBroker { registration }
}

/// Brokers with one topic on them, and its partitions.
fn orders(brokers: u32, partitions: u32, factor: u8) -> (Cluster, TopicId) {
    let mut cluster = Cluster::with_brokers(brokers);
    let topic_id = cluster.create_replicated("orders", partitions, factor);
    (cluster, topic_id)
}

#[test]
fn who_is_silent_is_fenced_and_what_it_led_gets_leaders_at_the_same_time() {
    let (cluster, topic_id) = orders(3, 3, 3);
    let mut office = Office::settled(cluster);
    assert_eq!(office.pass(SILENCE_LIMIT_MS - 100, &[1, 3]), []);
    let expected = [
        fence(&office.cluster.image, 2),
        appoint(&office.cluster.image, &[(at(topic_id, 1), 3)]),
    ];
    assert_eq!(office.pass(100, &[1, 3]), expected);
    office.lead_all();
    assert_eq!(office.pass(5_000, &[1, 3]), []);
}

#[test]
fn a_thousand_partitions_get_leaders_in_one_step() {
    let mut cluster = Cluster::with_brokers(3);
    cluster.create_replicated("many", 10_000, 3);
    cluster.create_replicated("more", 10_000, 3);
    cluster.create_replicated("most", 10_000, 3);
    let mut office = Office::settled(cluster);
    // Twenty thousand partitions get other leaders.
    let commands = office.pass(SILENCE_LIMIT_MS, &[1]);
    let sizes: Vec<_> = commands
        .iter()
        .map(|it| match it {
            Command::AppointLeaders { nominations } => nominations.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [0, 0, MAX_APPOINTMENTS, MAX_APPOINTMENTS]);
}

#[test]
fn the_own_broker_is_not_fenced() {
    let mut office = Office::new(Cluster::with_brokers(2));
    assert_eq!(office.pass(10_000, &[2]), []);
}

#[test]
fn patience_may_be_without_end() {
    let (cluster, _) = orders(3, 1, 3);
    let mut office = Office::new(cluster);
    let patience = Patience {
        silence_ms: u64::MAX,
        activation_ms: u64::MAX,
    };
    office.steward = Steward::new(OWN, start(OWN, 1), Session(1), patience, 0);
    office.beat(1);
    assert_eq!(office.pass(100_000, &[]), []);
}

#[test]
fn what_the_own_broker_was_before_is_fenced_so_that_it_can_register() {
    let mut office = Office::new(Cluster::with_brokers(2));
    let new = Start {
        directory_id: Uuid::max(),
        incarnation: 1,
    };
    office.steward = Steward::new(OWN, new, Session(1), Patience::default(), 0);
    let expected = [fence(&office.cluster.image, OWN)];
    assert_eq!(office.pass(SILENCE_LIMIT_MS + 100, &[2]), expected);
    let registration = Registration {
        directory_id: new.directory_id,
        ..registration(OWN)
    };
    office.run(Command::RegisterBroker { registration });
    assert_eq!(office.pass(5_000, &[2]), []);
}

#[test]
fn a_steward_that_is_new_or_was_asleep_fences_nobody_for_that() {
    let mut office = Office::new(Cluster::with_brokers(2));
    office.now_ms = 50_000;
    office.steward = steward(2, 50_000);
    assert_eq!(office.pass(SILENCE_LIMIT_MS, &[1]), []);
    // It sleeps for longer than broker 2 may be silent.
    office.now_ms += 30_000;
    assert_eq!(office.decide(), []);
    let expected = [fence(&office.cluster.image, 2)];
    assert_eq!(office.pass(100, &[1]), expected);
}

#[test]
fn a_broker_that_is_registered_anew_is_given_its_time() {
    let mut office = Office::new(Cluster::with_brokers(2));
    office.pass(5_000, &[1]);
    assert!(!office.cluster.image.is_live(2));
    office.run(register(2));
    assert_eq!(office.pass(SILENCE_LIMIT_MS - 100, &[1]), []);
    office.beat(2);
    assert_eq!(office.pass(SILENCE_LIMIT_MS - 100, &[1]), []);
    // Another start has as long, whatever was heard of the one before.
    office.run(restart(2, 2));
    assert_eq!(office.pass(SILENCE_LIMIT_MS, &[1]), []);
    let expected = [fence(&office.cluster.image, 2)];
    assert_eq!(office.pass(100, &[1]), expected);
}

#[test]
fn who_does_not_lead_in_time_gets_another_epoch_and_then_others_do_ever_more_slowly() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::new(cluster);
    let (mut given, mut since_ms) = (Vec::new(), 0);
    for _ in 0..700 {
        for command in office.pass(100, &[1, 2, 3]) {
            assert!(matches!(command, Command::AppointLeaders { .. }));
            let leader = office.cluster.partition(partition).leader;
            given.push((office.now_ms - since_ms - 100, leader));
            since_ms = office.now_ms;
        }
    }
    let waits = [1, 2, 4, 8, 8, 8, 8].map(|it| it * ACTIVATION_LIMIT_MS);
    let leaders = [1, 2, 3, 1, 2, 3, 1];
    let expected: Vec<_> = waits.into_iter().zip(leaders).collect();
    assert_eq!(given[..7], expected);
}

#[test]
fn without_half_of_the_replicas_no_epochs_are_given() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::settled(cluster);
    office.pass(2_000, &[1]);
    assert_eq!(office.cluster.partition(partition).leader, 1);
    office.says(1, partition, false, false);
    assert_eq!(office.pass(100_000, &[1]), []);
    // Once there are enough, the leader has its time.
    office.run(register(3));
    assert_eq!(office.pass(ACTIVATION_LIMIT_MS, &[1, 3]), []);
    let expected = [appoint(&office.cluster.image, &[(partition, 1)])];
    assert_eq!(office.pass(100, &[1, 3]), expected);
}

#[test]
fn who_led_and_does_not_any_more_is_replaced_at_once() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::settled(cluster);
    office.says(1, partition, false, false);
    let expected = [appoint(&office.cluster.image, &[(partition, 1)])];
    assert_eq!(office.pass(100, &[1, 2, 3]), expected);
    // Not so soon if it happens again.
    office.lead_all();
    office.pass(300, &[1, 2, 3]);
    office.says(1, partition, false, false);
    assert_eq!(office.pass(2 * ACTIVATION_LIMIT_MS, &[1, 2, 3]), []);
    let expected = [appoint(&office.cluster.image, &[(partition, 2)])];
    assert_eq!(office.pass(100, &[1, 2, 3]), expected);
    // After it was led for long, all is as at first.
    office.lead_all();
    assert_eq!(office.pass(CALM_MS + 300, &[1, 2, 3]), []);
    office.says(2, partition, false, false);
    let expected = [appoint(&office.cluster.image, &[(partition, 2)])];
    assert_eq!(office.pass(100, &[1, 2, 3]), expected);
}

#[test]
fn a_restarted_leader_leads_on_without_a_word_of_the_steward() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::settled(cluster);
    office.run(restart(1, 2));
    office.reporters.insert(1, Reporter::new());
    assert_eq!(office.pass(1_000, &[1, 2, 3]), []);
    assert_eq!(office.cluster.partition(partition).leader_epoch, 2);
    office.lead_all();
    assert_eq!(office.pass(5_000, &[1, 2, 3]), []);
}

#[test]
fn a_leader_with_another_directory_is_replaced() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::settled(cluster);
    office.run(Command::RegisterReplicas {
        broker_id: 1,
        partitions: vec![partition],
    });
    let expected = [appoint(&office.cluster.image, &[(partition, 2)])];
    assert_eq!(office.pass(100, &[1, 2, 3]), expected);
}

#[test]
fn leaderships_go_back_when_all_is_calm_and_replicas_keep_up() {
    let (cluster, topic_id) = orders(3, 60, 3);
    let mut office = Office::settled(cluster);
    office.pass(1_000, &[1, 3]);
    office.lead_all();
    office.pass(200, &[1, 3]);
    office.run(register(2));
    assert_eq!(office.pass(CALM_MS, &[1, 2, 3]), []);
    // One of its partitions has a replica that lags.
    let lagging = at(topic_id, 1);
    let leader = office.cluster.partition(lagging).leader;
    assert_eq!(office.cluster.partition(lagging).replicas[0].broker_id, 2);
    office.says(leader, lagging, true, false);
    let mut moved = Vec::new();
    for _ in 0..50 {
        for command in office.pass(100, &[1, 2, 3]) {
            let Command::AppointLeaders { nominations } = command else {
                panic!("{command:?}")
            };
            assert!(nominations.iter().all(|it| it.leader == 2));
            moved.push((office.now_ms, nominations.len()));
        }
        for (at, partition) in office.cluster.image.clone().partitions() {
            if at != lagging {
                office.says(partition.leader, at, true, true);
            }
        }
    }
    let counts: Vec<_> = moved.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [MAX_BALANCED, 19 - MAX_BALANCED]);
    assert_eq!(moved[1].0 - moved[0].0, 1_000);
    office.says(leader, lagging, true, true);
    let expected = [appoint(&office.cluster.image, &[(lagging, 2)])];
    assert_eq!(office.pass(2_000, &[1, 2, 3])[..1], expected);
}

#[test]
fn who_has_a_full_disk_leads_nothing_that_another_can() {
    let (cluster, topic_id) = orders(3, 3, 3);
    let mut office = Office::settled(cluster);
    let theirs = at(topic_id, 1);
    assert_eq!(office.cluster.partition(theirs).leader, 2);
    // Nobody else has room.
    office.full.extend([1, 2, 3]);
    assert_eq!(office.pass(5_000, &[1, 2, 3]), []);
    office.full = BTreeSet::from([2]);
    assert_eq!(office.pass(TROUBLE_MS - 200, &[1, 2, 3]), []);
    // The others have had some for long enough.
    let expected = [appoint(&office.cluster.image, &[(theirs, 3)])];
    assert_eq!(office.pass(1_000, &[1, 2, 3]), expected);
    office.lead_all();
    assert_eq!(office.pass(2 * CALM_MS, &[1, 2, 3]), []);
    // It gets back what it is to lead, in the same way.
    office.full.clear();
    assert_eq!(office.pass(TROUBLE_MS - 200, &[1, 2, 3]), []);
    let expected = [appoint(&office.cluster.image, &[(theirs, 2)])];
    assert_eq!(office.pass(2_000, &[1, 2, 3])[..1], expected);
}

#[test]
fn a_preferred_leader_that_could_not_lead_is_left_alone_for_a_while() {
    let (cluster, topic_id) = orders(3, 1, 3);
    let partition = at(topic_id, 0);
    let mut office = Office::new(cluster);
    office.pass(200 + 3 * ACTIVATION_LIMIT_MS, &[1, 2, 3]);
    assert_eq!(office.cluster.partition(partition).leader, 2);
    office.lead_all();
    assert_eq!(office.pass(TROUBLE_MS, &[1, 2, 3]), []);
    let expected = [appoint(&office.cluster.image, &[(partition, 1)])];
    assert_eq!(office.pass(2_000, &[1, 2, 3])[..1], expected);
}

#[test]
fn a_draining_broker_is_emptied_step_by_step() {
    let (cluster, _) = orders(4, 200, 3);
    let mut office = Office::settled(cluster);
    office.run(Command::DrainBroker { broker_id: 2 });
    let mut steps = 0;
    while office.cluster.image.replicas_on(2) > 0 {
        office.pass(100, &[1, 2, 3, 4]);
        office.lead_all();
        let under_way = finish(&mut office.cluster);
        office.revision += 1;
        assert!(under_way <= MAX_CHANGES_UNDER_WAY);
        steps += 1;
        assert!(steps < 20);
    }
    assert!(steps > 2);
    assert_eq!(office.pass(1_000, &[1, 2, 3, 4]), []);
    office.run(Command::RemoveBroker { broker_id: 2 });
}

#[test]
fn commands_that_are_not_carried_out_are_given_again() {
    let (cluster, topic_id) = orders(2, 1, 2);
    let mut office = Office::settled(cluster);
    office.run(fence(&office.cluster.image, 1));
    let expected = [appoint(&office.cluster.image, &[(at(topic_id, 0), 2)])];
    for _ in 0..3 {
        office.now_ms += 100;
        let image = &office.cluster.image;
        let commands = office.steward.decide(office.now_ms, office.revision, image);
        assert_eq!(commands, expected);
    }
}

#[test]
fn the_status_says_who_is_there_and_what_stands_still() {
    let (mut cluster, topic_id) = orders(3, 3, 3);
    cluster.create("alone", 3);
    let mut office = Office::settled(cluster);
    office.run(reassign(at(topic_id, 2), &[3, 2, 1]));
    office.pass(1_000, &[1, 3]);
    let status = office.steward.status(office.now_ms, &office.cluster.image);
    assert_eq!(
        (status.controller, status.partitions, status.changing),
        (Some(1), 6, 1)
    );
    let brokers: Vec<_> = status
        .brokers
        .iter()
        .map(|it| {
            (
                it.broker.broker_id,
                it.silent_ms,
                it.leads,
                it.active,
                it.keeps,
            )
        })
        .collect();
    assert_eq!(
        brokers,
        [
            (1, Some(0), 2, Some(2), 4),
            (2, Some(1_000), 1, Some(0), 4),
            (3, Some(0), 3, Some(2), 4)
        ]
    );
    let offline: Vec<_> = status
        .offline
        .first
        .iter()
        .map(|it| {
            (
                it.topic.as_str(),
                it.partition.partition,
                it.leader,
                it.reason,
            )
        })
        .collect();
    let for_ms = 200;
    let attempts = 0;
    let no_leader = OfflineReason::Outage(millstream_metadata::plan::Outage::NoLeader);
    assert_eq!(
        offline,
        [
            (
                "orders",
                1,
                3,
                OfflineReason::NotLeading { for_ms, attempts }
            ),
            ("alone", 1, 2, no_leader)
        ]
    );
    assert_eq!(
        (status.offline.count, status.under_replicated.count),
        (2, 4)
    );
    assert!(
        status
            .under_replicated
            .first
            .iter()
            .all(|it| it.missing == [2])
    );
}

#[test]
fn without_a_steward_the_status_says_what_was_decided_last() {
    let (cluster, _) = orders(3, 3, 3);
    let mut office = Office::settled(cluster);
    office.run(fence(&office.cluster.image, 2));
    let status = ClusterStatus::last_known(&office.cluster.image);
    assert_eq!((status.controller, status.partitions), (None, 3));
    let told = status.brokers.iter().map(|it| (it.silent_ms, it.active));
    assert_eq!(told.collect::<Vec<_>>(), [(None, None); 3]);
    let led: Vec<_> = status
        .brokers
        .iter()
        .map(|it| (it.leads, it.keeps))
        .collect();
    assert_eq!(led, [(1, 3), (1, 3), (1, 3)]);
    // It does not know whether the others lead: it says nothing of them.
    let offline: Vec<_> = status.offline.first.iter().map(|it| it.leader).collect();
    assert_eq!(offline, [2]);
    assert_eq!(status.under_replicated.count, 3);
}
