//! Every class of error: the exit code it means, and what a person can try.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;

use millstream_broker::data_dir::DataDirError;
use millstream_broker::{StartError, StopError};
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::close::CloseReason;
use millstream_transport::profile::ProfileError;
use millstream_transport::{BindError, ConnectError};

use super::{Exit, Problem};
use crate::interrupt::Interrupted;

/// What follows from an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) exit: Exit,
    /// What to try next; a sentence without a full stop.
    pub(super) advice: Option<Cow<'static, str>>,
}

type Advice = Option<Cow<'static, str>>;

const NO_BROKER: &str = "is a broker running there? `millstream dev` starts one; `--address` or `--profile` name another";
const NO_PROFILE: &str =
    "`millstream dev` starts a broker and writes a profile; `--profile` names one that you have";
/// Of a plugin that fails as it starts.
pub(crate) const LOOK_AT_INIT: &str = "the message is the plugin's own: correct what its `init` does there; `millstream plugin run` calls it without a broker, and shows what it logs";
const AGAIN: &str = "try again in a moment";
const RIGHT_RELEASE: &str = "use the release of millstream that the broker runs";

/// What follows from `error`: what the command itself says, or else what its class means.
pub(super) fn explain(error: &anyhow::Error) -> Explanation {
    if let Some(problem) = find::<Problem>(error) {
        let advice = problem.advice.clone();
        return Explanation {
            exit: problem.exit,
            advice,
        };
    }
    let (exit, advice) = find::<Interrupted>(error)
        .map(|interrupted| (interrupted.exit(), None))
        .or_else(|| find::<millstream::Error>(error).map(of_client))
        .or_else(|| find::<StartError>(error).map(of_start))
        .or_else(|| find::<StopError>(error).map(of_stop))
        .or_else(|| find::<io::Error>(error).map(of_io))
        .unwrap_or((Exit::Failure, None));
    Explanation { exit, advice }
}

/// The error's code on the wire, where a broker refused.
pub(super) fn wire_code(error: &anyhow::Error) -> Option<ErrorCode> {
    find::<millstream::Error>(error)?.code()
}

/// The outermost `T` among the contexts and sources of an error.
pub(super) fn find<T: StdError + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    error
        .downcast_ref::<T>()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<T>()))
}

fn of_client(error: &millstream::Error) -> (Exit, Advice) {
    use millstream::Error;
    match error {
        Error::Broker(error) if does_not_begin(error) => (exit_of(error.code), Some(LOOK_AT_INIT.into())),
        Error::Broker(error) => (exit_of(error.code), of_words(error).or_else(|| of_code(error.code).1)),
        Error::Profile(error) => of_profile(error),
        Error::Identity(_) | Error::Connector(_) => (
            Exit::Unreachable,
            Some("the profile names a client's certificate, its key and the authority's certificate; `millstream dev` makes all three".into()),
        ),
        Error::Connect(error) => of_connect(error),
        Error::ConnectionLost(_) | Error::Timeout { .. } => (Exit::Unreachable, Some(NO_BROKER.into())),
        Error::InvalidArgument(_) => (Exit::Usage, Some("`--help` behind the command shows what it takes".into())),
        Error::RecordTooLarge { .. } => of_code(ErrorCode::RecordTooLarge),
        Error::Corrupt { .. } => (
            Exit::Damaged,
            Some("`millstream topic describe` shows the partition; `--from offset:N` reads on behind the damage".into()),
        ),
        Error::MembershipLost { .. } => (Exit::Failure, Some("run the command again: it goes on from the last commit".into())),
        _ => (Exit::Failure, None),
    }
}

/// Whether a component is refused because its `init` has trapped or taken too long, and not for what it
/// imports: the code is one for both, and the broker's words begin with [`StartError`]'s.
///
/// [`StartError`]: millstream_runtime::StartError
fn does_not_begin(error: &WireError) -> bool {
    error.code == ErrorCode::ComponentRefused && error.message.contains("init failed: ")
}

/// What is to be written where, if the broker's words name it.
fn of_words(error: &WireError) -> Advice {
    let words = &error.message;
    match error.code {
        ErrorCode::UnknownSecret => {
            let name = words.strip_prefix("no secret is named ")?;
            Some(format!("`millstream plugin secret set {name}` reads its value and keeps it; a plugin that is granted it finds it from then on").into())
        }
        ErrorCode::InvalidRequest if words.starts_with("there is no broker ") => {
            Some("`millstream cluster status` shows the brokers".into())
        }
        ErrorCode::SettingsRefused if words.contains("is granted no secret") => Some(
            "write `secrets = [\"NAME\"]` below `[grants]` of the deployment file, or say `--grant secret=NAME`, with the name that the plugin asks for; `millstream plugin secret set NAME` keeps its value".into(),
        ),
        ErrorCode::SettingsRefused if words.contains("is granted no host") => Some(
            "write `http = [\"https://HOST\"]` below `[grants]` of the deployment file, or say `--grant http=https://HOST`, with the host that the plugin asks".into(),
        ),
        ErrorCode::SettingsRefused if words.contains("names no table") => Some(
            "write `NAME = \"TOPIC\"` below `[tables]` of the deployment file, or say `--table NAME=TOPIC`, with the name that the plugin looks up in".into(),
        ),
        _ => None,
    }
}

fn of_profile(error: &ProfileError) -> (Exit, Advice) {
    let advice = match error {
        ProfileError::NotFound { .. } | ProfileError::Read { .. } => NO_PROFILE,
        ProfileError::Write { .. } => {
            "check that the folder can be written to, or set $MILLSTREAM_PROFILE to another place"
        }
        ProfileError::Invalid { .. } => {
            "correct the file, or let `millstream dev --force-profile` write it anew"
        }
    };
    (Exit::Unreachable, Some(advice.into()))
}

fn of_connect(error: &ConnectError) -> (Exit, Advice) {
    let not_trusted = matches!(
        error,
        ConnectError::Closed {
            reason: CloseReason::CertificateRefused(_) | CloseReason::PeerNotTrusted(_),
            ..
        }
    );
    match (error, error.hint()) {
        (_, Some(hint)) if not_trusted => (Exit::NotAuthorized, Some(hint.into())),
        (ConnectError::TimedOut { .. }, _) | (_, None) => {
            (Exit::Unreachable, Some(NO_BROKER.into()))
        }
        (_, Some(hint)) => (Exit::Unreachable, Some(hint.into())),
    }
}

fn of_start(error: &StartError) -> (Exit, Advice) {
    match error {
        StartError::DataDir(error) => of_data_dir(error),
        StartError::Bind(BindError::Socket { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => (
            Exit::Refused,
            Some("another broker listens there already: use it, stop it, or listen elsewhere: `--listen` of `millstream dev`, `listen` and `advertise` in the configuration of `millstream server`".into()),
        ),
        StartError::Bind(_) => (Exit::Failure, Some("listen on an address of this machine, with a server's identity".into())),
        StartError::Load { .. } => (
            Exit::Damaged,
            Some("keep the data directory as it is. In a cluster, let a new broker in (`millstream cluster join`) and take this one out (`millstream cluster drain`, then `remove`): the others have its records, while an old copy would have forgotten what was promised since. A broker that is alone can be restored from a copy".into()),
        ),
        StartError::Refused { .. } => (
            Exit::Refused,
            Some("`millstream cluster status` shows the brokers; `millstream cluster join` makes a new one, with a ticket that lets it in".into()),
        ),
        StartError::Thread(_) => (Exit::Failure, Some("raise the number of threads and files that this user may have".into())),
    }
}

fn of_data_dir(error: &DataDirError) -> (Exit, Advice) {
    match error {
        DataDirError::InUse { .. } => (
            Exit::Refused,
            Some("use the broker that runs there, stop it, or start this one on another: `--data-dir` of `millstream dev`, `data_dir` in the configuration of `millstream server`".into()),
        ),
        DataDirError::Version { .. } => {
            (Exit::Refused, Some("use the release that wrote it, or another data directory".into()))
        }
        DataDirError::OtherBroker { .. } => (
            Exit::Refused,
            Some("start the broker with the configuration that was made for its data directory; `millstream cluster join` makes that of a new one".into()),
        ),
        DataDirError::Foreign { .. } => (Exit::Refused, Some("name an empty directory, or one that does not exist yet".into())),
        DataDirError::Malformed { .. } => (Exit::Damaged, Some("restore the file from a copy of the data directory".into())),
        DataDirError::Starts { .. } => (
            Exit::Damaged,
            Some("start on another directory: other brokers have what was here. Without any, restore the whole of it from a copy".into()),
        ),
        DataDirError::Io { .. } => (Exit::Failure, Some("check that the directory can be written to".into())),
    }
}

fn of_stop(error: &StopError) -> (Exit, Advice) {
    match error {
        StopError::Storage(_) => (
            Exit::Damaged,
            Some(
                "check the disk, then start the broker again: it recovers what was acknowledged"
                    .into(),
            ),
        ),
        StopError::Panicked(_) => (
            Exit::Failure,
            Some(
                "this is a mistake in Millstream: start the broker again, and report what its log says of it".into(),
            ),
        ),
        StopError::Superseded(_) => (
            Exit::Refused,
            Some(
                "`millstream cluster status` shows which broker has this number, and where; a copy of a data \
                 directory, or a broker that was removed, cannot go on: `millstream cluster join` makes a new one"
                    .into(),
            ),
        ),
    }
}

fn of_io(error: &io::Error) -> (Exit, Advice) {
    match error.kind() {
        io::ErrorKind::NotFound => (Exit::NotFound, Some("check the path".into())),
        io::ErrorKind::PermissionDenied => (
            Exit::Failure,
            Some("check who may read and write it".into()),
        ),
        _ => (Exit::Failure, None),
    }
}

/// What a broker's refusal means.
fn of_code(code: ErrorCode) -> (Exit, Advice) {
    (exit_of(code), advice_on(code).map(Into::into))
}

fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::InvalidRequest => Exit::Usage,
        ErrorCode::UnsupportedVersion => Exit::Unreachable,
        ErrorCode::UnknownTopic
        | ErrorCode::UnknownPartition
        | ErrorCode::UnknownGroup
        | ErrorCode::UnknownDeployment
        | ErrorCode::UnknownSecret
        | ErrorCode::OffsetOutOfRange => Exit::NotFound,
        ErrorCode::TopicExists
        | ErrorCode::DeploymentExists
        | ErrorCode::GroupNotEmpty
        | ErrorCode::GroupOwnedByDeployment
        | ErrorCode::TopicInUse
        | ErrorCode::SecretInUse
        | ErrorCode::RecordTooLarge
        | ErrorCode::ComponentRefused
        | ErrorCode::SettingsRefused
        | ErrorCode::NotAtRest
        | ErrorCode::CompilationFailed
        | ErrorCode::StorageFull
        | ErrorCode::Busy
        | ErrorCode::NotReady
        | ErrorCode::NotLeader
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::ShuttingDown => Exit::Refused,
        ErrorCode::NotAuthorized => Exit::NotAuthorized,
        ErrorCode::StorageFailed | ErrorCode::PartitionDamaged | ErrorCode::CorruptBatch => {
            Exit::Damaged
        }
        _ => Exit::Failure,
    }
}

fn advice_on(code: ErrorCode) -> Option<&'static str> {
    let advice = match code {
        // The command was understood: what cannot be, and what could, is in the broker's message.
        ErrorCode::InvalidRequest => return None,
        ErrorCode::NotAuthorized => "connect with the profile of a principal that may do this",
        ErrorCode::UnsupportedVersion => RIGHT_RELEASE,
        ErrorCode::UnknownTopic => {
            "`millstream topic list` shows the topics; `millstream topic create` makes one"
        }
        ErrorCode::UnknownPartition => "`millstream topic describe` shows the topic's partitions",
        ErrorCode::UnknownGroup => {
            "`millstream group list` shows the groups; a group is made by its first consumer"
        }
        ErrorCode::UnknownDeployment => "`millstream plugin list` shows the deployments",
        ErrorCode::UnknownSecret => {
            "`millstream plugin secret list` shows the secrets; `millstream plugin secret set` keeps one"
        }
        ErrorCode::OffsetOutOfRange => {
            "`millstream topic describe` shows the first and the next offset of each partition"
        }
        ErrorCode::TopicExists => {
            "`millstream topic describe` shows it, `millstream topic alter` changes it"
        }
        ErrorCode::DeploymentExists => {
            "deploy under another `--name`, or in its place with `--replace`"
        }
        ErrorCode::GroupNotEmpty => {
            "stop the members that `millstream group describe` shows; `millstream group reset` works while they run"
        }
        ErrorCode::GroupOwnedByDeployment => {
            "name another group: `millstream plugin list` shows the plugins, each has a group of its name"
        }
        ErrorCode::TopicInUse => {
            "`millstream plugin remove` ends a deployment that is not wanted any more"
        }
        ErrorCode::SecretInUse => {
            "`millstream plugin secret set` gives it another value; deployments that are not to have it any more are put in place without the grant, or end by `millstream plugin remove`"
        }
        ErrorCode::NotEnoughReplicas => {
            "start the brokers that are away: `millstream topic describe` shows where the partition's replicas are"
        }
        ErrorCode::RecordTooLarge => {
            "send smaller records, or raise `--max-batch-bytes` with `millstream topic alter`"
        }
        ErrorCode::ComponentRefused => {
            "`millstream plugin build` builds a component for the world that `wit/` describes"
        }
        ErrorCode::SettingsRefused => {
            "give it what it asks for by `--config`, `--output-topic`, `--table` or `--grant`, or in the deployment file; `millstream plugin run` tries that without a broker"
        }
        ErrorCode::NotAtRest => {
            "`millstream plugin describe` shows what its workers are at; try again when nothing waits there"
        }
        ErrorCode::CompilationFailed => "build the component again, smaller if it is large",
        ErrorCode::StorageFull => {
            "free space on the broker's disk, for example with `millstream topic delete-records`"
        }
        ErrorCode::NotReady | ErrorCode::NotLeader => {
            "try again in a moment; where it stays so, `millstream cluster status` shows what is missing"
        }
        ErrorCode::Busy | ErrorCode::ShuttingDown | ErrorCode::TimedOut => AGAIN,
        ErrorCode::StorageFailed => "look at the broker's log and its disk, then start it again",
        ErrorCode::PartitionDamaged => {
            "`millstream topic describe` says what is damaged; what lies before it can still be read"
        }
        ErrorCode::CorruptBatch => "send it again; when it repeats, test this machine's memory",
        ErrorCode::OutOfOrderSequence
        | ErrorCode::ProducerFenced
        | ErrorCode::UnknownProducer
        | ErrorCode::UnknownMember
        | ErrorCode::StaleGeneration => "run the command again",
        ErrorCode::MalformedFrame
        | ErrorCode::FrameTooLarge
        | ErrorCode::HandshakeRequired
        | ErrorCode::Internal => "this is a fault of the program's own: the broker's log says more",
        // A code that this release does not know.
        _ => RIGHT_RELEASE,
    };
    Some(advice)
}
