//! Replay: a deployment, or another version of it, run over history beside the live one.
//!
//! A *shadow* is a deployment of its own: it has a group, journals and state of its own, and writes
//! to topics of its own, one beside each topic of the live one. So it never touches the live
//! deployment's offsets or outputs, and what it wrote can be compared with what the live one wrote,
//! until it is promoted to its place or removed.

use serde::{Deserialize, Serialize};

use crate::api::offsets::Position;
use crate::api::plugin::{DeploymentSpec, FailureAction};
use crate::ids::{Offset, TimestampMs};

/// Starts a shadow of a deployment. The frame's payload is its component; without one it is the
/// live one's. The answer is the shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayDeployment {
    /// The live deployment.
    pub name: String,
    /// The shadow's name.
    pub shadow: String,
    /// What the deployment is to be when the shadow is promoted; the live one's settings unless
    /// given.
    pub spec: Option<DeploymentSpec>,
    /// Where it starts in each partition of the inputs.
    pub from: Position,
    /// Where it ends; where the live one is now unless given, and nowhere behind it.
    pub until: Option<Position>,
}

/// Asks what a shadow replays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeReplay {
    /// The shadow.
    pub shadow: String,
}

/// What a shadow replays, and what of the live outputs came of the same records. The live deployment
/// was held between two turns while this was noted, so that both belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The live deployment.
    pub of: String,
    /// What is read.
    pub inputs: Vec<ReplayedTopic>,
    /// What is written, beside what the live one had written.
    pub outputs: Vec<ComparedOutput>,
    /// Live outputs with earlier timestamps came of records before the replay. None: there are
    /// none.
    pub since_ms: Option<TimestampMs>,
    /// Live outputs with this timestamp or a later one came of records behind the replay. None: the
    /// ends say all of it.
    pub before_ms: Option<TimestampMs>,
}

/// An input topic of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedTopic {
    /// The topic.
    pub topic: String,
    /// What is read of each partition.
    pub partitions: Vec<ReplayedRange>,
}

/// A range of records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedRange {
    /// The first offset.
    pub from: Offset,
    /// The offset behind the last one.
    pub until: Offset,
}

/// An output topic of a live deployment, and the shadow's beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedOutput {
    /// What the guest calls it.
    pub output: String,
    /// The live topic.
    pub live: String,
    /// The shadow's.
    pub shadow: String,
    /// For each partition of the live topic: what lies below was written when the replay began.
    pub live_ends: Vec<Offset>,
}

/// Puts a shadow in the place of its live deployment, when both have come to the same offsets: its
/// component and settings, its journals and state. The shadow is gone afterwards. The answer is the
/// deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromoteDeployment {
    /// The live deployment.
    pub name: String,
    /// The shadow.
    pub shadow: String,
    /// Whether the shadow may have begun in the midst of history though its plugin remembers things.
    pub partial_state: bool,
}

/// The name of a deployment's shadow, unless another is given.
pub fn default_shadow(deployment: &str) -> String {
    format!("{deployment}.shadow")
}

/// The topic in which a shadow writes what the live deployment writes in `topic`.
pub fn shadow_topic(topic: &str, shadow: &str) -> String {
    format!("{topic}.{shadow}")
}

/// What a shadow does whose deployment, once it is promoted, is to do as `target` says: the same,
/// under its own name and into its own topics.
pub fn shadow_spec(target: &DeploymentSpec, shadow: &str) -> DeploymentSpec {
    renamed(target, shadow, |topic| shadow_topic(topic, shadow))
}

/// What a deployment does when the shadow that does `spec` has become the deployment `name`: the
/// inverse of [`shadow_spec`].
pub fn promoted_spec(spec: &DeploymentSpec, name: &str) -> DeploymentSpec {
    let suffix = format!(".{}", spec.name);
    renamed(spec, name, |topic| {
        topic.strip_suffix(&suffix).unwrap_or(topic).to_owned()
    })
}

fn renamed(spec: &DeploymentSpec, name: &str, topic: impl Fn(&str) -> String) -> DeploymentSpec {
    let mut renamed = spec.clone();
    name.clone_into(&mut renamed.name);
    for output in &mut renamed.outputs {
        output.topic = topic(&output.topic);
    }
    if let FailureAction::DeadLetter { topic: letters } = &mut renamed.on_failure.finally {
        *letters = topic(letters);
    }
    renamed
}
