//! The command line of `millstream produce`, and what it comes to.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millstream::{Compression, PartitionIndex, Partitioner, ProducerBuilder};

use super::lines::Source;
use super::record::{EmptyValue, KeyRule, LineFormat, header};
use crate::parse::{Pair, pair};

#[derive(Args, Debug)]
pub(crate) struct ProduceArgs {
    /// The topic
    pub(super) topic: String,

    /// Files with a record on each line; `-` is standard input [default: standard input]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The key is this field of the line, which is JSON; dots lead inwards: `properties.net`
    #[arg(long, value_name = "FIELD", group = "key_rule", help_heading = "Keys", value_parser = parse_field)]
    key_field: Option<Field>,

    /// The key stands before this text, the value behind it; `\t` is a tab
    #[arg(long, value_name = "TEXT", group = "key_rule", help_heading = "Keys", value_parser = parse_separator)]
    key_separator: Option<String>,

    /// All records have this key
    #[arg(long, value_name = "KEY", group = "key_rule", help_heading = "Keys")]
    key: Option<String>,

    /// An empty value is no value: it deletes the key in a compacted topic
    #[arg(long, requires = "key_rule", help_heading = "Keys")]
    tombstone_empty: bool,

    /// The record's time, by which retention goes as well, is this field of the value, which is JSON:
    /// milliseconds since 1970 [default: when it is produced]
    #[arg(long, value_name = "FIELD", conflicts_with = "tombstone_empty", value_parser = parse_field)]
    timestamp_field: Option<Field>,

    /// All records go to this partition
    #[arg(long, value_name = "P", conflicts_with_all = ["partitioner", "ranges"], help_heading = "Partitions")]
    partition: Option<PartitionIndex>,

    /// How a record's partition is picked
    #[arg(long, value_enum, default_value_t = PartitionerArg::KeyHash, help_heading = "Partitions")]
    partitioner: PartitionerArg,

    /// The keys that partitions begin with, in order: with `h,p`, keys before `h` go to partition 0,
    /// keys before `p` to 1, others to 2
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        conflicts_with = "partitioner",
        help_heading = "Partitions"
    )]
    ranges: Vec<String>,

    /// A header for all records; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair("NAME=VALUE"))]
    headers: Vec<Pair>,

    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,

    /// Passes over lines that are no records, and counts them, in place of stopping at the first
    #[arg(long)]
    pub(super) skip_bad_lines: bool,
}

/// How a record's partition is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PartitionerArg {
    /// By the key, as Kafka's clients do; records without a key in turn, a batch at a time
    KeyHash,
    /// In turn, a batch at a time, whatever the key
    RoundRobin,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    None,
    Lz4,
    Zstd,
}

/// The names that lead to a field, from the outside in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field(pub(super) Vec<String>);

/// Reads the names of a field, with dots between them.
pub(crate) fn parse_field(text: &str) -> Result<Field, String> {
    let path: Vec<_> = text.split('.').map(ToOwned::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err("expected a field's name, or names with dots between them".to_owned());
    }
    Ok(Field(path))
}

fn parse_separator(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("expected at least one character".to_owned());
    }
    Ok(text.replace("\\t", "\t"))
}

impl ProduceArgs {
    pub(super) fn sources(&self) -> Vec<Source> {
        if self.files.is_empty() {
            return vec![Source::Stdin];
        }
        self.files.iter().map(|path| Source::of(path)).collect()
    }

    pub(super) fn line_format(&self) -> LineFormat {
        let key = match (&self.key_field, &self.key_separator, &self.key) {
            (Some(Field(path)), ..) => KeyRule::Field(path.clone()),
            (_, Some(separator), _) => KeyRule::Separator(separator.clone().into_bytes()),
            (.., Some(key)) => KeyRule::Fixed(key.clone().into_bytes()),
            (None, None, None) => KeyRule::None,
        };
        LineFormat {
            key,
            timestamp: self.timestamp_field.clone().map(|Field(path)| path),
            empty_value: if self.tombstone_empty {
                EmptyValue::Tombstone
            } else {
                EmptyValue::Kept
            },
            headers: self
                .headers
                .iter()
                .cloned()
                .map(|Pair { name, value }| header(name, value))
                .collect(),
            partition: self.partition,
        }
    }

    pub(super) fn configure(
        &self,
        producer: ProducerBuilder,
    ) -> millstream::Result<ProducerBuilder> {
        let partitioner = match (self.ranges.as_slice(), self.partitioner) {
            ([], PartitionerArg::KeyHash) => Partitioner::key_hash(),
            ([], PartitionerArg::RoundRobin) => Partitioner::round_robin(),
            (split_points, _) => Partitioner::key_ranges(split_points.to_vec())?,
        };
        let compression = match self.compression {
            CompressionArg::None => Compression::None,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Zstd => Compression::Zstd,
        };
        Ok(producer.partitioner(partitioner).compression(compression))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        produce: ProduceArgs,
    }

    fn parse(args: &[&str]) -> Result<ProduceArgs, clap::Error> {
        Line::try_parse_from([&["test", "orders"], args].concat()).map(|line| line.produce)
    }

    #[test]
    fn lines_come_from_files_or_standard_input() {
        assert_eq!(parse(&[]).unwrap().sources(), [Source::Stdin]);
        assert_eq!(
            parse(&["a", "-"]).unwrap().sources(),
            [Source::File("a".into()), Source::Stdin]
        );
    }

    #[test]
    fn one_rule_gives_the_key() {
        let rule = |args: &[&str]| parse(args).unwrap().line_format().key;
        assert_eq!(rule(&[]), KeyRule::None);
        assert_eq!(
            rule(&["--key-field=a.b"]),
            KeyRule::Field(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(
            rule(&["--key-separator=\\t"]),
            KeyRule::Separator(b"\t".to_vec())
        );
        assert_eq!(rule(&["--key=k"]), KeyRule::Fixed(b"k".to_vec()));
    }

    #[test]
    fn everything_else_reaches_the_record() {
        let format = parse(&[
            "--key=k",
            "--tombstone-empty",
            "--header=a=b",
            "--partition=3",
        ])
        .unwrap()
        .line_format();
        assert_eq!(format.timestamp, None);
        let timed = parse(&["--timestamp-field=a.b"]).unwrap().line_format();
        assert_eq!(timed.timestamp, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(format.headers, [header("a".to_owned(), "b".to_owned())]);
        assert_eq!(
            (format.empty_value, format.partition),
            (EmptyValue::Tombstone, Some(3))
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for args in [
            &["--key=k", "--key-field=f"][..],
            &["--partition=1", "--ranges=a"],
            &["--ranges=a", "--partitioner=round-robin"],
            &["--tombstone-empty"],
            &["--key-field=a..b"],
            &["--timestamp-field=a."],
            &["--key=k", "--tombstone-empty", "--timestamp-field=a"],
            &["--key-separator="],
            &["--header=a"],
            &["--compression=gzip"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
