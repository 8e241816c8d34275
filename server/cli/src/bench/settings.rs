//! What was typed, and what a run makes of it.

use std::path::PathBuf;
use std::time::Duration;

use super::catalogue::{self, Extent, RowSpec, Subject};
use super::schedule::Schedule;

/// How a run is wanted.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Ends within a minute: fewer rows, less data, two repetitions
    #[arg(long)]
    quick: bool,

    /// Measures the rows whose name starts like this alone; may be given several times
    #[arg(long, value_name = "PREFIX")]
    pub(super) only: Vec<String>,

    /// Names the rows and measures nothing
    #[arg(long)]
    pub(super) list: bool,

    /// Fails when a row misses the bar that the project has set for it
    #[arg(long)]
    pub(super) check: bool,

    /// How often every row is measured, after a first time that does not count [default: 5, quick: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: Option<u32>,

    /// Where the data goes, in a folder that is removed again [default: target, or the working
    /// directory if there is none]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,

    /// The component of the plugin quake-alert [default: it is built, where the workspace is found]
    #[arg(long, value_name = "FILE")]
    pub(super) component: Option<PathBuf>,

    /// The log that the broker is also started with, GiB; 0 leaves that out [default: 10, quick: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    start_gib: Option<u32>,
}

/// The sizes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// What is measured.
    pub(super) subject: Subject,
    extent: Extent,
    /// The log that the broker is also started with, GiB.
    pub(super) start_gib: Option<u32>,
    /// Repetitions that count.
    pub(super) repetitions: u32,
    /// What one transfer lasts at the ceiling's speed. What is measured is slower and lasts longer.
    pub(super) transfer: Duration,
    /// The records of one latency run.
    pub(super) latency: Schedule,
    /// The earthquakes that a worker is given.
    pub(super) quakes: u64,
    /// How long a follower stands still.
    pub(super) stall: Duration,
    /// How often a leader is killed.
    pub(super) fail_overs: u32,
}

/// How long a latency run counts before a follower stands still, and after it does no more.
pub(super) const STALL_MARGIN: Duration = Duration::from_millis(100);

/// Records a second of a latency run.
const LATENCY_RATE: u32 = 1_000;

impl Settings {
    pub(super) fn of(subject: Subject, args: &RunArgs) -> Self {
        let extent = if args.quick {
            Extent::Quick
        } else {
            Extent::Full
        };
        let latency = |warm_up, counted| Schedule {
            per_second: LATENCY_RATE,
            warm_up,
            counted,
        };
        let usual = match extent {
            Extent::Full => Self {
                subject,
                extent,
                start_gib: Some(10),
                repetitions: 5,
                transfer: Duration::from_millis(600),
                latency: latency(500, 3_000),
                quakes: 3_000_000,
                stall: Duration::from_secs(10),
                fail_overs: 20,
            },
            Extent::Quick => Self {
                subject,
                extent,
                start_gib: None,
                repetitions: 2,
                transfer: Duration::from_millis(150),
                latency: latency(200, 1_000),
                quakes: 1_500_000,
                stall: Duration::from_secs(3),
                fail_overs: 3,
            },
        };
        Self {
            start_gib: args
                .start_gib
                .map_or(usual.start_gib, |gib| (gib > 0).then_some(gib)),
            repetitions: args.repetitions.unwrap_or(usual.repetitions),
            ..usual
        }
    }

    /// The rows of such a run.
    pub(super) fn rows(&self) -> Vec<RowSpec> {
        match self.subject {
            Subject::Broker => catalogue::rows(self.extent, self.start_gib),
            Subject::Worker => catalogue::worker_rows(self.extent),
            Subject::Cluster => catalogue::cluster_rows(),
        }
    }

    /// A latency run that lasts as long as a follower stands still, a little at both ends included.
    pub(super) fn latency_of_stall(&self) -> Schedule {
        let counted = self.stall + STALL_MARGIN * 2;
        Schedule {
            counted: (counted.as_secs_f64() * f64::from(LATENCY_RATE)) as u64,
            ..self.latency
        }
    }

    /// What a transfer of `bytes` in `seconds` would move in [`Settings::transfer`].
    pub(super) fn bytes_of_transfer(&self, bytes: u64, seconds: f64) -> u64 {
        (bytes as f64 / seconds.max(1e-9) * self.transfer.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn settings(words: &[&str]) -> Settings {
        let line = Line::try_parse_from(std::iter::once(&"bench").chain(words)).unwrap();
        Settings::of(Subject::Broker, &line.args)
    }

    #[test]
    fn a_quick_run_is_smaller_in_everything() {
        let (full, quick) = (settings(&[]), settings(&["--quick"]));
        assert!(quick.repetitions < full.repetitions && quick.transfer < full.transfer);
        assert!(quick.latency.total() < full.latency.total() && quick.quakes < full.quakes);
        assert!(quick.rows().len() < full.rows().len());
    }

    #[test]
    fn what_is_typed_goes_before_what_is_usual() {
        let settings = settings(&["--quick", "--repetitions", "7", "--start-gib", "1"]);
        assert_eq!((settings.repetitions, settings.start_gib), (7, Some(1)));
        assert!(
            settings
                .rows()
                .iter()
                .any(|row| row.name == "broker/start/1GiB")
        );
        assert_eq!(
            super::tests::settings(&["--start-gib", "0"]).start_gib,
            None
        );
        assert!(Line::try_parse_from(["bench", "--repetitions", "0"]).is_err());
    }

    #[test]
    fn a_transfer_is_sized_by_its_speed() {
        let settings = Settings {
            transfer: Duration::from_millis(1_500),
            ..settings(&[])
        };
        assert_eq!(settings.bytes_of_transfer(1_000_000, 0.5), 3_000_000);
        assert!(settings.bytes_of_transfer(1, 0.0) > 0);
    }
}
