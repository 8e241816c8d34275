//! The command line of `millstream consume`, and what it comes to.

use clap::{Args, ValueEnum};
use millstream::{PartitionIndex, ReadFrom};

use super::format::RecordFormat;
use crate::output::OutputFormat;
use crate::parse::{PositionArg, parse_rack};

#[derive(Args, Debug)]
pub(crate) struct ConsumeArgs {
    /// The topic
    pub(super) topic: String,

    /// Where to start: earliest, latest, offset:N, time:T (RFC 3339 or milliseconds), or a duration
    /// back from now. A group starts there where it has committed nothing
    #[arg(long, default_value = "earliest", value_name = "POSITION")]
    pub(super) from: PositionArg,

    /// Only this partition; may be given again
    #[arg(long = "partition", value_name = "P")]
    pub(super) partitions: Vec<PartitionIndex>,

    /// Goes on with what comes, in place of ending with the last record that is there now
    #[arg(short, long)]
    pub(super) follow: bool,

    /// Consumes as a member of this group: its members share the partitions, and its offsets are
    /// committed, every 5 seconds (with -n, behind each batch) and at the end. What was not comes again
    /// after a lost connection
    #[arg(short, long, conflicts_with = "partitions")]
    pub(super) group: Option<String>,

    /// Which replica of a partition is read: the one that leads it, or one in sync that is close, in the
    /// rack given or else on the broker that this is connected to
    #[arg(long, value_enum, default_value_t, value_name = "REPLICA")]
    pub(super) read_from: Replica,

    /// The rack that this runs in, as brokers name theirs
    #[arg(long, value_name = "NAME", value_parser = parse_rack)]
    pub(super) rack: Option<String>,

    /// Ends after this many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) max: Option<u64>,

    /// How records are written [default: value, or json with `--output json`]
    #[arg(long, value_enum)]
    format: Option<RecordFormat>,

    /// What stands between key and value [default: a tab]
    #[arg(
        long,
        default_value = "\t",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    pub(super) separator: String,
}

/// Which replica of a partition is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Replica {
    #[default]
    Leader,
    Closest,
}

impl From<Replica> for ReadFrom {
    fn from(replica: Replica) -> Self {
        match replica {
            Replica::Leader => Self::Leader,
            Replica::Closest => Self::Closest,
        }
    }
}

impl ConsumeArgs {
    pub(super) fn format(&self, output: OutputFormat) -> RecordFormat {
        self.format.unwrap_or(match output {
            OutputFormat::Table => RecordFormat::Value,
            OutputFormat::Json => RecordFormat::Json,
        })
    }
}
