//! A run: what it starts, in which order it measures, and that nothing of it stays behind.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use super::agent::{Agent, READY_LIMIT};
use super::catalogue::Plan;
use super::identities::Identities;
use super::machine::{self, Machine};
use super::process::{Process, Started};
use super::progress::Progress;
use super::report::Report;
use super::results::{Repetition, Results};
use super::scenario;
use super::settings::Settings;
use super::workload::plugins::Work;
use crate::output::bytes;

/// What must stay free of the disk, bytes.
const RESERVE_BYTES: u64 = 1 << 30;

/// What a run is told.
pub(super) struct Order {
    /// The sizes.
    pub(super) settings: Settings,
    /// The rows.
    pub(super) plan: Plan,
    /// Where the data goes.
    pub(super) data_dir: PathBuf,
    /// The plugins.
    pub(super) components: Components,
}

/// The components of the workers' rows, as far as they are there.
#[derive(Debug, Default)]
pub(super) struct Components {
    /// `quake-alert`.
    pub(super) quake_alert: Option<PathBuf>,
    /// The bench's own.
    pub(super) bench: Option<PathBuf>,
}

impl Components {
    /// The one that does this.
    pub(super) fn of(&self, work: Work) -> Option<PathBuf> {
        match work {
            Work::Json => self.quake_alert.clone(),
            Work::Drop | Work::Copy | Work::Get | Work::Put | Work::Remember | Work::Spin => {
                self.bench.clone()
            }
        }
    }
}

/// What came of a run.
pub(super) struct Measured {
    /// What was measured.
    pub(super) report: Report,
    /// What could not be measured, and why.
    pub(super) failures: Vec<anyhow::Error>,
}

/// Measures everything that is ordered. Blocks.
///
/// # Errors
///
/// What kept all of it from being measured.
pub(super) fn measure(order: Order, started: &Started) -> anyhow::Result<Measured> {
    let data = DataDir::create(&order.data_dir)?;
    let machine = Machine::look(data.path())?;
    // Declared after the data, dropped before it: processes stop before their files go.
    let mut bench = Bench::start(order, &data, started)?;
    let mut failures = scenario::measure(&mut bench);
    let rows = bench.results.rows(&bench.plan);
    failures.extend(bench.stop().err());
    data.close()?;
    Ok(Measured {
        report: Report { machine, rows },
        failures,
    })
}

/// A run's own folder. It goes when this is dropped.
pub(super) struct DataDir(TempDir);

impl DataDir {
    fn create(parent: &Path) -> anyhow::Result<Self> {
        let folder = std::fs::create_dir_all(parent).and_then(|()| {
            tempfile::Builder::new()
                .prefix("millstream-bench-")
                .tempdir_in(parent)
        });
        Ok(Self(folder.with_context(|| {
            format!("cannot make a folder in {}", parent.display())
        })?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    fn close(self) -> anyhow::Result<()> {
        self.0.close().context("cannot remove the data")
    }
}

/// A running broker process.
pub(super) struct BrokerProcess {
    process: Process,
    /// Where it listens.
    pub(super) address: String,
    /// From its start until it was ready.
    pub(super) ready_after: Duration,
}

impl BrokerProcess {
    /// Starts a broker on a data directory and waits until it is ready.
    pub(super) fn start(
        started: &Started,
        identities: &Identities,
        data_dir: &Path,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let arguments: [&OsStr; 4] = [
            "--identities".as_ref(),
            identities.folder().as_ref(),
            "--data-dir".as_ref(),
            data_dir.as_ref(),
        ];
        let process = started.spawn("broker", arguments)?;
        let address = process
            .receive(READY_LIMIT)
            .context("the broker is not ready")?;
        Ok(Self {
            process,
            address,
            ready_after: begun.elapsed(),
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Lets it finish.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }

    /// Ends it as a crash would.
    pub(super) fn kill(self) {
        self.process.kill();
    }
}

/// What scenarios work with.
pub(super) struct Bench {
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) components: Components,
    pub(super) results: Results,
    pub(super) progress: Progress,
    pub(super) agent: Agent,
    pub(super) broker: BrokerProcess,
    quic: Process,
    pub(super) started: Started,
    pub(super) identities: Identities,
    /// Where scenarios make their files.
    pub(super) folder: PathBuf,
}

impl Bench {
    fn start(order: Order, data: &DataDir, started: &Started) -> anyhow::Result<Self> {
        let folder = data.path().to_owned();
        let identities = {
            let folder = folder.join("identities");
            std::fs::create_dir(&folder)?;
            Identities::create(&folder)?
        };
        let quic = started.spawn(
            "quic",
            ["--identities".as_ref(), identities.folder().as_os_str()],
        )?;
        let quic_address = quic
            .receive(READY_LIMIT)
            .context("the raw QUIC server is not ready")?;
        let broker = BrokerProcess::start(started, &identities, &folder.join("broker"))?;
        let agent = Agent::start(started, &identities, &broker.address, Some(&quic_address))?;
        Ok(Self {
            settings: order.settings,
            plan: order.plan,
            components: order.components,
            results: Results::default(),
            progress: Progress::new(),
            agent,
            broker,
            quic,
            started: started.clone(),
            identities,
            folder,
        })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.agent.stop()?;
        self.broker.stop()?;
        self.quic.stop()
    }

    /// The repetitions of a row.
    pub(super) fn repetitions(&self) -> impl Iterator<Item = Repetition> + use<> {
        Repetition::series(self.settings.repetitions)
    }

    /// Makes sure that the disk has room for `wanted` bytes more.
    pub(super) fn require_space(&self, wanted: u64) -> anyhow::Result<()> {
        let free = machine::free_bytes(&self.folder)?;
        anyhow::ensure!(
            free >= wanted + RESERVE_BYTES,
            "{} of {} are free, {} are needed: see --data-dir",
            bytes(free),
            self.folder.display(),
            bytes(wanted + RESERVE_BYTES)
        );
        Ok(())
    }

    /// Tells the rows that are done.
    pub(super) fn tell(&mut self) {
        self.results.tell(&self.plan, &mut self.progress);
    }
}
