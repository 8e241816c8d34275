//! One run, from the first broker's start to the verdict.

use std::any::Any;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_broker::clock;
use millstream_transport::Role;
use millstream_transport::identity::{Authority, IssuedIdentity, Signatures};
use tokio::sync::watch;
use turmoil::{Builder, Sim};

use crate::clients::{Phase, Work};
use crate::entropy;
use crate::faults::{CLIENTS, Faults};
use crate::ledger::Ledger;
use crate::oracle;
use crate::place::{Place, name};
use crate::report::Report;
use crate::trace::Trace;

/// Brokers: one more than a partition has replicas, so that these can move.
const BROKERS: u32 = 4;

/// How long a broker may take to stop in the end, and the clients to get everything after the last fault.
const END_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take until clients are at work.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);

/// The least that a run has to come to for it to count: per second of work.
const MIN_ACKED_PER_SECOND: u64 = 20;

/// When every simulation begins, seconds since the Unix epoch.
const EPOCH_SECONDS: u64 = 1_800_000_000;

/// A link that a bad network has taken out is whole again with one in so many of the datagrams that it loses.
const REPAIR_RATE: f64 = 0.1;

/// Datagrams that wait at a socket. More are lost, as with a kernel's buffer.
const SOCKET_DATAGRAMS: usize = 2_048;

/// The stack of a run's thread: frames of futures that are not optimised are large.
const STACK_BYTES: usize = 64 << 20;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Everything comes of it.
    pub seed: u64,
    /// How long clients are at work, and faults happen.
    pub works: Duration,
    /// Whether what happens is printed.
    pub is_shown: bool,
}

/// Runs a seed, in a thread of its own. Two runs of a seed are the same in two processes that do nothing else before:
/// tokio counts its executors, and takes that for a part of their seeds.
pub fn run(setup: Setup) -> Report {
    let running = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            entropy::seed(setup.seed);
            clock::replace(now_ms);
            Run::begin(setup).run()
        });
    let ended = running.expect("a thread").join();
    ended.unwrap_or_else(|panic| Report {
        seeds: 1,
        wrong: vec![format!("seed {}: {}", setup.seed, text(&*panic))],
        ..Report::default()
    })
}

/// The time of day in the simulation, since the Unix epoch.
fn since_epoch() -> Duration {
    turmoil::since_epoch().unwrap_or(Duration::from_secs(EPOCH_SECONDS))
}

/// The time of day in the simulation.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + since_epoch()
}

/// The same, milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message")
}

struct Run {
    setup: Setup,
    sim: Sim<'static>,
    work: Work,
    faults: Faults,
    stop: watch::Sender<bool>,
    began: Instant,
}

impl Run {
    fn begin(setup: Setup) -> Self {
        let began = Instant::now();
        let mut sim = Builder::new()
            .rng_seed(entropy::number())
            .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS))
            .simulation_duration(BEGIN_LIMIT + setup.works + END_LIMIT)
            .min_message_latency(Duration::from_millis(0))
            .max_message_latency(Duration::from_millis(8))
            .repair_rate(REPAIR_RATE)
            .udp_capacity(SOCKET_DATAGRAMS)
            .enable_random_order()
            .build();
        let trace = Arc::new(Trace::new(setup.is_shown));
        let (stop, stopped) = watch::channel(false);
        let authority =
            Authority::create_with("simulation", Signatures::Ed25519).expect("an authority");
        let issue = |role, name: &str, hosts: &[&str]| -> IssuedIdentity {
            authority.issue(role, name, hosts).expect("a certificate")
        };
        let mut places = Vec::new();
        for number in 1..=BROKERS {
            let ip = sim.lookup(name(number));
            let identity = issue(Role::Broker, &name(number), &[&ip.to_string()]);
            let place = Place::new(number, ip, identity, stopped.clone(), Arc::clone(&trace));
            let place = Arc::new(place);
            places.push(Arc::clone(&place));
            sim.host(name(number), move || Arc::clone(&place).run());
        }
        let work = Work {
            places: Arc::new(places),
            identity: Arc::new(issue(Role::Client, "tester", &[])),
            ledger: Arc::new(Ledger::default()),
            trace,
            phase: watch::Sender::new(Phase::Begins),
            leaders: watch::Sender::default(),
            topic_id: watch::Sender::default(),
            replicas: watch::Sender::default(),
        };
        sim.client(CLIENTS, work.clone().run());
        Self {
            setup,
            faults: Faults::new(&work),
            sim,
            work,
            stop,
            began,
        }
    }

    fn run(mut self) -> Report {
        let mut wrong = Vec::new();
        if let Err(error) = self.until_end() {
            wrong.push(error.to_string());
        }
        let topic_id = *self.work.topic_id.borrow();
        let Self {
            setup,
            sim,
            work,
            faults,
            began,
            ..
        } = self;
        let simulated = sim.elapsed();
        drop(sim);
        if let Some(topic_id) = topic_id {
            let replicas = work.replicas.borrow().clone();
            wrong.extend(oracle::judge(
                &work.places,
                topic_id,
                &replicas,
                &work.ledger,
            ));
        }
        let mut report = faults.report;
        report.seeds = 1;
        report.simulated = simulated;
        report.took = began.elapsed();
        report.fingerprint = work.trace.fingerprint();
        work.ledger.with(|told| {
            report.acked = told.acked.len() as u64;
            report.read = told.read.len() as u64;
            report.longest = told.longest;
            report.moves = told.moves;
        });
        if report.leaders_hit == 0 {
            wrong.push("no leader was hit".to_owned());
        }
        if report.acked < MIN_ACKED_PER_SECOND * setup.works.as_secs() {
            wrong.push(format!("only {} records were acknowledged", report.acked));
        }
        let seed = setup.seed;
        let wrong = wrong.into_iter();
        report.wrong = wrong.map(|what| format!("seed {seed}: {what}")).collect();
        report
    }

    fn until_end(&mut self) -> turmoil::Result {
        while *self.work.phase.borrow() < Phase::Works {
            self.sim.step()?;
        }
        let until = self.sim.elapsed() + self.setup.works;
        while self.sim.elapsed() < until {
            let leaders = self.work.leaders.borrow().clone();
            self.faults.turn(&mut self.sim, &leaders);
            self.sim.step()?;
        }
        self.faults.end_all(&mut self.sim);
        let trace = Arc::clone(&self.work.trace);
        trace.event_at(self.sim.elapsed(), format_args!("nothing more happens"));
        self.work.phase.send_replace(Phase::Ends);
        while !self.sim.step()? {
            self.faults.heal(&mut self.sim);
        }
        self.stop.send_replace(true);
        let limit = self.sim.elapsed() + END_LIMIT;
        let places = Arc::clone(&self.work.places);
        while places
            .iter()
            .any(|it| self.sim.is_host_running(it.name.as_str()))
        {
            self.sim.step()?;
            if self.sim.elapsed() > limit {
                return Err("a broker does not stop".into());
            }
        }
        Ok(())
    }
}
