//! Scripts of what a partition's replicas do, on disks and a network that do what they are told.
//!
//! A script is lines `command -> what it shows`. Unless a command says otherwise, everything that can
//! happen happens before the next one: messages arrive, promises and logs are synced.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what supports a test fails like the test"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use millstream_replication::{
    Appointment, BrokerId, DirectoryId, Durability, Durable, Effect, Input, LogView, Message,
    Replica, ReplicaSet, Role, Run,
};

struct Node {
    replica: Replica,
    /// Whether its disk takes part.
    flushes: bool,
}

#[derive(Default)]
struct Cluster {
    nodes: BTreeMap<BrokerId, Node>,
    network: VecDeque<(BrokerId, BrokerId, Message)>,
    inputs: VecDeque<(BrokerId, Input)>,
    /// Who is cut off.
    apart: BTreeSet<BrokerId>,
    decided: Option<Appointment>,
    next_directory: u64,
    finalised: Option<(u32, u64)>,
    deposed: Vec<String>,
}

impl Cluster {
    fn new(replicas: &[BrokerId]) -> Self {
        let mut cluster = Self::default();
        let directories = replicas.iter().map(|id| (*id, cluster.directory()));
        let directories: BTreeMap<_, _> = directories.collect();
        for (id, directory) in &directories {
            cluster.open(*id, Durable::assigned(*directory, 0), LogView::default());
        }
        cluster.decided = Some(Appointment {
            version: 1,
            epoch: 0,
            leader: 0,
            replicas: ReplicaSet::new(replicas).unwrap(),
            directories,
            durability: Durability::Sync,
            accepted: None,
        });
        cluster
    }

    fn directory(&mut self) -> DirectoryId {
        self.next_directory += 1;
        DirectoryId(self.next_directory)
    }

    fn open(&mut self, id: BrokerId, durable: Durable, log: LogView) {
        let mut effects = Vec::new();
        let replica = Replica::open(id, durable, log, &mut effects);
        let flushes = true;
        self.nodes.insert(id, Node { replica, flushes });
        self.perform(id, effects, 0);
    }

    fn decide(&mut self, change: impl FnOnce(&mut Appointment)) {
        let decided = self.decided.as_mut().unwrap();
        decided.version += 1;
        change(decided);
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in ids {
            if !self.apart.contains(&id) {
                self.tell(id);
            }
        }
    }

    /// A replica is told what is decided.
    fn tell(&mut self, id: BrokerId) {
        let decided = self.decided.clone().unwrap();
        self.inputs.push_back((id, Input::Appointed(decided)));
    }

    fn step(&mut self, id: BrokerId, input: Input) {
        let until = match &input {
            Input::Received {
                message: Message::Append { span, .. } | Message::Fetched { span, .. },
                ..
            } => span.until,
            _ => 0,
        };
        let mut effects = Vec::new();
        let replica = &mut self.nodes.get_mut(&id).unwrap().replica;
        replica.step(0, input, &mut effects);
        self.perform(id, effects, until);
    }

    fn perform(&mut self, id: BrokerId, effects: Vec<Effect>, until: u64) {
        for effect in effects {
            match effect {
                Effect::Persist(durable) => {
                    self.inputs.push_back((id, Input::Persisted(durable)));
                }
                Effect::Truncate { .. } => {}
                Effect::Restart { at } => self.step(
                    id,
                    Input::Written {
                        end: at.offset.max(until),
                    },
                ),
                Effect::Write { .. } => self.step_once(id, until),
                Effect::WriteEpochStart { .. } => {
                    let end = self.nodes[&id].replica.log().end() + 1;
                    self.step_once(id, end);
                }
                Effect::Send { to, message } => self.network.push_back((id, to, message)),
                Effect::Activated { .. } => {}
                Effect::Deposed { epoch, .. } => self.deposed.push(format!("{id} of {epoch}")),
                Effect::Finalise { epoch, version } => {
                    self.check_final();
                    self.finalised = Some((epoch, version));
                }
                Effect::Refused { from, reason } => panic!("{id} refuses {from}: {reason}"),
            }
        }
    }

    /// Who is to seal from here on must be able to.
    fn check_final(&self) {
        let next = self.decided.as_ref().unwrap().replicas.next();
        let trusted = next
            .iter()
            .filter(|it| self.nodes[it].replica.durable().trusted);
        assert!(
            trusted.count() * 2 > next.len(),
            "a majority of {next:?} is trusted"
        );
    }

    /// A write has ended, unless a restart has told so already.
    fn step_once(&mut self, id: BrokerId, end: u64) {
        if self.nodes[&id].replica.log().end() < end {
            self.step(id, Input::Written { end });
        }
    }

    /// Everything happens that can.
    fn settle(&mut self) {
        loop {
            if let Some((id, input)) = self.inputs.pop_front() {
                self.step(id, input);
            } else if let Some((from, to, message)) = self.network.pop_front() {
                let arrives = !self.apart.contains(&from) && !self.apart.contains(&to);
                if arrives && self.nodes.contains_key(&to) {
                    self.step(to, Input::Received { from, message });
                }
            } else if let Some(id) = self.unflushed() {
                let offset = self.nodes[&id].replica.log().end();
                self.step(id, Input::Flushed { offset });
            } else {
                return;
            }
        }
    }

    fn unflushed(&self) -> Option<BrokerId> {
        let mut nodes = self.nodes.iter();
        let unflushed = nodes.find(|(_, node)| {
            let log = node.replica.log();
            node.flushes && log.flushed() < log.end()
        });
        unflushed.map(|(id, _)| *id)
    }

    fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |place: usize| words[place].parse::<u32>().unwrap();
        match words[0] {
            "appoint" => self.decide(|it| {
                it.epoch += 1;
                it.leader = number(1);
            }),
            "produce" => {
                let log = self.nodes[&number(1)].replica.log();
                let end = log.end() + u64::from(number(2));
                self.step(number(1), Input::Written { end });
            }
            "stall" => self.nodes.get_mut(&number(1)).unwrap().flushes = false,
            "go-on" => self.nodes.get_mut(&number(1)).unwrap().flushes = true,
            "part" => {
                self.apart.insert(number(1));
            }
            "back" => {
                self.apart.remove(&number(1));
                self.tell(number(1));
            }
            "meet" => {
                self.apart.clear();
                let ids: Vec<_> = self.nodes.keys().copied().collect();
                ids.iter().for_each(|id| self.tell(*id));
                for (id, peer) in ids
                    .iter()
                    .flat_map(|id| ids.iter().map(move |it| (*id, *it)))
                {
                    self.inputs.push_back((id, Input::Linked { peer }));
                }
            }
            "power-cut" => self.power_cut(number(1)),
            "wipe" => self.wipe(number(1)),
            "accept" => self.decide(|it| {
                it.epoch += 1;
                it.leader = number(1);
                it.replicas = ReplicaSet::new(&[number(1)]).unwrap();
                it.directories.retain(|id, _| *id == number(1));
                it.accepted = it.directories.get(&number(1)).copied();
            }),
            "retain" => {
                let start = u64::from(number(2));
                self.step(number(1), Input::Retained { start });
            }
            "delete" => {
                let below = u64::from(number(2));
                self.step(number(1), Input::Delete { below });
            }
            "remember" => self.step(number(1), Input::Remember),
            "change" => {
                let next: Vec<u32> = words[1..].iter().map(|it| it.parse().unwrap()).collect();
                self.change(&next);
            }
            other => panic!("no command {other}"),
        }
        self.settle();
        if let Some((epoch, version)) = self.finalised.take() {
            let decided = self.decided.as_ref().unwrap();
            if (decided.epoch, decided.version) == (epoch, version) {
                self.decide(|it| it.replicas = ReplicaSet::new(it.replicas.next()).unwrap());
                self.settle();
            }
        }
        self.show()
    }

    /// What was not synced is gone, and the process is back.
    fn power_cut(&mut self, id: BrokerId) {
        let replica = &self.nodes[&id].replica;
        let (durable, log) = (replica.durable(), replica.log());
        let end = log.flushed();
        let runs = runs(log).into_iter().filter(|run| run.start < end);
        let log = LogView::new(log.start(), end, end, runs.collect());
        self.network.retain(|(_, to, _)| *to != id);
        self.inputs.retain(|(to, _)| *to != id);
        self.open(id, durable, log);
        self.tell(id);
    }

    fn wipe(&mut self, id: BrokerId) {
        let directory = self.directory();
        let epoch = self.decided.as_ref().unwrap().epoch;
        self.inputs.retain(|(to, _)| *to != id);
        self.open(
            id,
            Durable::registered(directory, epoch),
            LogView::default(),
        );
        self.decide(|it| {
            it.directories.insert(id, directory);
        });
    }

    fn change(&mut self, next: &[BrokerId]) {
        let epoch = self.decided.as_ref().unwrap().epoch;
        let mut directories = self.decided.as_ref().unwrap().directories.clone();
        let known: BTreeSet<_> = self.nodes.keys().copied().collect();
        for id in next.iter().filter(|it| !known.contains(it)) {
            let directory = self.directory();
            directories.insert(*id, directory);
            self.open(*id, Durable::assigned(directory, epoch), LogView::default());
        }
        self.decide(|it| {
            let current = it.replicas.current().to_vec();
            it.replicas = ReplicaSet::changing(&current, next).unwrap();
            it.directories = directories;
        });
    }

    /// Every replica: its role, its tip, its high watermark; `?` if it is not trusted; up to where its disk
    /// says that records are deleted, and where a leader acknowledges that. Then what has happened to
    /// leaders, and a change of the set.
    fn show(&mut self) -> String {
        let mut shown = String::new();
        for (id, node) in &self.nodes {
            let replica = &node.replica;
            let role = match replica.role() {
                Role::Follower => "F",
                Role::Sealing => "S",
                Role::Leader => "L",
            };
            let doubt = if replica.durable().trusted { "" } else { "?" };
            let tip = replica.log().tip();
            let high_watermark = replica.high_watermark();
            write!(
                shown,
                "{id}{role}{doubt} {}@{} {high_watermark}",
                tip.epoch, tip.offset
            )
            .unwrap();
            match (replica.durable().deleted, replica.deleted()) {
                (0, _) => {}
                (deleted, 0) => write!(shown, " -{deleted}").unwrap(),
                (deleted, told) => write!(shown, " -{deleted} (all -{told})").unwrap(),
            }
            shown.push_str(", ");
        }
        for deposed in self.deposed.drain(..) {
            write!(shown, "deposed {deposed}, ").unwrap();
        }
        let replicas = &self.decided.as_ref().unwrap().replicas;
        if !replicas.next().is_empty() {
            write!(shown, "changing to {:?}, ", replicas.next()).unwrap();
        }
        shown.trim_end_matches(", ").to_owned()
    }
}

/// A log's runs, found by its positions.
fn runs(log: &LogView) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for offset in log.start()..log.end() {
        let epoch = log.position(offset + 1).unwrap().epoch;
        if runs.last().is_none_or(|run| run.epoch < epoch) {
            runs.push(Run {
                epoch,
                start: offset,
            });
        }
    }
    runs
}

fn check(replicas: &[BrokerId], script: &str) {
    let mut cluster = Cluster::new(replicas);
    let lines = script.lines().map(str::trim).filter(|it| !it.is_empty());
    for line in lines {
        let (command, expected) = line.split_once("->").expect("a command and what it shows");
        assert_eq!(cluster.run(command.trim()), expected.trim(), "{line}");
    }
}

#[test]
fn a_leader_begins_its_epoch_and_commits() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 3 -> 1L 1@3 3, 2F 1@3 3, 3F 1@3 3
        appoint 2   -> 1F 2@4 4, 2L 2@4 4, 3F 2@4 4, deposed 1 of 1
        ",
    );
}

#[test]
fn a_stalled_follower_holds_up_nobody_and_a_stalled_majority_does() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        stall 3     -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        stall 1     -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        produce 1 2 -> 1L 1@4 2, 2F 1@4 2, 3F 1@4 2
        go-on 3     -> 1L 1@4 4, 2F 1@4 4, 3F 1@4 4
        ",
    );
}

#[test]
fn what_was_not_committed_is_cut_off_and_what_was_is_kept() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        part 1      -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        produce 1 4 -> 1L 1@6 2, 2F 1@2 2, 3F 1@2 2
        appoint 3   -> 1L 1@6 2, 2F 2@3 3, 3L 2@3 3
        produce 3 1 -> 1L 1@6 2, 2F 2@4 4, 3L 2@4 4
        meet        -> 1F 2@4 4, 2F 2@4 4, 3L 2@4 4, deposed 1 of 1
        ",
    );
}

#[test]
fn a_leader_to_be_fetches_what_it_lacks() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        part 3      -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 5 -> 1L 1@5 5, 2F 1@5 5, 3F 0@0 0
        part 1      -> 1L 1@5 5, 2F 1@5 5, 3F 0@0 0
        back 3      -> 1L 1@5 5, 2F 1@5 5, 3F 0@0 0
        appoint 3   -> 1L 1@5 5, 2F 2@6 6, 3L 2@6 6
        meet        -> 1F 2@6 6, 2F 2@6 6, 3L 2@6 6, deposed 1 of 1
        ",
    );
}

#[test]
fn an_epoch_is_not_resumed_after_a_restart() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        stall 1     -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        power-cut 1 -> 1F 0@0 0, 2F 1@2 2, 3F 1@2 2
        appoint 1   -> 1L 2@3 3, 2F 2@3 3, 3F 2@3 3
        ",
    );
}

#[test]
fn an_emptied_replica_is_trusted_once_it_has_everything() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 3 -> 1L 1@3 3, 2F 1@3 3, 3F 1@3 3
        part 3      -> 1L 1@3 3, 2F 1@3 3, 3F 1@3 3
        wipe 3      -> 1L 1@3 3, 2F 1@3 3, 3F? 0@0 0
        part 1      -> 1L 1@3 3, 2F 1@3 3, 3F? 0@0 0
        appoint 2   -> 1L 1@3 3, 2S 1@3 3, 3F? 0@0 0
        meet        -> 1F 2@4 4, 2L 2@4 4, 3F 2@4 4, deposed 1 of 1
        ",
    );
}

#[test]
fn the_survivor_of_two_leads_and_commits_once_the_set_is_its_own() {
    check(
        &[1, 2],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2
        part 1      -> 1L 1@2 2, 2F 1@2 2
        appoint 2   -> 1L 1@2 2, 2L 2@3 2
        produce 2 1 -> 1L 1@2 2, 2L 2@4 2
        change 2    -> 1L 1@2 2, 2L 2@4 4
        produce 2 1 -> 1L 1@2 2, 2L 2@5 5
        ",
    );
}

#[test]
fn a_change_is_final_when_the_new_replicas_have_everything() {
    check(
        &[1, 2, 3],
        "
        appoint 1    -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2  -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        part 4       -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        part 5       -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        change 1 4 5 -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2, 4F 0@0 0, 5F 0@0 0, changing to [1, 4, 5]
        produce 1 1  -> 1L 1@3 2, 2F 1@3 2, 3F 1@3 2, 4F 0@0 0, 5F 0@0 0, changing to [1, 4, 5]
        meet         -> 1L 1@3 3, 2F 1@3 3, 3F 1@3 3, 4F 1@3 3, 5F 1@3 3
        ",
    );
}

#[test]
fn a_follower_behind_the_logs_start_begins_there() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        part 3      -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 9 -> 1L 1@9 9, 2F 1@9 9, 3F 0@0 0
        retain 1 6  -> 1L 1@9 9, 2F 1@9 9, 3F 0@0 0
        meet        -> 1L 1@9 9, 2F 1@9 9, 3F 1@9 9
        ",
    );
}

/// Who leads next knows of what was deleted, also if it was away then.
#[test]
fn what_is_deleted_on_a_majority_stays_so() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 5 -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        part 3      -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        delete 1 4  -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4, 3F 1@5 5
        part 1      -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4, 3F 1@5 5
        back 3      -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4, 3F 1@5 5
        power-cut 2 -> 1L 1@5 5 -4 (all -4), 2F 1@5 4 -4, 3F 1@5 5
        appoint 3   -> 1L 1@5 5 -4 (all -4), 2F 2@6 6 -4, 3L 2@6 6 -4 (all -4)
        meet        -> 1F 2@6 6 -4, 2F 2@6 6 -4, 3L 2@6 6 -4 (all -4), deposed 1 of 1
        ",
    );
}

#[test]
fn a_deletion_waits_for_a_majority_and_for_what_is_committed() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 5 -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        part 2      -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        part 3      -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        produce 1 3 -> 1L 1@8 5, 2F 1@5 5, 3F 1@5 5
        delete 1 7  -> 1L 1@8 5 -5, 2F 1@5 5, 3F 1@5 5
        delete 2 3  -> 1L 1@8 5 -5, 2F 1@5 5, 3F 1@5 5
        part 1      -> 1L 1@8 5 -5, 2F 1@5 5, 3F 1@5 5
        back 2      -> 1L 1@8 5 -5, 2F 1@5 5, 3F 1@5 5
        back 3      -> 1L 1@8 5 -5, 2F 1@5 5, 3F 1@5 5
        appoint 2   -> 1L 1@8 5 -5, 2L 2@6 6, 3F 2@6 6
        meet        -> 1F 2@6 6 -5, 2L 2@6 6, 3F 2@6 6, deposed 1 of 1
        ",
    );
}

/// What its older disk has said does not count, and it counts again with what was deleted before.
#[test]
fn an_emptied_replica_counts_again_with_what_was_deleted() {
    check(
        &[1, 2],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0
        produce 1 5 -> 1L 1@5 5, 2F 1@5 5
        delete 1 4  -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4
        part 2      -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4
        wipe 2      -> 1L 1@5 5 -4, 2F? 0@0 0
        stall 2     -> 1L 1@5 5 -4, 2F? 0@0 0
        meet        -> 1L 1@5 5 -4, 2F? 1@5 5
        go-on 2     -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4
        ",
    );
}

#[test]
fn a_change_is_not_final_before_the_new_replicas_have_deleted_what_was_to_be() {
    check(
        &[1],
        "
        appoint 1   -> 1L 0@0 0
        produce 1 5 -> 1L 1@5 5
        delete 1 4  -> 1L 1@5 5 -4 (all -4)
        part 2      -> 1L 1@5 5 -4 (all -4)
        change 2    -> 1L 1@5 5 -4, 2F 0@0 0, changing to [2]
        meet        -> 1L 1@5 5 -4 (all -4), 2F 1@5 5 -4
        appoint 2   -> 1F 1@5 5 -4, 2L 1@5 5 -4 (all -4), deposed 1 of 1
        ",
    );
}

#[test]
fn what_is_committed_is_known_after_a_restart_if_it_was_noted() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 5 -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        remember 2  -> 1L 1@5 5, 2F 1@5 5, 3F 1@5 5
        produce 1 2 -> 1L 1@7 7, 2F 1@7 7, 3F 1@7 7
        part 1      -> 1L 1@7 7, 2F 1@7 7, 3F 1@7 7
        part 2      -> 1L 1@7 7, 2F 1@7 7, 3F 1@7 7
        power-cut 2 -> 1L 1@7 7, 2F 1@7 5, 3F 1@7 7
        power-cut 3 -> 1L 1@7 7, 2F 1@7 5, 3F 1@7 0
        ",
    );
}

#[test]
fn a_change_is_not_final_while_its_majority_is_not_trusted() {
    check(
        &[1],
        "
        appoint 1   -> 1L 0@0 0
        produce 1 2 -> 1L 1@2 2
        part 2      -> 1L 1@2 2
        change 2    -> 1L 1@2 2, 2F 0@0 0, changing to [2]
        wipe 2      -> 1L 1@2 2, 2F? 0@0 0, changing to [2]
        meet        -> 1L 1@2 2, 2F 1@2 2
        appoint 2   -> 1F 1@2 2, 2L 1@2 2, deposed 1 of 1
        ",
    );
}

#[test]
fn a_single_replica_marks_no_start() {
    check(
        &[1],
        "
        appoint 1   -> 1L 0@0 0
        produce 1 2 -> 1L 1@2 2
        power-cut 1 -> 1F 1@2 0
        appoint 1   -> 1L 1@2 2
        produce 1 1 -> 1L 2@3 3
        change 1 2  -> 1L 2@3 3, 2F 2@3 3
        appoint 2   -> 1F 3@4 4, 2L 3@4 4, deposed 1 of 2
        ",
    );
}

#[test]
fn an_epoch_that_begins_with_nothing_has_no_start() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        appoint 2   -> 1F 0@0 0, 2L 0@0 0, 3F 0@0 0, deposed 1 of 1
        power-cut 2 -> 1F 0@0 0, 2F 0@0 0, 3F 0@0 0
        appoint 3   -> 1F 0@0 0, 2F 0@0 0, 3L 0@0 0
        produce 3 1 -> 1F 3@1 1, 2F 3@1 1, 3L 3@1 1
        ",
    );
}

/// Nobody of those that seal the next epoch has what the first leader has appended.
#[test]
fn what_was_never_committed_gives_way_to_the_first_entry_of_an_epoch_without_start() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        part 1      -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 0, 2F 0@0 0, 3F 0@0 0
        appoint 2   -> 1L 1@2 0, 2L 0@0 0, 3F 0@0 0
        meet        -> 1F 1@2 0, 2L 0@0 0, 3F 0@0 0, deposed 1 of 1
        produce 2 1 -> 1F 2@1 1, 2L 2@1 1, 3F 2@1 1
        ",
    );
}

/// Until then it may be led again, and then its epoch is one with a start.
#[test]
fn what_was_never_committed_may_be_committed_by_a_later_epoch() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        part 1      -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 0, 2F 0@0 0, 3F 0@0 0
        appoint 2   -> 1L 1@2 0, 2L 0@0 0, 3F 0@0 0
        back 1      -> 1F 1@2 0, 2L 0@0 0, 3F 0@0 0, deposed 1 of 1
        appoint 1   -> 1L 3@3 3, 2F 3@3 3, 3F 3@3 3, deposed 2 of 2
        ",
    );
}

#[test]
fn an_emptied_replica_has_everything_where_nothing_is() {
    check(
        &[1, 2],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0
        part 2      -> 1L 0@0 0, 2F 0@0 0
        wipe 2      -> 1L 0@0 0, 2F? 0@0 0
        meet        -> 1L 0@0 0, 2F 0@0 0
        wipe 2      -> 1L 0@0 0, 2F 0@0 0
        appoint 2   -> 1F 0@0 0, 2L 0@0 0, deposed 1 of 1
        wipe 1      -> 1F 0@0 0, 2L 0@0 0
        produce 2 1 -> 1F 2@1 1, 2L 2@1 1
        ",
    );
}

#[test]
fn an_emptied_replica_that_is_to_lead_trusts_itself_where_nothing_is() {
    check(
        &[1, 2],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0
        part 2      -> 1L 0@0 0, 2F 0@0 0
        wipe 2      -> 1L 0@0 0, 2F? 0@0 0
        part 1      -> 1L 0@0 0, 2F? 0@0 0
        back 2      -> 1L 0@0 0, 2F? 0@0 0
        appoint 2   -> 1L 0@0 0, 2S? 0@0 0
        meet        -> 1F 0@0 0, 2L 0@0 0, deposed 1 of 1
        ",
    );
}

#[test]
fn a_change_of_replicas_that_have_nothing_waits_for_them_as_well() {
    check(
        &[1],
        "
        appoint 1   -> 1L 0@0 0
        part 2      -> 1L 0@0 0
        change 2    -> 1L 0@0 0, 2F 0@0 0, changing to [2]
        wipe 2      -> 1L 0@0 0, 2F? 0@0 0, changing to [2]
        meet        -> 1L 0@0 0, 2F 0@0 0
        appoint 2   -> 1F 0@0 0, 2L 0@0 0, deposed 1 of 1
        ",
    );
}

/// An operator has the partition go on with what it has: it counts, and its disk says so first.
#[test]
fn an_emptied_replica_leads_once_the_loss_is_accepted() {
    check(
        &[1, 2, 3],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0, 3F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        part 1      -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        part 3      -> 1L 1@2 2, 2F 1@2 2, 3F 1@2 2
        wipe 2      -> 1L 1@2 2, 2F? 0@0 0, 3F 1@2 2
        appoint 2   -> 1L 1@2 2, 2S? 0@0 0, 3F 1@2 2
        accept 2    -> 1L 1@2 2, 2L 0@0 0, 3F 1@2 2, deposed 2 of 2
        produce 2 1 -> 1L 1@2 2, 2L 3@1 1, 3F 1@2 2
        power-cut 2 -> 1L 1@2 2, 2F 3@1 0, 3F 1@2 2
        appoint 2   -> 1L 1@2 2, 2L 3@1 1, 3F 1@2 2
        ",
    );
}

/// What another directory of the broker was accepted with does not count for this one.
#[test]
fn a_loss_is_accepted_with_one_directory_alone() {
    check(
        &[1, 2],
        "
        appoint 1   -> 1L 0@0 0, 2F 0@0 0
        produce 1 2 -> 1L 1@2 2, 2F 1@2 2
        part 1      -> 1L 1@2 2, 2F 1@2 2
        accept 2    -> 1L 1@2 2, 2L 1@2 2
        wipe 2      -> 1L 1@2 2, 2F? 0@0 0
        appoint 2   -> 1L 1@2 2, 2S? 0@0 0
        ",
    );
}
