use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use millstream::StreamError;
use millstream_broker::data_dir::DataDirError;
use millstream_broker::{StartError, StopError};
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::close::{CertificateFault, CertificateFaultKind, CloseReason};
use millstream_transport::profile::ProfileError;
use millstream_transport::{BindError, ConnectError};

use super::*;
use crate::errors::LOOK_AT_INIT;
use crate::interrupt::Interrupted;

/// What a person sees, and the exit code.
fn shown(error: impl Into<anyhow::Error>) -> String {
    let error = error.into();
    format!(
        "{}\nexit {}",
        text(&error, false),
        explain(&error).exit as u8
    )
}

fn broker(code: ErrorCode, message: &str) -> anyhow::Error {
    millstream::Error::from(WireError::new(code, message)).into()
}

fn connect(reason: CloseReason) -> anyhow::Error {
    let error = ConnectError::Closed {
        address: "localhost:9092".parse().unwrap(),
        reason,
    };
    millstream::Error::from(error).into()
}

/// All codes that a broker can answer with today.
const CODES: [ErrorCode; 38] = [
    ErrorCode::MalformedFrame,
    ErrorCode::FrameTooLarge,
    ErrorCode::UnsupportedVersion,
    ErrorCode::HandshakeRequired,
    ErrorCode::NotAuthorized,
    ErrorCode::InvalidRequest,
    ErrorCode::UnknownTopic,
    ErrorCode::UnknownPartition,
    ErrorCode::TopicExists,
    ErrorCode::OffsetOutOfRange,
    ErrorCode::RecordTooLarge,
    ErrorCode::CorruptBatch,
    ErrorCode::OutOfOrderSequence,
    ErrorCode::ProducerFenced,
    ErrorCode::UnknownProducer,
    ErrorCode::NotLeader,
    ErrorCode::NotReady,
    ErrorCode::Busy,
    ErrorCode::StorageFull,
    ErrorCode::StorageFailed,
    ErrorCode::PartitionDamaged,
    ErrorCode::UnknownGroup,
    ErrorCode::GroupNotEmpty,
    ErrorCode::UnknownMember,
    ErrorCode::StaleGeneration,
    ErrorCode::UnknownDeployment,
    ErrorCode::ComponentRefused,
    ErrorCode::CompilationFailed,
    ErrorCode::ShuttingDown,
    ErrorCode::TimedOut,
    ErrorCode::Internal,
    ErrorCode::DeploymentExists,
    ErrorCode::GroupOwnedByDeployment,
    ErrorCode::UnknownSecret,
    ErrorCode::SettingsRefused,
    ErrorCode::NotAtRest,
    ErrorCode::SecretInUse,
    ErrorCode::NotEnoughReplicas,
];

#[test]
fn every_refusal_has_an_exit_code_and_advice() {
    let lines = CODES.map(|code| {
        let explanation = explain(&broker(code, "refused"));
        format!(
            "{code:?}: exit {}, {}",
            explanation.exit as u8,
            explanation
                .advice
                .unwrap_or("the message says it all".into())
        )
    });
    insta::assert_snapshot!(lines.join("\n"), @r"
    MalformedFrame: exit 1, this is a fault of the program's own: the broker's log says more
    FrameTooLarge: exit 1, this is a fault of the program's own: the broker's log says more
    UnsupportedVersion: exit 3, use the release of millstream that the broker runs
    HandshakeRequired: exit 1, this is a fault of the program's own: the broker's log says more
    NotAuthorized: exit 6, connect with the profile of a principal that may do this
    InvalidRequest: exit 2, the message says it all
    UnknownTopic: exit 4, `millstream topic list` shows the topics; `millstream topic create` makes one
    UnknownPartition: exit 4, `millstream topic describe` shows the topic's partitions
    TopicExists: exit 5, `millstream topic describe` shows it, `millstream topic alter` changes it
    OffsetOutOfRange: exit 4, `millstream topic describe` shows the first and the next offset of each partition
    RecordTooLarge: exit 5, send smaller records, or raise `--max-batch-bytes` with `millstream topic alter`
    CorruptBatch: exit 7, send it again; when it repeats, test this machine's memory
    OutOfOrderSequence: exit 1, run the command again
    ProducerFenced: exit 1, run the command again
    UnknownProducer: exit 1, run the command again
    NotLeader: exit 5, try again in a moment; where it stays so, `millstream cluster status` shows what is missing
    NotReady: exit 5, try again in a moment; where it stays so, `millstream cluster status` shows what is missing
    Busy: exit 5, try again in a moment
    StorageFull: exit 5, free space on the broker's disk, for example with `millstream topic delete-records`
    StorageFailed: exit 7, look at the broker's log and its disk, then start it again
    PartitionDamaged: exit 7, `millstream topic describe` says what is damaged; what lies before it can still be read
    UnknownGroup: exit 4, `millstream group list` shows the groups; a group is made by its first consumer
    GroupNotEmpty: exit 5, stop the members that `millstream group describe` shows; `millstream group reset` works while they run
    UnknownMember: exit 1, run the command again
    StaleGeneration: exit 1, run the command again
    UnknownDeployment: exit 4, `millstream plugin list` shows the deployments
    ComponentRefused: exit 5, `millstream plugin build` builds a component for the world that `wit/` describes
    CompilationFailed: exit 5, build the component again, smaller if it is large
    ShuttingDown: exit 5, try again in a moment
    TimedOut: exit 1, try again in a moment
    Internal: exit 1, this is a fault of the program's own: the broker's log says more
    DeploymentExists: exit 5, deploy under another `--name`, or in its place with `--replace`
    GroupOwnedByDeployment: exit 5, name another group: `millstream plugin list` shows the plugins, each has a group of its name
    UnknownSecret: exit 4, `millstream plugin secret list` shows the secrets; `millstream plugin secret set` keeps one
    SettingsRefused: exit 5, give it what it asks for by `--config`, `--output-topic`, `--table` or `--grant`, or in the deployment file; `millstream plugin run` tries that without a broker
    NotAtRest: exit 5, `millstream plugin describe` shows what its workers are at; try again when nothing waits there
    SecretInUse: exit 5, `millstream plugin secret set` gives it another value; deployments that are not to have it any more are put in place without the grant, or end by `millstream plugin remove`
    NotEnoughReplicas: exit 5, start the brokers that are away: `millstream topic describe` shows where the partition's replicas are
    ");
}

#[test]
fn a_plugin_that_traps_as_it_starts_is_not_told_to_be_built_for_its_world() {
    let message =
        "the component does not start: init failed: trapped: panicked at src/lib.rs:5:9: no";
    let explanation = explain(&broker(ErrorCode::ComponentRefused, message));
    assert_eq!(explanation.exit, Exit::Refused);
    assert_eq!(explanation.advice.as_deref(), Some(LOOK_AT_INIT));
}

#[test]
fn a_refusal_is_shown_with_what_to_try() {
    insta::assert_snapshot!(shown(broker(ErrorCode::UnknownTopic, "there is no topic orders")), @r"
    error: there is no topic orders
      try: `millstream topic list` shows the topics; `millstream topic create` makes one
    exit 4
    ");
    let wrapped =
        broker(ErrorCode::TopicExists, "topic orders exists").context("cannot make topic orders");
    insta::assert_snapshot!(shown(wrapped), @r"
    error: cannot make topic orders
      cause: topic orders exists
      try: `millstream topic describe` shows it, `millstream topic alter` changes it
    exit 5
    ");
}

#[test]
fn no_connection() {
    let timed_out = ConnectError::TimedOut {
        address: "localhost:9092".parse().unwrap(),
        timeout: Duration::from_secs(5),
    };
    insta::assert_snapshot!(shown(millstream::Error::from(timed_out)), @r"
    error: no answer from localhost:9092 within 5s
      try: is a broker running there? `millstream dev` starts one; `--address` or `--profile` name another
    exit 3
    ");
    insta::assert_snapshot!(shown(connect(CloseReason::Refused)), @r"
    error: cannot connect to localhost:9092: the peer takes no further connections at the moment
      try: try again in a moment
    exit 3
    ");
    let lost = millstream::Error::ConnectionLost(StreamError::Ended);
    insta::assert_snapshot!(shown(lost), @r"
    error: the connection to the broker was lost
      cause: the broker ended the stream
      try: is a broker running there? `millstream dev` starts one; `--address` or `--profile` name another
    exit 3
    ");
}

#[test]
fn certificates_that_are_refused() {
    let fault = |kind| CertificateFault {
        kind,
        detail: String::new(),
    };
    let refused = CloseReason::CertificateRefused(fault(CertificateFaultKind::UnknownAuthority));
    insta::assert_snapshot!(shown(connect(refused)), @r"
    error: cannot connect to localhost:9092: the peer refuses this side's certificate: it is not signed by this cluster's authority
      try: the profile belongs to another cluster, or the cluster's authority was made anew: take the profile that this broker's authority issued
    exit 6
    ");
    let expired = CloseReason::PeerNotTrusted(fault(CertificateFaultKind::Expired));
    insta::assert_snapshot!(shown(connect(expired)), @r"
    error: cannot connect to localhost:9092: the peer's certificate is not trusted: it is expired or not valid yet
      try: check the clocks of both machines, then issue a new certificate
    exit 6
    ");
}

#[test]
fn profiles() {
    let none = ProfileError::NotFound {
        looked_for: vec!["/home/a/.config/millstream/profile.toml".into()],
    };
    insta::assert_snapshot!(shown(millstream::Error::Profile(Arc::new(none))), @r"
    error: no client profile: $MILLSTREAM_PROFILE is not set and there is no /home/a/.config/millstream/profile.toml; `millstream dev` writes one, or set $MILLSTREAM_PROFILE to yours
      try: `millstream dev` starts a broker and writes a profile; `--profile` names one that you have
    exit 3
    ");
    let invalid = ProfileError::Invalid {
        path: "p.toml".into(),
        reason: "missing field `ca`".to_owned(),
    };
    insta::assert_snapshot!(shown(millstream::Error::Profile(Arc::new(invalid))), @r"
    error: p.toml is not a client profile: missing field `ca`
      try: correct the file, or let `millstream dev --force-profile` write it anew
    exit 3
    ");
}

#[test]
fn brokers_that_do_not_start_or_stop_by_themselves() {
    let in_use = DataDirError::InUse {
        path: "/data".into(),
        holder: "4711".to_owned(),
    };
    insta::assert_snapshot!(shown(StartError::DataDir(in_use)), @r"
    error: data directory /data is in use by process 4711
      try: use the broker that runs there, stop it, or start this one on another: `--data-dir` of `millstream dev`, `data_dir` in the configuration of `millstream server`
    exit 5
    ");
    let version = DataDirError::Version {
        path: "/data".into(),
        found: 6,
    };
    insta::assert_snapshot!(shown(StartError::DataDir(version)), @r"
    error: data directory /data has format version 6, this broker reads version 8
      try: use the release that wrote it, or another data directory
    exit 5
    ");
    let uncounted = DataDirError::Starts {
        path: "/data/starts".into(),
        reason: "no such file".to_owned(),
    };
    insta::assert_snapshot!(shown(StartError::DataDir(uncounted)), @r"
    error: /data/starts does not hold the number of starts on this data directory: no such file
      try: start on another directory: other brokers have what was here. Without any, restore the whole of it from a copy
    exit 7
    ");
    let bind = BindError::Socket {
        address: "127.0.0.1:9092".parse().unwrap(),
        source: io::Error::from(io::ErrorKind::AddrInUse),
    };
    insta::assert_snapshot!(shown(StartError::Bind(bind)), @r"
    error: cannot listen on 127.0.0.1:9092
      cause: address in use
      try: another broker listens there already: use it, stop it, or listen elsewhere: `--listen` of `millstream dev`, `listen` and `advertise` in the configuration of `millstream server`
    exit 5
    ");
    insta::assert_snapshot!(shown(StopError::Storage("cannot sync orders-0: input/output error".to_owned())), @r"
    error: cannot sync orders-0: input/output error
      try: check the disk, then start the broker again: it recovers what was acknowledged
    exit 7
    ");
}

#[test]
fn files_that_are_not_there() {
    let missing =
        anyhow!(io::Error::from(io::ErrorKind::NotFound)).context("cannot read orders.ndjson");
    insta::assert_snapshot!(shown(missing), @r"
    error: cannot read orders.ndjson
      cause: entity not found
      try: check the path
    exit 4
    ");
}

#[test]
fn what_a_command_knows_itself_goes_first() {
    let known = Problem::usage("nothing to alter is named").advise("name a setting");
    insta::assert_snapshot!(shown(broker(ErrorCode::Internal, "boom").context(known)), @r"
    error: nothing to alter is named
      cause: boom
      try: name a setting
    exit 2
    ");
}

#[test]
fn several_lines_stay_below_each_other_and_steer_no_terminal() {
    insta::assert_snapshot!(shown(anyhow!("line 1 is bad\n  |\n1 | x\u{1b}[2J")), @r"
    error: line 1 is bad
          |
        1 | x\u{1b}[2J
    exit 1
    ");
}

#[test]
fn programs_get_json() {
    let error = broker(ErrorCode::UnknownTopic, "there is no topic orders")
        .context("cannot describe orders");
    insta::assert_snapshot!(json(&error), @r#"{"error":{"message":"cannot describe orders","causes":["there is no topic orders"],"try":"`millstream topic list` shows the topics; `millstream topic create` makes one","exit_code":4,"code":"UnknownTopic"}}"#);
    insta::assert_snapshot!(json(&anyhow!("failed")), @r#"{"error":{"message":"failed","causes":[],"try":null,"exit_code":1,"code":null}}"#);
}

#[test]
fn colours_are_only_around_the_labels() {
    assert_eq!(
        text(&anyhow!("failed"), true),
        "\u{1b}[1;31merror:\u{1b}[0m failed"
    );
}

#[test]
fn signals_and_a_closed_output_are_no_errors() {
    assert_eq!(
        report(&Interrupted::CtrlC.into(), OutputFormat::Table),
        Exit::Interrupted
    );
    assert_eq!(
        report(&Interrupted::Terminate.into(), OutputFormat::Table),
        Exit::Terminated
    );
    let closed = io::Error::new(io::ErrorKind::BrokenPipe, OutputClosed);
    let closed = anyhow::Error::from(closed).context("cannot write to standard output");
    assert_eq!(report(&closed, OutputFormat::Table), Exit::Success);
    let other_pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert_eq!(explain(&other_pipe).exit, Exit::Failure);
    assert!(!output_closed(&other_pipe));
}
