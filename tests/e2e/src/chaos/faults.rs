//! What happens to a cluster.

use std::fmt;
use std::time::{Duration, Instant};

use millstream::Position;
use millstream_protocol::TopicPartition;
use rustix::process::Signal;
use tokio::time::sleep_until;

use super::ledger::Killed;
use super::load::Load;
use super::{BROKERS, PARTITIONS, Party, Plan, Run, TOPIC, Weather, is_well, logs};
use crate::patience::{until, within};

/// How long a broker stands still, and how long ways are cut, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 200..2_500;
const CUT_MS: std::ops::Range<u64> = 200..2_500;

/// How long a killed broker stays away once others have taken over, milliseconds.
const AWAY_MS: std::ops::Range<u64> = 0..500;

/// A replica that lacks no more records than these has been copied: others are being written.
const CAUGHT_UP: u64 = 500;

/// How long a disk is full.
const FULL_MS: u64 = 4_000;

/// What has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Happened {
    /// Brokers were killed.
    pub kills: usize,
    /// Of these, brokers that led partitions.
    pub leaders_killed: usize,
    /// Of these, such that led the metadata quorum as well.
    pub metadata_leaders_killed: usize,
    /// Brokers that were killed while they started.
    pub starts_killed: usize,
    /// Brokers stood still.
    pub pauses: usize,
    /// Ways were cut.
    pub partitions: usize,
    /// Of these, in one direction alone.
    pub one_way: usize,
    /// Disks were full.
    pub full_disks: usize,
    /// Brokers ended for that, and were started again.
    pub ended_for_room: usize,
    /// Logs were spoilt.
    pub spoilt_logs: usize,
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            leaders_killed,
            metadata_leaders_killed,
            starts_killed,
            pauses,
            partitions,
            one_way,
            full_disks,
            ended_for_room,
            spoilt_logs,
        } = self;
        write!(
            f,
            "{kills} kills ({leaders_killed} of leaders, {metadata_leaders_killed} of these of the metadata \
             leader, {starts_killed} while starting), {pauses} pauses, {partitions} partitions ({one_way} \
             one-way), {full_disks} full disks ({ended_for_room} ended for that), {spoilt_logs} spoilt logs"
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    /// A broker is killed while two others do not hear of each other.
    KillAndCut,
    Pause,
    Cut,
    FullDisk,
    SpoiltLog,
}

impl Run {
    /// All faults of a plan, in an order that the seed decides.
    pub(super) async fn faults(&mut self, plan: &Plan, load: &Load) {
        let mut faults = vec![Fault::Pause; plan.pauses];
        let both = plan.kills / 5;
        faults.extend(vec![Fault::Kill; plan.kills - both]);
        faults.extend(vec![Fault::KillAndCut; both]);
        faults.extend(vec![Fault::Cut; plan.partitions - both]);
        if plan.disks {
            faults.push(Fault::SpoiltLog);
            faults.extend(self.disk.as_ref().map(|_| Fault::FullDisk));
        }
        for left in (1..faults.len()).rev() {
            let other = self.random.between(0..left as u64 + 1) as usize;
            faults.swap(left, other);
        }
        for fault in faults {
            self.change_weather();
            let what = format!("all is well again after {fault:?}");
            within(&what, self.have(fault)).await;
            for broker in 1..=BROKERS {
                let member = self.cluster.member(broker);
                assert!(
                    member.is_running(),
                    "broker {broker} has ended:\n{}",
                    member.log()
                );
            }
            assert!(!load.has_ended(), "a client has failed");
        }
    }

    async fn have(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.kill(false).await,
            Fault::KillAndCut => self.kill(true).await,
            Fault::Pause => self.pause().await,
            Fault::Cut => {
                self.is_disturbed = true;
                self.cut().await;
                self.wait(CUT_MS).await;
                self.network.mend();
            }
            Fault::FullDisk => self.fill_disk().await,
            Fault::SpoiltLog => self.spoil_log().await,
        }
        self.until_live().await;
        self.is_disturbed = false;
    }

    /// Fair weather is as frequent as foul.
    fn change_weather(&mut self) {
        let random = &mut self.random;
        let weather = match random.between(0..2) {
            0 => Weather::default(),
            _ => Weather {
                lost: random.between(0..30),
                repeated: random.between(0..30),
                held: random.between(0..100),
                held_for: Duration::from_millis(random.between(1..20)),
                delay: Duration::from_micros(random.between(0..3_000)),
            },
        };
        self.network.set_weather(weather);
    }

    async fn wait(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.random.between(ms);
        sleep_until(tokio::time::Instant::now() + Duration::from_millis(ms)).await;
    }

    /// Somebody who leads something, and perhaps the metadata quorum.
    async fn victim(&mut self) -> (Party, Vec<Party>, Option<Party>) {
        let status = self.observer.admin().describe_cluster().await.ok();
        let controller = status.and_then(|status| status.controller);
        let controller = controller.map(|it| it as Party);
        let leaders = self.leaders().await;
        let chosen = match (self.random.between(0..3), controller) {
            (0, Some(controller)) => controller,
            _ => leaders[self.random.between(0..u64::from(PARTITIONS)) as usize],
        };
        (chosen, leaders, controller)
    }

    fn strike(&mut self, victim: Party, leaders: &[Party], controller: Option<Party>) {
        let led = Self::partitions_of(leaders, victim);
        let killed = match controller == Some(victim) {
            true => Killed::MetadataLeader,
            false => Killed::Leader,
        };
        let at = Instant::now();
        self.cluster.member(victim).kill();
        self.happened.kills += 1;
        if !led.is_empty() {
            self.happened.leaders_killed += 1;
            self.happened.metadata_leaders_killed += usize::from(killed == Killed::MetadataLeader);
            self.ledger.killed(killed, !self.is_disturbed, at, &led);
        }
        self.say(format_args!(
            "killed broker {victim} ({killed:?} of {led:?})"
        ));
    }

    fn revive(&mut self, broker: Party) {
        let member = self.cluster.member(broker);
        member.launch();
        let process_id = member.process_id();
        self.network.is_process_of(process_id, broker);
    }

    async fn kill(&mut self, and_cut: bool) {
        let (victim, leaders, controller) = self.victim().await;
        if and_cut {
            self.is_disturbed = true;
            self.cut_between(victim).await;
        }
        self.strike(victim, &leaders, controller);
        if and_cut {
            self.wait(CUT_MS).await;
            self.network.mend();
        }
        let went_on = tokio::time::timeout(crate::patience::PATIENCE / 2, self.ledger.went_on());
        if went_on.await.is_err() {
            panic!(
                "what was not written or read again: {}",
                self.ledger.stuck()
            );
        }
        self.wait(AWAY_MS).await;
        self.revive(victim);
        if self.random.between(0..5) == 0 {
            self.wait(AWAY_MS).await;
            self.cluster.member(victim).kill();
            self.happened.kills += 1;
            self.happened.starts_killed += 1;
            self.revive(victim);
        }
        self.cluster.member(victim).until_ready();
    }

    async fn pause(&mut self) {
        let (victim, leaders, _) = self.victim().await;
        let led = Self::partitions_of(&leaders, victim);
        self.is_disturbed = true;
        self.cluster.member(victim).signal(Signal::STOP);
        self.happened.pauses += 1;
        self.say(format_args!(
            "broker {victim} stands still (leader of {led:?})"
        ));
        self.wait(PAUSE_MS).await;
        self.cluster.member(victim).signal(Signal::CONT);
    }

    /// Cuts ways: between two brokers or between one and all others, in one direction or both.
    async fn cut(&mut self) {
        let one = 1 + self.random.between(0..BROKERS as u64) as Party;
        let mut others: Vec<Party> = (1..=BROKERS).filter(|it| *it != one).collect();
        if self.random.between(0..2) == 0 {
            others.remove(self.random.between(0..2) as usize);
        }
        let directions = self.random.between(0..4);
        for other in &others {
            if directions != 0 {
                self.network.cut(one, *other);
            }
            if directions != 1 {
                self.network.cut(*other, one);
            }
        }
        self.happened.partitions += 1;
        self.happened.one_way += usize::from(directions < 2);
        let way = ["<-", "->", "<->", "<->"][directions as usize];
        self.say(format_args!(
            "nothing gets through: broker {one} {way} {others:?}"
        ));
    }

    async fn cut_between(&mut self, victim: Party) {
        let others: Vec<Party> = (1..=BROKERS).filter(|it| *it != victim).collect();
        self.network.cut(others[0], others[1]);
        self.network.cut(others[1], others[0]);
        self.happened.partitions += 1;
        self.say(format_args!("brokers {others:?} do not hear of each other"));
    }

    async fn fill_disk(&mut self) {
        self.is_disturbed = true;
        self.until_well().await;
        let Some(disk) = &self.disk else { return };
        disk.fill();
        self.happened.full_disks += 1;
        self.say(format_args!("the disk of broker {} is full", super::SMALL));
        self.wait(FULL_MS..FULL_MS + 1).await;
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let (cluster, observer) = (&mut self.cluster, &self.observer);
        let has_ended = until("all is well, or the broker has ended", async || {
            if !cluster.member(super::SMALL).is_running() {
                return Some(true);
            }
            let status = observer.admin().describe_cluster().await.ok()?;
            is_well(&status).then_some(false)
        });
        // Where it cannot store what a replica promises it ends, and somebody starts it again.
        if has_ended.await {
            let member = self.cluster.member(super::SMALL);
            member.wait();
            assert!(member.log().contains("No space left"), "{}", member.log());
            self.happened.ended_for_room += 1;
            self.revive(super::SMALL);
            self.cluster.member(super::SMALL).until_ready();
            self.until_well().await;
        }
        self.say(format_args!("it has room again, and all is well"));
    }

    /// Waits until a broker has what is committed of a partition by now.
    async fn has_caught_up(&self, broker: Party, partition: u32) {
        let client = self.cluster.client(broker).await;
        until("a copy", async || {
            let admin = self.observer.admin();
            let latest = admin
                .offset(TOPIC, partition, Position::Latest)
                .await
                .ok()?;
            let described = admin.describe_topic(TOPIC).await.ok()?;
            let at = TopicPartition {
                topic_id: described.topic_id,
                partition,
            };
            let kept = client.admin().describe_replicas().await.ok()?;
            let kept = kept.replicas.filter(|_| kept.broker_id as Party == broker);
            let replica = kept?.into_iter().find(|it| it.partition == at)?;
            // What is written meanwhile need not be there.
            let has_caught_up = replica.log_end_offset + CAUGHT_UP >= latest.offset;
            (replica.damage.is_none() && has_caught_up).then_some(())
        })
        .await;
    }

    async fn spoil_log(&mut self) {
        self.is_disturbed = true;
        self.until_well().await;
        let described = self.observer.admin().describe_topic(TOPIC).await;
        let topic_id = described.expect("a topic").topic_id.to_string();
        let (victim, leaders, controller) = self.victim().await;
        self.strike(victim, &leaders, controller);
        self.ledger.went_on().await;
        let partition = self.random.between(0..u64::from(PARTITIONS)) as u32;
        let spoilt = logs::spoil(&self.data_of(victim), &topic_id, partition);
        self.happened.spoilt_logs += usize::from(spoilt);
        self.say(format_args!(
            "a byte of partition {partition} of broker {victim} is spoilt: {spoilt}"
        ));
        self.revive(victim);
        if spoilt {
            self.cluster.member(victim).until_it_says("damaged");
        }
        self.cluster.member(victim).until_ready();
        // Until it has said that it is spoilt, all seems well.
        self.has_caught_up(victim, partition).await;
        self.until_well().await;
        self.say(format_args!("all is well again"));
    }
}
