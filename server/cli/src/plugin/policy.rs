//! What `plugin deploy` takes about delivery and failures.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millstream::{DeliveryGuarantee, FailureAction, FailurePolicy, HoldBack};
use serde::Deserialize;

use crate::errors::Problem;
use crate::parse::{duration_text, parse_duration};

/// How often a record's outputs may come.
#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DeliveryArg {
    /// Once, whatever crashes
    #[default]
    ExactlyOnce,
    /// Once, and after a crash perhaps again
    AtLeastOnce,
    /// Once, of a plugin that computes the same again: faster, as outputs are not copied
    Deterministic,
}

impl From<DeliveryArg> for DeliveryGuarantee {
    fn from(arg: DeliveryArg) -> Self {
        match arg {
            DeliveryArg::ExactlyOnce => Self::ExactlyOnce,
            DeliveryArg::AtLeastOnce => Self::AtLeastOnce,
            DeliveryArg::Deterministic => Self::Deterministic,
        }
    }
}

/// What becomes of a record that cannot be handled: the options, and `[on-failure]` of a file.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct FailureArgs {
    /// What is done with a record that was tried in vain, or that the plugin rejects
    #[arg(long, value_enum, default_value_t)]
    #[serde(rename = "action")]
    on_failure: OnFailure,

    /// The topic for such records; made if it is not there [default: <NAME>.dead-letters]
    #[arg(long, value_name = "TOPIC")]
    dead_letter_topic: Option<String>,

    /// How often a record is tried [default: 5]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,

    /// The wait after the first failed attempt; it doubles with every further one [default: 100ms]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    #[serde(deserialize_with = "duration_text")]
    first_back_off: Option<Duration>,

    /// The longest wait between two attempts [default: 10s]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    #[serde(deserialize_with = "duration_text")]
    longest_back_off: Option<Duration>,

    /// Which records wait while one is tried again
    #[arg(long, value_enum, default_value_t)]
    on_retry: OnRetry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum OnFailure {
    /// It goes to the dead-letter topic
    #[default]
    DeadLetter,
    /// It is left out
    Skip,
    /// The worker stands still in front of it
    Pause,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum OnRetry {
    /// Later ones of the same key
    #[default]
    ParkKey,
    /// None
    Park,
    /// All later ones of the partition
    Block,
}

impl FailureArgs {
    /// The policy of a deployment of this name.
    pub(super) fn policy(&self, deployment: &str) -> Result<FailurePolicy, Problem> {
        let usual = FailurePolicy::default_for(deployment);
        let finally = match (self.on_failure, &self.dead_letter_topic) {
            (OnFailure::DeadLetter, None) => usual.finally,
            (OnFailure::DeadLetter, Some(topic)) => FailureAction::DeadLetter {
                topic: topic.clone(),
            },
            (OnFailure::Skip, None) => FailureAction::Skip,
            (OnFailure::Pause, None) => FailureAction::Pause,
            (_, Some(_)) => {
                return Err(Problem::usage(
                    "dead-letter-topic is given, and failed records do not go to one",
                )
                .advise("leave it out, or have them go there: `dead-letter`"));
            }
        };
        let first_back_off_ms = millis("first-back-off", self.first_back_off)?;
        let longest_back_off_ms = millis("longest-back-off", self.longest_back_off)?;
        let longest_back_off_ms = longest_back_off_ms.unwrap_or(usual.longest_back_off_ms);
        Ok(FailurePolicy {
            attempts: self.attempts.unwrap_or(usual.attempts),
            first_back_off_ms: first_back_off_ms
                .unwrap_or(usual.first_back_off_ms.min(longest_back_off_ms)),
            longest_back_off_ms,
            holds_back: match self.on_retry {
                OnRetry::ParkKey => HoldBack::Key,
                OnRetry::Park => HoldBack::Nothing,
                OnRetry::Block => HoldBack::Partition,
            },
            finally,
        })
    }
}

/// A duration in milliseconds; `setting` is what the option and the field are called.
pub(super) fn millis(setting: &str, duration: Option<Duration>) -> Result<Option<u32>, Problem> {
    let millis = duration.map(|duration| u32::try_from(duration.as_millis()));
    millis
        .transpose()
        .map_err(|_| Problem::usage(format!("{setting} is longer than 49 days")))
}
