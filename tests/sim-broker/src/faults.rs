//! What happens to brokers, disks and the network while clients are at work.

use std::sync::Arc;
use std::time::Duration;

use millstream_log::storage::SyncBehaviour;
use turmoil::Sim;

use crate::clients::Work;
use crate::entropy::{below, between, once_in};
use crate::place::Place;
use crate::report::Report;
use crate::trace::Trace;

/// The host of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// Between the beginnings of two faults.
const PAUSE_MS: (u64, u64) = (300, 2_500);

/// How long a fault lasts.
const LASTS_MS: (u64, u64) = (100, 4_000);

/// How long a broker that has stopped by itself is left alone.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// Of the messages on a bad network one in so many begins an outage of its link, which ends with one in so many
/// others.
const BAD_RATE: f64 = 0.01;

/// What else a full disk has room for, bytes.
const LITTLE_ROOM_BYTES: u64 = 8 * 1024;

/// What is wrong with a broker's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// It does not run; it is started again then.
    Down(Duration),
    /// Nobody hears it, or it hears nobody, until then.
    CutOff(Duration),
    /// What it says and hears is held back until then, as if it were stopped.
    Held(Duration),
    /// Its disk is full until then.
    Full(Duration),
}

/// All of it.
pub(crate) struct Faults {
    places: Arc<Vec<Arc<Place>>>,
    trace: Arc<Trace>,
    wrong: Vec<Wrong>,
    /// Until when the network is bad.
    bad_until: Option<Duration>,
    next_at: Duration,
    /// What has happened so far.
    pub(crate) report: Report,
}

impl Faults {
    pub(crate) fn new(work: &Work) -> Self {
        Self {
            places: Arc::clone(&work.places),
            trace: Arc::clone(&work.trace),
            wrong: vec![Wrong::Nothing; work.places.len()],
            bad_until: None,
            next_at: Duration::ZERO,
            report: Report::default(),
        }
    }

    /// Ends what is over, and begins what is due.
    pub(crate) fn turn(&mut self, sim: &mut Sim<'_>, leaders: &[u32]) {
        self.heal(sim);
        let now = sim.elapsed();
        if now < self.next_at {
            return;
        }
        self.next_at = now + between(PAUSE_MS);
        let until = now + between(LASTS_MS);
        if once_in(40) {
            self.all_lose_power(sim, until);
            return;
        }
        if once_in(8) && self.bad_until.is_none() {
            self.say(sim, format_args!("the network gets bad"));
            sim.set_fail_rate(BAD_RATE);
            self.bad_until = Some(until);
            self.report.bad_weather += 1;
            return;
        }
        // A majority stays whole, but for those that lose their power together.
        if self.wrong.iter().any(|it| *it != Wrong::Nothing) {
            return;
        }
        let index = match leaders {
            [] => below(self.places.len() as u64) as usize,
            _ if once_in(4) => below(self.places.len() as u64) as usize,
            leaders => leaders[below(leaders.len() as u64) as usize] as usize - 1,
        };
        let leads = leaders.contains(&(index as u32 + 1));
        self.report.leaders_hit += u64::from(leads);
        self.strike(sim, index, until);
    }

    fn strike(&mut self, sim: &mut Sim<'_>, index: usize, until: Duration) {
        let place = Arc::clone(&self.places[index]);
        let name = place.name.as_str();
        self.wrong[index] = match below(10) {
            0..3 => {
                self.say(sim, format_args!("{name} is killed"));
                sim.crash(name);
                place.killed();
                self.report.kills += 1;
                Wrong::Down(until)
            }
            3..5 => {
                self.say(sim, format_args!("{name} loses its power"));
                self.cut_power(sim, index);
                Wrong::Down(until)
            }
            5 | 6 => {
                self.cut_off(sim, index);
                Wrong::CutOff(until)
            }
            7 => {
                self.say(sim, format_args!("{name} is held"));
                for other in self.others(index) {
                    sim.hold(name, other.as_str());
                }
                self.report.pauses += 1;
                Wrong::Held(until)
            }
            8 => {
                self.say(sim, format_args!("the disk of {name} fails"));
                place.disk().set_sync(SyncBehaviour::Failing);
                self.report.failed_disks += 1;
                // It stops by itself.
                Wrong::Nothing
            }
            _ => {
                self.say(sim, format_args!("the disk of {name} is full"));
                let disk = place.disk();
                disk.set_capacity(Some(disk.used_bytes() + LITTLE_ROOM_BYTES));
                self.report.full_disks += 1;
                Wrong::Full(until)
            }
        };
    }

    fn cut_power(&mut self, sim: &mut Sim<'_>, index: usize) {
        let place = &self.places[index];
        sim.crash(place.name.as_str());
        place.lost_power(crate::entropy::number());
        self.report.power_cuts += 1;
    }

    fn all_lose_power(&mut self, sim: &mut Sim<'_>, until: Duration) {
        self.say(sim, format_args!("all lose their power"));
        self.end(sim, |_| true);
        for index in 0..self.places.len() {
            self.cut_power(sim, index);
            self.wrong[index] = Wrong::Down(until + Duration::from_millis(below(500)));
        }
    }

    fn cut_off(&mut self, sim: &mut Sim<'_>, index: usize) {
        let name = self.places[index].name.clone();
        // Its clients may reach it all the while, or not.
        let with_clients = once_in(2);
        let way = below(3);
        let ways = ["hears and says nothing", "hears nothing", "says nothing"];
        let to = if with_clients { "" } else { " among brokers" };
        self.say(sim, format_args!("{name} {}{to}", ways[way as usize]));
        for other in self.others(index) {
            if other == CLIENTS && !with_clients {
                continue;
            }
            match way {
                0 => sim.partition(name.as_str(), other.as_str()),
                1 => sim.partition_oneway(other.as_str(), name.as_str()),
                _ => sim.partition_oneway(name.as_str(), other.as_str()),
            }
        }
        self.report.partitions += 1;
    }

    /// Everybody but one broker.
    fn others(&self, index: usize) -> Vec<String> {
        let brokers = (0..).zip(self.places.iter());
        let others = brokers.filter(|(other, _)| *other != index);
        let names = others.map(|(_, place)| place.name.clone());
        names.chain([CLIENTS.to_owned()]).collect()
    }

    /// Ends what is wrong and over.
    fn end(&mut self, sim: &mut Sim<'_>, is_over: impl Fn(Duration) -> bool) {
        if self.bad_until.take_if(|until| is_over(*until)).is_some() {
            self.say(sim, format_args!("the network is good again"));
            sim.set_fail_rate(0.0);
        }
        for index in 0..self.places.len() {
            let until = match self.wrong[index] {
                Wrong::Nothing => continue,
                Wrong::Down(until)
                | Wrong::CutOff(until)
                | Wrong::Held(until)
                | Wrong::Full(until) => until,
            };
            if is_over(until) {
                self.end_at(sim, index);
            }
        }
    }

    /// Ends what is wrong with one place.
    fn end_at(&mut self, sim: &mut Sim<'_>, index: usize) {
        let place = Arc::clone(&self.places[index]);
        let name = place.name.as_str();
        match std::mem::replace(&mut self.wrong[index], Wrong::Nothing) {
            Wrong::Nothing => {}
            Wrong::Down(_) => {
                self.say(sim, format_args!("{name} is started"));
                sim.bounce(name);
            }
            Wrong::CutOff(_) => {
                self.say(sim, format_args!("{name} is reached again"));
                for other in self.others(index) {
                    sim.repair(name, other.as_str());
                }
            }
            Wrong::Held(_) => {
                self.say(sim, format_args!("{name} goes on"));
                for other in self.others(index) {
                    sim.release(name, other.as_str());
                }
            }
            Wrong::Full(_) => {
                self.say(sim, format_args!("the disk of {name} has room"));
                place.disk().set_capacity(None);
            }
        }
    }

    /// Ends everything.
    pub(crate) fn end_all(&mut self, sim: &mut Sim<'_>) {
        for place in self.places.iter() {
            place.disk().set_sync(SyncBehaviour::Honest);
        }
        self.end(sim, |_| true);
    }

    /// Sees to brokers that have stopped by themselves, when nothing else happens any more.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        self.end(sim, |until| until <= now);
        self.look_after(sim);
    }

    /// Sees to brokers that have stopped by themselves: they are started again after a while, on a disk that works.
    fn look_after(&mut self, sim: &mut Sim<'_>) {
        for index in 0..self.places.len() {
            let place = Arc::clone(&self.places[index]);
            let is_down = matches!(self.wrong[index], Wrong::Down(_));
            if is_down || sim.is_host_running(place.name.as_str()) {
                continue;
            }
            self.end_at(sim, index);
            place.killed();
            self.report.stops += 1;
            self.wrong[index] = Wrong::Down(sim.elapsed() + LEFT_ALONE);
        }
    }

    fn say(&self, sim: &Sim<'_>, what: std::fmt::Arguments<'_>) {
        self.trace.event_at(sim.elapsed(), what);
    }
}
