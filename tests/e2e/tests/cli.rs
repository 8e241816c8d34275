//! The command line: exit codes, advice, JSON for programs, and well-behaved streams.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use millstream_e2e::artifacts::{millstream, quake_alert, workspace};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{Finished, run, run_with_input};
use millstream_e2e::patience::until_blocking;
use millstream_e2e::process::Process;
use millstream_e2e::quakes;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Runs `millstream` with these words.
fn millstream_at(broker: &Broker, words: &str) -> Finished {
    run(&mut broker.command(words.split_whitespace()))
}

/// The same with `--output json`, which succeeds.
fn json_of(broker: &Broker, words: &str) -> Value {
    let mut command = broker.command(words.split_whitespace());
    run(command.args(["--output", "json"])).success().json()
}

/// An object has these fields. It may have more: fields are added, never renamed or removed.
fn has_keys(object: &Value, keys: &str) {
    let found: BTreeSet<&str> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected: BTreeSet<&str> = keys.split_whitespace().collect();
    assert!(
        expected.is_subset(&found),
        "{:?} missing in {object}",
        &expected - &found
    );
}

const TOPIC_KEYS: &str = "name topic_id durability cleanup retention_ms retention_bytes \
     segment_bytes segment_ms max_batch_bytes tombstone_retention_ms replication_factor partitions";
const PARTITION_KEYS: &str = "partition leader leader_epoch replicas log_start_offset high_watermark \
     log_end_offset flushed_offset size_bytes damage";

#[test]
fn topics_records_and_groups_are_told_to_programs() {
    let broker = Broker::start();
    let topic = json_of(&broker, "topic create orders --partitions 2");
    has_keys(&topic, TOPIC_KEYS);
    has_keys(&topic["partitions"][1], PARTITION_KEYS);
    has_keys(&json_of(&broker, "topic list")["topics"][0], TOPIC_KEYS);
    has_keys(
        &json_of(&broker, "topic describe orders")["topics"][0],
        TOPIC_KEYS,
    );
    let altered = json_of(
        &broker,
        "topic alter orders --retention 1h --retention-bytes 1GiB",
    );
    has_keys(&altered, TOPIC_KEYS);
    assert_eq!(
        (&altered["retention_ms"], &altered["retention_bytes"]),
        (&json!(3_600_000), &json!(1 << 30))
    );

    let mut produce = broker.command(["produce", "orders", "--partition", "1", "--output", "json"]);
    let produced = run_with_input(&mut produce, "one\ntwo\nthree\n")
        .success()
        .json();
    has_keys(
        &produced,
        "topic records bytes bad_lines elapsed_ms partitions",
    );
    has_keys(
        &produced["partitions"][0],
        "partition records first_offset last_offset",
    );
    assert_eq!(
        (
            &produced["records"],
            &produced["partitions"][0]["last_offset"]
        ),
        (&json!(3), &json!(2))
    );

    let consumed = millstream_at(&broker, "consume orders --group g --output json").success();
    let lines: Vec<Value> = consumed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    has_keys(
        &lines[0],
        "topic partition offset timestamp_ms key value headers",
    );
    assert_eq!(
        (&lines[2]["offset"], &lines[2]["value"]),
        (&json!(2), &json!("three"))
    );

    let listed = json_of(&broker, "group list");
    has_keys(&listed["groups"][0], "group state members generation");
    let described = json_of(&broker, "group describe g");
    has_keys(&described, "group state generation lag members partitions");
    has_keys(
        &described["partitions"][0],
        "topic partition owner committed_offset committed_at_ms metadata high_watermark lag",
    );
    assert_eq!(
        (&described["state"], &described["lag"]),
        (&json!("empty"), &json!(0))
    );
    let offsets = json_of(&broker, "group offsets g");
    has_keys(&offsets["offsets"][0], "topic partition offset metadata");
    let reset = json_of(&broker, "group reset g --topic orders --to earliest");
    has_keys(&reset, "group generation offsets");
    assert_eq!(json_of(&broker, "group describe g")["lag"], 3);
    assert_eq!(
        json_of(&broker, "group delete g"),
        json!({"deleted": ["g"]})
    );

    let deleted = json_of(
        &broker,
        "topic delete-records orders --partition 1 --before 2",
    );
    has_keys(&deleted, "topic partitions");
    assert_eq!(
        deleted["partitions"][0],
        json!({"partition": 1, "log_start_offset": 2})
    );
    assert_eq!(
        json_of(&broker, "topic delete orders"),
        json!({"deleted": ["orders"]})
    );
    has_keys(
        &json_of(&broker, "broker describe"),
        "cluster_id broker_id software protocol_version principal uptime_ms connections topics \
         partitions workers resident_bytes",
    );
}

#[test]
fn plugins_are_told_to_programs() {
    let broker = Broker::start();
    let deploy = |name: &str| {
        let mut command = broker.command(["plugin", "deploy"]);
        command
            .arg(quake_alert())
            .args(["--name", name, "--input", "quakes", "--create-topics"]);
        command.args([
            "--output-topic",
            "alerts=alerts",
            "--partitions",
            "2",
            "--output",
            "json",
        ]);
        run(&mut command)
    };
    let keys = "name inputs outputs config start limits digest component_bytes deployed_at_ms imports \
         lag workers";
    has_keys(&deploy("alerts").success().json(), keys);
    has_keys(&json_of(&broker, "plugin list")["deployments"][0], keys);
    let described = json_of(&broker, "plugin describe alerts");
    has_keys(&described, keys);
    has_keys(
        &described["limits"],
        "memory_bytes deadline_ms outputs_per_record log_lines_per_second state_bytes",
    );
    has_keys(
        &described["workers"][1],
        "topic partition state attempts reason committed_offset lag records_in records_out failures \
         memory_bytes",
    );
    let again = deploy("alerts").exited(5).json_error();
    assert_eq!(again["code"], "DeploymentExists");
    assert!(
        again["try"].as_str().unwrap().contains("--replace"),
        "{again}"
    );
    // What is no component is told before a broker is asked.
    let text = workspace().join("README.md");
    let refused = run(broker
        .command(["plugin", "deploy", "--input", "quakes"])
        .arg(text))
    .exited(2);
    assert!(
        refused.stderr.contains("is not a WebAssembly component"),
        "{refused:#?}"
    );
    assert_eq!(
        json_of(&broker, "plugin remove alerts"),
        json!({
            "removed": ["alerts"],
            "left": [{
                "deployment": "alerts",
                "dead_letter_topic": "alerts.dead-letters",
                "dead_letters": 0,
                "group": "alerts",
            }],
        })
    );
    millstream_at(&broker, "plugin describe alerts").exited(4);
}

#[test]
fn every_error_has_its_exit_code_and_says_what_to_try() {
    let broker = Broker::start();
    millstream_at(&broker, "topic create orders").success();
    let cases = [
        ("topic describe nowhere", 4, "topic list"),
        ("topic delete nowhere", 4, "topic list"),
        ("topic create orders", 5, "topic alter"),
        ("topic create a/b", 2, ""),
        ("topic alter orders", 2, "--help"),
        ("topic alter orders --partitions 0", 2, ""),
        ("topic delete-records orders --before 9", 2, "--partition 0"),
        (
            "topic delete-records orders --before 9 --partition 0",
            4,
            "topic describe",
        ),
        ("consume nowhere", 4, "topic list"),
        ("consume orders --partition 3", 4, "topic describe"),
        ("consume orders --from offset:5", 4, "topic describe"),
        ("produce nowhere", 4, "topic list"),
        ("produce orders /nonexistent/file", 4, "path"),
        ("group describe nobody", 4, "group list"),
        ("group delete nobody", 4, "group list"),
        ("plugin describe nobody", 4, "plugin list"),
        ("plugin remove nobody", 4, "plugin list"),
        ("plugin build /nonexistent", 4, "plugin build"),
        // What is wrong is told before a component is looked for, and before topics are made.
        (
            "plugin deploy /nonexistent --name Bad! --input a --create-topics",
            2,
            "plugin deploy --help",
        ),
        (
            "plugin run /nonexistent --records /nonexistent/records",
            4,
            "path",
        ),
        ("topic", 2, ""),
        ("frobnicate", 2, ""),
        ("consume orders --from yesterday", 2, ""),
    ];
    let made = millstream_at(&broker, "topic create short").success();
    assert_eq!(
        made.stdout,
        "topic short: 1 partition, sync, keeps 7d, no bound on size\n"
    );
    let files = millstream_at(
        &broker,
        "plugin run /nonexistent --records /nonexistent/records",
    );
    assert!(files.stderr.contains("/nonexistent/records"), "{files:#?}");
    // What was typed wrongly is told in the form that was asked for.
    for words in [
        "--output json frobnicate",
        "topic create -o json",
        "frobnicate --output=json",
    ] {
        let error = millstream_at(&broker, words).exited(2).json_error();
        has_keys(&error, "message causes try exit_code code");
        assert_eq!(error["exit_code"], 2, "{words}");
        assert!(error["try"].as_str().unwrap().contains("--help"), "{error}");
    }
    millstream_at(&broker, "topic --help --output json").success();
    // What the broker's message says is not followed by less.
    let told = millstream_at(&broker, "topic create a/b").exited(2);
    assert!(!told.stderr.contains("\n  try: "), "{told:#?}");
    for (words, code, advice) in cases {
        let shown = millstream_at(&broker, words).exited(code);
        assert!(shown.stdout.is_empty(), "{shown:#?}");
        assert!(shown.stderr.contains(advice), "{shown:#?}");
        if advice.is_empty() || shown.stderr.contains("Usage:") {
            continue;
        }
        assert!(
            shown.stderr.starts_with("error: ") && shown.stderr.contains("\n  try: "),
            "{shown:#?}"
        );
        let told = millstream_at(&broker, &format!("{words} --output json")).exited(code);
        let error = told.json_error();
        has_keys(&error, "message causes try exit_code code");
        assert_eq!(error["exit_code"], code, "{words}");
        assert!(error["try"].as_str().unwrap().contains(advice), "{error}");
    }
    let help = millstream_at(&broker, "--help").success();
    assert!(help.stdout.contains("Exit codes:") && help.stderr.is_empty());
    millstream_at(&broker, "--version").success();
}

#[test]
fn without_a_broker_or_profile_the_way_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let alone = |args: &[&str]| {
        let mut command = Command::new(millstream());
        command
            .env_remove("MILLSTREAM_PROFILE")
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .args(args);
        run(&mut command).exited(3)
    };
    let lost = alone(&["topic", "list"]);
    assert!(
        lost.stderr.contains("no client profile") && lost.stderr.contains("millstream dev"),
        "{lost:#?}"
    );
    let missing = alone(&["topic", "list", "--profile", "/nonexistent/profile.toml"]);
    assert!(
        missing.stderr.contains("/nonexistent/profile.toml"),
        "{missing:#?}"
    );

    let mut broker = Broker::start();
    broker.kill();
    let silent = millstream_at(&broker, "topic list").exited(3);
    assert!(silent.stderr.contains(&broker.address()), "{silent:#?}");
    assert!(
        silent.stderr.contains("is a broker running there?"),
        "{silent:#?}"
    );
}

#[test]
fn data_goes_to_standard_output_and_prose_to_standard_error() {
    let broker = Broker::start();
    millstream_at(&broker, "topic create orders").success();
    let produced =
        run_with_input(&mut broker.command(["produce", "orders"]), "one\ntwo\n").success();
    assert!(
        produced.stdout.is_empty() && produced.stderr.contains("produced 2 records"),
        "{produced:#?}"
    );
    let consumed = millstream_at(&broker, "consume orders").success();
    assert_eq!(consumed.stdout, "one\ntwo\n");
    assert!(
        consumed.stderr.contains("consumed 2 records"),
        "{consumed:#?}"
    );
    let quiet = millstream_at(&broker, "consume orders -q").success();
    assert_eq!(
        (quiet.stdout.as_str(), quiet.stderr.as_str()),
        ("one\ntwo\n", "")
    );
    let listed = millstream_at(&broker, "topic list").success();
    assert!(
        listed.stdout.starts_with("TOPIC") && listed.stderr.is_empty(),
        "{listed:#?}"
    );
}

#[test]
fn lines_become_records_and_records_lines() {
    let broker = Broker::start();
    millstream_at(&broker, "topic create quakes --partitions 4").success();
    let mut produce = broker.command([
        "produce",
        "quakes",
        "--key-field",
        "id",
        "--header",
        "source=usgs",
    ]);
    run(produce.arg("--compression").arg("zstd").arg(quakes::path())).success();
    let consumed = millstream_at(&broker, "consume quakes --format json").success();
    let mut ids = BTreeSet::new();
    for line in consumed.stdout.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let event: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        assert_eq!(record["key"], event["id"]);
        assert_eq!(
            record["headers"],
            json!([{"name": "source", "value": "usgs"}])
        );
        ids.insert(record["key"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), quakes::EVENTS);

    millstream_at(&broker, "topic create pairs").success();
    let mut pairs = broker.command([
        "produce",
        "pairs",
        "--key-separator",
        "=",
        "--tombstone-empty",
    ]);
    run_with_input(&mut pairs, "a=1\nb=\nno pair\n").exited(1);
    let mut pairs = broker.command([
        "produce",
        "pairs",
        "--key-separator",
        "=",
        "--skip-bad-lines",
    ]);
    let skipped = run_with_input(&mut pairs, "no pair\nc=3\n").success();
    assert!(
        skipped.stderr.contains("skipped 1 bad line"),
        "{skipped:#?}"
    );
    let consumed =
        millstream_at(&broker, "consume pairs --format key-value --separator :").success();
    assert_eq!(consumed.stdout, "a:1\nb:\nc:3\n");
    let first = millstream_at(&broker, "consume pairs -n 1 --from offset:2").success();
    assert_eq!(first.stdout, "3\n");
}

/// Reads a line of a process's output.
fn line_of(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(
        reader.read_line(&mut line).expect("a readable pipe") > 0,
        "the output ended"
    );
    line
}

#[test]
fn who_has_read_enough_may_leave() {
    let broker = Broker::start();
    millstream_at(&broker, "topic create many").success();
    // More than any pipe holds.
    let lines: String = (0..100_000)
        .map(|number| format!("record number {number}\n"))
        .collect();
    run_with_input(&mut broker.command(["produce", "many"]), &lines).success();
    let mut command = broker.command(["consume", "many"]);
    let mut consume = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = BufReader::new(consume.child().stdout.take().unwrap());
    for number in 0..3 {
        assert_eq!(line_of(&mut stdout), format!("record number {number}\n"));
    }
    // As `head -n 3` does.
    drop(stdout);
    let status = consume.wait();
    let mut stderr = String::new();
    consume
        .child()
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert!(status.success(), "{status}: {stderr}");
    assert!(
        !stderr.contains("error") && !stderr.contains("panic"),
        "{stderr}"
    );
}

#[test]
fn a_follower_goes_on_until_it_is_interrupted() {
    let broker = Broker::start();
    millstream_at(&broker, "topic create live").success();
    let mut command = broker.command(["consume", "live", "--follow", "--group", "followers"]);
    let mut follower = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut stdout = BufReader::new(follower.child().stdout.take().unwrap());
    for value in ["first\n", "second\n"] {
        run_with_input(&mut broker.command(["produce", "live"]), value).success();
        assert_eq!(line_of(&mut stdout), value);
    }
    follower.signal(Signal::INT);
    assert_eq!(follower.wait().code(), Some(130));
    // What it has written is committed.
    let offsets = json_of(&broker, "group offsets followers");
    assert_eq!(offsets["offsets"][0]["offset"], 2);
}

#[test]
fn completions_are_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(Command::new(millstream()).args(["completions", shell])).success();
        assert!(
            script.stdout.contains("millstream") && script.stdout.contains("delete-records"),
            "{shell}"
        );
    }
}

/// `millstream dev` with its folder and the user's.
fn dev(folder: &Path) -> Command {
    let mut command = Command::new(millstream());
    command
        .env_remove("MILLSTREAM_PROFILE")
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.join("data"))
        .arg("--ready-file")
        .arg(folder.join("ready"))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn dev_needs_nothing_and_is_found_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut process = Process::spawn(&mut dev(folder.path()));
    let address = until_blocking("a ready file", || fs::read_to_string(&ready).ok());
    let mut list = Command::new(millstream());
    list.env_remove("MILLSTREAM_PROFILE")
        .env("XDG_CONFIG_HOME", folder.path().join("config"))
        .args(["broker", "describe", "--output", "json"]);
    let described = run(&mut list).success().json();
    assert_eq!(described["principal"], "dev");
    assert!(address.trim_end().starts_with("127.0.0.1:"), "{address}");
    process.signal(Signal::INT);
    assert_eq!(process.wait().code(), Some(0));
}
