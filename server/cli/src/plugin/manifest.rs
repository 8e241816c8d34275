//! `deployment.toml`: a deployment, declared in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millstream::{DeploymentDescription, DeploymentSpec, Position};
use millstream_metadata::difference::{self, Difference, of_component};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::deploy::{DEFAULT_PARTITIONS, DEFAULT_START, NAME_TO_COME, SpecArgs};
use super::grants::{GrantsSection, section};
use super::history::in_one_line;
use super::limits::LimitArgs;
use super::policy::{DeliveryArg, FailureArgs};
use crate::errors::{Exit, Problem};
use crate::parse::{Pair, PositionArg, position_text};

/// The largest file that is read, bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What the file looks like, for `--help`.
pub(super) const HELP: &str = r#"The file of --file, here with every field; those from `from` on may be left out:
  name = "quake-alert"
  component = "."               # a plugin's folder or a component, seen from the file
  inputs = ["earthquakes"]
  from = "earliest"             # as --from
  delivery = "exactly-once"     # as --delivery
  create-topics = true          # as --create-topics
  partitions = 4                # as --partitions
  [outputs]                     # the plugin's name for an output, and its topic
  alerts = "quake-alerts"
  [tables]                      # the plugin's name for a table, and the compacted topic it is made of
  networks = "seismic-networks"
  [config]                      # numbers and booleans are handed on as text
  min-mag = "4.5"
  [limits]
  memory = "64MiB"
  deadline = "1s"
  outputs-per-record = 1000
  log-lines-per-second = 100
  state = "4GiB"
  [grants]                      # as --grant
  clocks = false
  randomness = false
  secrets = []                  # names: `millstream plugin secret`
  http = []                     # hosts: "https://api.example.com", "http://enricher:8080"
  [on-failure]
  action = "dead-letter"        # as --on-failure
  dead-letter-topic = "quake-alert.dead-letters"
  attempts = 5
  first-back-off = "100ms"
  longest-back-off = "10s"
  on-retry = "park-key"         # as --on-retry"#;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Manifest {
    name: String,
    /// Seen from the file.
    component: PathBuf,
    inputs: Vec<String>,
    #[serde(default, deserialize_with = "position_text")]
    from: Option<PositionArg>,
    #[serde(default)]
    delivery: DeliveryArg,
    #[serde(default)]
    create_topics: bool,
    partitions: Option<NonZeroU32>,
    /// The guest's name for each, and its topic.
    #[serde(default)]
    outputs: BTreeMap<String, String>,
    /// The same of its tables.
    #[serde(default)]
    tables: BTreeMap<String, String>,
    #[serde(default)]
    config: BTreeMap<String, Text>,
    #[serde(default)]
    limits: LimitArgs,
    #[serde(default, deserialize_with = "section")]
    grants: GrantsSection,
    #[serde(default)]
    on_failure: FailureArgs,
}

/// A string, or the text of a number or a boolean.
#[derive(Debug)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;

        impl Visitor<'_> for AsText {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Text, E> {
                // A whole one keeps its `.0`.
                Ok(Text(format!("{number:?}")))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(value.to_string()))
            }
        }

        deserializer.deserialize_any(AsText)
    }
}

/// Reads the file into what the options would say.
pub(super) fn read(path: &Path) -> anyhow::Result<SpecArgs> {
    let text = read_text(path)?;
    let manifest: Manifest = toml::from_str(&text)
        .map_err(|error| anyhow::Error::from(error).context(unusable(path)))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let declared = manifest.check(folder);
    declared.map_err(|error| anyhow::Error::from(error).context(unusable(path)))
}

fn unusable(path: &Path) -> Problem {
    let message = format!("the deployment file {} cannot be used", path.display());
    Problem::usage(message)
        .advise("`millstream plugin deploy --help` shows such a file with every field")
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let cannot_read = || format!("cannot read the deployment file {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot_read)?;
    file.take(MAX_MANIFEST_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(cannot_read)?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        let message = format!("{} is larger than a deployment file", path.display());
        return Err(Problem::usage(message)
            .advise("name the file that declares the deployment")
            .into());
    }
    Ok(text)
}

impl Manifest {
    fn check(self, folder: &Path) -> Result<SpecArgs, Problem> {
        let pair = |(name, value)| Pair { name, value };
        if self.inputs.is_empty() {
            return Err(Problem::usage("inputs names no topic"));
        }
        if self.partitions.is_some() && !self.create_topics {
            return Err(Problem::usage(
                "partitions is for topics that are made, and create-topics is not true",
            ));
        }
        let declared = SpecArgs {
            path: Some(seen_from(folder, &self.component)),
            name: Some(self.name),
            inputs: self.inputs,
            outputs: self.outputs.into_iter().map(pair).collect(),
            tables: self.tables.into_iter().map(pair).collect(),
            config: self
                .config
                .into_iter()
                .map(|(name, Text(value))| pair((name, value)))
                .collect(),
            from: self.from.unwrap_or(DEFAULT_START),
            limits: self.limits,
            delivery: self.delivery,
            failure: self.on_failure,
            grants: self.grants.into(),
            create_topics: self.create_topics,
            partitions: self.partitions.map_or(DEFAULT_PARTITIONS, NonZeroU32::get),
        };
        // What makes no sense is told before anything is built.
        declared.spec(NAME_TO_COME)?;
        Ok(declared)
    }
}

/// `path` in `folder`, without a `.` that says nothing.
fn seen_from(folder: &Path, path: &Path) -> PathBuf {
    let joined: PathBuf = folder.join(path).components().collect();
    if joined.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        joined
    }
}

/// In what a deployment is not as it is declared.
pub(super) fn differences(
    declared: &SpecArgs,
    wanted: &DeploymentSpec,
    digest: &str,
    deployed: &DeploymentDescription,
) -> Vec<Difference> {
    let mut wanted = wanted.clone();
    // A time back from now was another when it was deployed.
    if let (PositionArg::Ago(_), Position::Time(_)) = (declared.from, deployed.spec.start) {
        wanted.start = deployed.spec.start;
    }
    let component = of_component(&deployed.digest, digest);
    let settings = difference::differences(&deployed.spec, &wanted);
    component.into_iter().chain(settings).collect()
}

/// That a deployment is not as it is declared, and nothing was done.
pub(super) fn differs(file: &Path, deployment: &str, differences: Vec<Difference>) -> Problem {
    let file = file.display();
    let differences: Vec<_> = differences.into_iter().map(|it| it.text).collect();
    Problem::new(
        Exit::Refused,
        format!(
            "deployment {deployment} is not as {file} says: it differs in {}",
            in_one_line(&differences)
        ),
    )
    .advise(format!(
        "`millstream plugin deploy -f {file} --replace` puts what the file says in its place; its offsets and state stay"
    ))
}

#[cfg(test)]
mod tests;
