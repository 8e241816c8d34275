//! The command line of `millstream consume`, and what it comes to.

use clap::Args;
use millstream::PartitionIndex;

use super::format::RecordFormat;
use crate::output::OutputFormat;
use crate::parse::PositionArg;

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

impl ConsumeArgs {
    pub(super) fn format(&self, output: OutputFormat) -> RecordFormat {
        self.format.unwrap_or(match output {
            OutputFormat::Table => RecordFormat::Value,
            OutputFormat::Json => RecordFormat::Json,
        })
    }
}
