//! What a person who begins is told, and what is left by what went wrong: refusals that leave nothing, hints that
//! name the line to write, figures that are what they say.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeploymentSpec, FailurePolicy, OutputSpec, ProduceRecord, WorkerState,
};
use millstream_e2e::artifacts::{drill, plugin_of_one_file, probe, quake_alert};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{Finished, run, run_with_input};
use millstream_e2e::deployment::{has_records, worked_off};
use millstream_e2e::patience::until;
use millstream_e2e::process::Process;
use rustix::process::Signal;

const NAME: &str = "drill";

fn component(path: &Path) -> Bytes {
    fs::read(path).expect("the component").into()
}

/// From `in` to `out`.
fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec!["in".to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: "out".to_owned(),
        }],
        on_failure: FailurePolicy {
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    }
}

/// Runs `millstream` with these words.
fn millstream_at(broker: &Broker, words: &str) -> Finished {
    run(&mut broker.command(words.split_whitespace()))
}

fn topics(broker: &Broker) -> Vec<String> {
    let listed = millstream_at(broker, "topic list --output json").success();
    let listed = listed.json();
    let topics = listed["topics"].as_array().expect("topics").iter();
    topics
        .map(|topic| topic["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Deploys a component with these options.
fn deploy(broker: &Broker, component: &Path, options: &str) -> Finished {
    let mut command = broker.command(["plugin", "deploy"]);
    command.arg(component).args(options.split_whitespace());
    run(&mut command)
}

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    admin.create_topic("in").await.unwrap();
    admin.create_topic("out").await.unwrap();
    (broker, client, admin)
}

/// The same with the deployment.
async fn start_deployed() -> (Broker, Client, Admin) {
    let (broker, client, admin) = start().await;
    let deployed = admin.deploy_plugin(component(drill()), spec());
    deployed.await.unwrap();
    (broker, client, admin)
}

async fn produce(client: &Client, topic: &str, values: impl IntoIterator<Item = String>) {
    let producer = client.producer(topic).build().await.unwrap();
    for value in values {
        producer
            .send(ProduceRecord::new(value).key("k"))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
}

#[test]
fn a_refused_deployment_leaves_no_topic() {
    let broker = Broker::start();
    let made = "--create-topics --output-topic out=out --table t=t";
    // Its `init` looks for an output that it is not given.
    let refused = deploy(&broker, drill(), "--name drill --input in --create-topics").exited(5);
    assert!(refused.stderr.contains("no output `out`"), "{refused:#?}");
    // A name that no topic may have, among others that are good.
    deploy(
        &broker,
        drill(),
        &format!("{made} --name drill --input a/b"),
    )
    .exited(2);
    // More partitions than a topic may have.
    deploy(
        &broker,
        drill(),
        &format!("{made} --name drill --input in --partitions 4000000"),
    )
    .exited(2);
    assert_eq!(topics(&broker), [""; 0]);

    let deployed = deploy(
        &broker,
        drill(),
        &format!("{made} --name drill --input in --partitions 3"),
    )
    .success();
    assert!(
        deployed.stderr.contains("made topic in with 3 partitions"),
        "{deployed:#?}"
    );
    let all = ["drill.dead-letters", "in", "out", "t"];
    assert_eq!(topics(&broker), all);
    // A way back to where it comes from, and an output on the way.
    let refused = deploy(
        &broker,
        drill(),
        "--name back --input out --output-topic out=in --output-topic fired=more --create-topics",
    );
    assert!(!refused.status.success(), "{refused:#?}");
    assert_eq!(topics(&broker), all);
    // The table's topic is made as one, and the group of a topic that was made with its deployment works.
    let table = millstream_at(&broker, "topic describe t --output json").success();
    assert_eq!(
        table.json()["topics"][0]["cleanup"],
        "compact",
        "{table:#?}"
    );
}

#[tokio::test]
async fn what_a_removal_leaves_is_told_with_the_way_to_delete_it() {
    let (broker, client, admin) = start_deployed().await;
    produce(&client, "in", ["!reject bad".to_owned(), "good".to_owned()]).await;
    has_records(&admin, "drill.dead-letters", 1).await;
    worked_off(&admin, NAME, 1).await;
    let described = millstream_at(&broker, "plugin describe drill").success();
    assert!(
        described
            .stdout
            .contains("dead letters:   1 record in drill.dead-letters"),
        "{described:#?}"
    );
    // A name that is wrong leaves all as it is.
    let wrong = millstream_at(&broker, "plugin remove drill nope");
    assert!(
        wrong.stderr.contains("no deployment is named nope"),
        "{wrong:#?}"
    );
    let wrong = millstream_at(&broker, "group delete drill nope");
    assert!(wrong.stderr.contains("nope"), "{wrong:#?}");
    let removed = millstream_at(&broker, "plugin remove drill drill").success();
    assert!(
        removed
            .stdout
            .contains("its dead-letter topic drill.dead-letters stays, with 1 record")
            && removed
                .stdout
                .contains("`millstream topic delete drill.dead-letters`")
            && removed.stdout.contains("`millstream group delete drill`"),
        "{removed:#?}"
    );
    // The next one of its name says from where it goes on, and one behind a deleted group begins anew.
    let inherits = "going on from the offsets of the group drill";
    let options = "--name drill --input in --output-topic out=out";
    let deployed = deploy(&broker, drill(), options).success();
    assert!(deployed.stderr.contains(inherits), "{deployed:#?}");
    for words in [
        "plugin remove drill",
        "topic delete drill.dead-letters",
        "group delete drill",
    ] {
        millstream_at(&broker, words).success();
    }
    let deployed = deploy(&broker, drill(), options).success();
    assert!(!deployed.stderr.contains(inherits), "{deployed:#?}");
}

#[tokio::test]
async fn what_waits_to_be_tried_again_is_not_removed_by_mistake() {
    let (broker, client, admin) = start().await;
    let mut patient = spec();
    patient.on_failure.attempts = 1_000;
    patient.on_failure.first_back_off_ms = 3_600_000;
    patient.on_failure.longest_back_off_ms = 3_600_000;
    admin
        .deploy_plugin(component(drill()), patient)
        .await
        .unwrap();
    produce(&client, "in", ["!retry 9".to_owned(), "behind".to_owned()]).await;
    until("both to wait", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        (described.workers.first()?.parked == 2).then_some(())
    })
    .await;
    let logged = millstream_at(&broker, "plugin logs drill").success();
    assert!(
        logged.stdout.contains("offset 0, attempt 1: ") && logged.stdout.contains("again in 3600s"),
        "{logged:#?}"
    );
    let refused = millstream_at(&broker, "plugin remove drill").exited(5);
    assert!(
        refused
            .stderr
            .contains("deployment drill has 2 records to be tried again, which would be lost")
            && refused
                .stderr
                .contains("`millstream plugin remove --force drill`"),
        "{refused:#?}"
    );
    // Nor is a live deployment taken for an earlier replay.
    let refused = millstream_at(&broker, "plugin replay drill --as drill");
    assert!(
        !refused.status.success()
            && refused.stderr.contains("that is no replay of drill")
            && !refused.stderr.contains("plugin remove"),
        "{refused:#?}"
    );
    // A replay of it waits as well, and says for what.
    millstream_at(&broker, "plugin replay drill --from earliest").success();
    let mut diff = Process::spawn(
        broker
            .command(["plugin", "diff", NAME])
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    );
    let stderr = lines_of(diff.child().stderr.take().unwrap());
    line_with(
        &stderr,
        "waiting for the replay drill.shadow: 2 records to be tried again",
    );
    drop(diff);
    millstream_at(
        &broker,
        "plugin replay drill --from earliest --as drill.two",
    )
    .success();
    let refused = millstream_at(&broker, "plugin remove drill.two drill").exited(5);
    assert!(
        refused
            .stderr
            .contains("`millstream plugin remove drill.shadow drill.two drill`"),
        "{refused:#?}"
    );
    let words = "group reset drill --topic in --to offset:1";
    let reset = millstream_at(&broker, words).success();
    assert!(
        reset
            .stderr
            .contains("the deployment drill gives up 2 records to be tried again"),
        "{reset:#?}"
    );
    // What is behind the offset is handled again, and nothing waits any more.
    has_records(&admin, "out", 1).await;
    let all = "plugin remove drill.shadow drill.two drill";
    millstream_at(&broker, all).success();
}

#[tokio::test]
async fn what_others_write_to_an_output_is_not_compared() {
    let (broker, client, admin) = start_deployed().await;
    // Another deployment with the same output, and a client.
    let neighbour = DeploymentSpec {
        name: "neighbour".to_owned(),
        inputs: vec!["beside".to_owned()],
        on_failure: FailurePolicy::default_for("neighbour"),
        ..spec()
    };
    admin.create_topic("beside").await.unwrap();
    admin
        .deploy_plugin(component(drill()), neighbour)
        .await
        .unwrap();
    produce(&client, "in", (0..10).map(|it| format!("own/{it}"))).await;
    produce(&client, "beside", (0..3).map(|it| format!("beside/{it}"))).await;
    produce(&client, "out", ["by hand".to_owned(), "again".to_owned()]).await;
    has_records(&admin, "out", 15).await;
    worked_off(&admin, NAME, 1).await;

    admin.replay_plugin(NAME).await.unwrap();
    let shown = millstream_at(&broker, "plugin diff drill --output json").success();
    let output = &shown.json()["outputs"][0];
    assert_eq!(
        (&output["of_others"], &output["of_unknown"]),
        (&5.into(), &0.into()),
        "{output}"
    );
    assert_eq!(
        (&output["equal"], &output["only_live"]),
        (&10.into(), &0.into()),
        "{output}"
    );
    let told = millstream_at(&broker, "plugin diff drill").success();
    assert!(
        told.stdout
            .contains("passed over: 5 records that others have written"),
        "{told:#?}"
    );
    // It is at its end, and says so.
    let shadow = admin.describe_plugin("drill.shadow").await.unwrap();
    assert_eq!(shadow.workers[0].state, WorkerState::Finished);
    let listed = millstream_at(&broker, "plugin describe drill.shadow").success();
    assert!(
        listed.stdout.contains("shadow of drill, finished"),
        "{listed:#?}"
    );
}

#[tokio::test]
async fn an_output_at_least_once_is_compared_and_its_writer_said_to_be_unknown() {
    let (_broker, client, admin) = start().await;
    let often = DeploymentSpec {
        delivery: millstream::DeliveryGuarantee::AtLeastOnce,
        ..spec()
    };
    admin
        .deploy_plugin(component(drill()), often)
        .await
        .unwrap();
    produce(&client, "in", ["a".to_owned(), "b".to_owned()]).await;
    has_records(&admin, "out", 2).await;
    worked_off(&admin, NAME, 1).await;
    admin.replay_plugin(NAME).await.unwrap();
    until("the replay to be done", async || {
        let progress = admin.replay_progress("drill.shadow").await.ok()?;
        progress.is_done().then_some(())
    })
    .await;
    let diff = admin.diff_plugin("drill.shadow", 10).await.unwrap();
    let output = &diff.outputs[0];
    assert_eq!(
        (output.equal, output.of_unknown, output.of_others),
        (2, 4, 0)
    );
}

/// Lines of a pipe, as they come.
fn lines_of(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A command that goes on, with the lines of its standard output and of its standard error.
fn follow(command: &mut Command) -> (Process, mpsc::Receiver<String>, mpsc::Receiver<String>) {
    let mut follower = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let stdout = lines_of(follower.child().stdout.take().unwrap());
    let stderr = lines_of(follower.child().stderr.take().unwrap());
    (follower, stdout, stderr)
}

/// Waits for a line with these words.
fn line_with(lines: &mpsc::Receiver<String>, words: &str) -> String {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|error| panic!("no line with {words}: {error}"));
        if line.contains(words) {
            return line;
        }
    }
}

#[tokio::test]
async fn a_follower_of_logs_waits_for_the_broker() {
    let (mut broker, client, admin) = start().await;
    admin
        .deploy_plugin(component(drill()), spec())
        .await
        .unwrap();
    produce(&client, "in", ["!reject first".to_owned()]).await;
    let mut command = broker.command(["plugin", "logs", NAME, "--follow"]);
    let (mut follower, stdout, stderr) = follow(&mut command);
    line_with(&stdout, "first");
    broker.kill();
    line_with(&stderr, "the broker is away: waiting for it");
    broker.restart();
    line_with(&stderr, "the broker is back");
    produce(&client, "in", ["!reject second".to_owned()]).await;
    line_with(&stdout, "second");
    // It ends with its deployment.
    admin.remove_plugin(NAME).await.unwrap();
    assert!(follower.wait().success());
    // One that was never there is no reason to wait.
    millstream_at(&broker, "plugin logs nobody --follow").exited(4);
}

#[tokio::test]
async fn a_follower_of_records_waits_for_the_broker() {
    let (mut broker, client, _admin) = start().await;
    let mut command = broker.command(["consume", "in", "--follow", "-n", "2"]);
    let (mut follower, stdout, stderr) = follow(&mut command);
    produce(&client, "in", ["first".to_owned()]).await;
    line_with(&stdout, "first");
    broker.kill();
    line_with(&stderr, "the broker is away: waiting for it");
    broker.restart();
    line_with(&stderr, "the broker is back");
    produce(&client, "in", ["second".to_owned()]).await;
    line_with(&stdout, "second");
    assert!(follower.wait().success());
}

#[tokio::test]
async fn a_flood_of_dead_letters_leaves_room_in_the_log() {
    const BAD: usize = 3_000;
    let (_broker, client, admin) = start().await;
    admin
        .deploy_plugin(component(drill()), spec())
        .await
        .unwrap();
    produce(
        &client,
        "in",
        (0..BAD).map(|it| format!("!reject bad-{it}")),
    )
    .await;
    has_records(&admin, "drill.dead-letters", BAD).await;
    let lines = until("the sum of it", async || {
        let mut logs = admin.plugin_logs(NAME).await.ok()?;
        let mut lines = Vec::new();
        while let Some(line) = logs.next().await {
            lines.push(line.ok()?.message);
        }
        let summed = |line: &&String| line.contains("given up within a second");
        let told: u64 = lines
            .iter()
            .filter(summed)
            .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
            .sum();
        let one_by_one = lines
            .iter()
            .filter(|line| line.ends_with("a dead letter now") && !summed(line))
            .count();
        (told + one_by_one as u64 == BAD as u64).then_some(lines)
    })
    .await;
    assert!(lines.len() < 500, "{} lines", lines.len());
    assert!(
        lines.iter().any(|line| line.contains("offset 0,")),
        "the first is told in full"
    );
}

#[tokio::test]
async fn a_resumed_deployment_runs() {
    let (broker, _client, admin) = start_deployed().await;
    until("the worker", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        (!described.workers.is_empty()).then_some(())
    })
    .await;
    for _ in 0..5 {
        let paused = admin.pause_plugin(NAME).await.unwrap();
        assert_eq!(paused.workers[0].state, WorkerState::Held);
        let resumed = millstream_at(&broker, "plugin resume drill").success();
        assert!(!resumed.stdout.contains("held"), "{resumed:#?}");
    }
}

/// Needs a secret to begin, and does not name it when it is missing.
const EAGER: &str = r#"
#include <millstream.h>

ms_result init(const ms_context *context) {
    return ms_secret_get("api-key").data ? MS_OK : ms_reject("the plugin has no key");
}

ms_result handle(const ms_record *record) { return MS_OK; }
"#;

#[tokio::test]
async fn errors_name_the_line_to_write() {
    let (broker, client, admin) = start().await;
    let try_of = |finished: Finished| finished.stderr.clone();

    // A secret: none is granted, it is not kept, another one is asked for.
    let words = "--name probe --input in --output-topic found=out";
    let refused = try_of(deploy(&broker, probe(), words).exited(5));
    assert!(
        refused.contains(r#"write `secrets = ["NAME"]` below `[grants]`"#),
        "{refused}"
    );
    let refused =
        try_of(deploy(&broker, probe(), &format!("{words} --grant secret=api-key")).exited(4));
    assert!(
        refused.contains("`millstream plugin secret set api-key`"),
        "{refused}"
    );

    let mut set = broker.command(["plugin", "secret", "set", "another"]);
    run_with_input(&mut set, "a value of it").success();
    let options = format!("{words} --grant secret=another");
    deploy(&broker, probe(), &options).success();
    produce(&client, "in", ["secret".to_owned()]).await;
    has_records(&admin, "out", 1).await;
    let logged = millstream_at(&broker, "plugin logs probe").success();
    assert!(
        logged
            .stdout
            .contains("the secret `api-key` is asked for and not granted")
            && logged
                .stdout
                .contains(r#"`secrets = ["api-key"]` below [grants]"#),
        "{logged:#?}"
    );

    // The same in `init`, where no worker's log is left to look at.
    if let Some((eager, _folder)) = plugin_of_one_file("eager", "plugin.c", EAGER) {
        let options = "--name eager --input in --grant secret=another";
        let refused = try_of(deploy(&broker, &eager, options).exited(5));
        assert!(
            refused.contains("the plugin has no key")
                && refused.contains(r#"`secrets = ["api-key"]` below [grants]"#),
            "{refused}"
        );
    }

    // Nothing to go back to.
    admin
        .deploy_plugin(component(drill()), spec())
        .await
        .unwrap();
    let refused = try_of(millstream_at(&broker, "plugin rollback drill").exited(4));
    assert!(
        refused.contains("deployment drill has nothing to go back to: its only revision is 1")
            && refused.contains("`millstream plugin upgrade drill"),
        "{refused}"
    );

    // The fields of a deployment file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.toml");
    let declared = |component: &str, more: &str| {
        let text = format!("name = \"x\"\ncomponent = {component:?}\ninputs = [\"in\"]\n{more}");
        fs::write(&file, text).unwrap();
        let mut command = broker.command(["plugin", "deploy", "-f"]);
        run(command.arg(&file))
    };
    let refused = try_of(declared("x.wasm", "[limits]\nmemory = \"1KiB\"\n").exited(2));
    assert!(
        refused.contains("the worker's limit memory (bytes) is 1024"),
        "{refused}"
    );
    let refused = try_of(declared("no/such.wasm", "").exited(4));
    assert!(
        refused.contains(&format!(
            "the field `component` of {} names {}",
            file.display(),
            folder.path().join("no/such.wasm").display()
        )),
        "{refused}"
    );
    fs::write(folder.path().join("x.wasm"), "#!/bin/sh").unwrap();
    let refused = try_of(declared("x.wasm", "").exited(2));
    assert!(
        refused.contains(&format!("the field `component` of {}", file.display()))
            && refused.contains("is not a WebAssembly component"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_config_key_that_nobody_asks_for_is_told() {
    let (broker, client, admin) = start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.toml");
    let text = format!(
        "name = \"alerts\"\ncomponent = {:?}\ninputs = [\"in\"]\n[outputs]\nalerts = \"out\"\n\
         [config]\nmin-mag = 4\nmin-mga = 5\n",
        quake_alert()
    );
    fs::write(&file, text).unwrap();
    let event = r#"{"id":"q","time":1,"mag":5.0,"net":"us","lon":1.5,"lat":2.5}"#;
    let mut command = broker.command(["plugin", "run", "-f"]);
    let ran = run_with_input(command.arg(&file).args(["--records", "-"]), event).success();
    assert!(
        ran.stderr
            .contains("the config key `min-mga` was never asked for")
            && !ran.stderr.contains("`min-mag`"),
        "{ran:#?}"
    );

    let mut command = broker.command(["plugin", "deploy", "-f"]);
    run(command.arg(&file)).success();
    let before = admin.describe_plugin("alerts").await.unwrap();
    assert_eq!(before.config_unasked, [""; 0], "nothing was handled yet");
    produce(&client, "in", [event.to_owned()]).await;
    has_records(&admin, "out", 1).await;
    let described = millstream_at(&broker, "plugin describe alerts").success();
    assert!(
        described
            .stdout
            .contains("min-mga=5 (never asked for so far: min-mga)"),
        "{described:#?}"
    );
}

#[tokio::test]
async fn an_upgrade_from_a_file_makes_the_topics_that_it_names() {
    let (broker, _client, _admin) = start_deployed().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.toml");
    let upgrade = |more: &str| {
        let text = format!(
            "name = \"drill\"\ncomponent = {:?}\ninputs = [\"in\"]\n{more}[outputs]\nout = \"out\"\nfired = \"fired\"\n",
            drill()
        );
        fs::write(&file, text).unwrap();
        let mut command = broker.command(["plugin", "upgrade", NAME, "-f"]);
        run(command.arg(&file))
    };
    let refused = upgrade("");
    assert!(
        !refused.status.success() && refused.stderr.contains("no topic is named fired"),
        "{refused:#?}"
    );
    let upgraded = upgrade("create-topics = true\npartitions = 2\n").success();
    assert!(
        upgraded
            .stderr
            .contains("made topic fired with 2 partitions"),
        "{upgraded:#?}"
    );
    assert_eq!(
        topics(&broker),
        ["drill.dead-letters", "fired", "in", "out"]
    );
}

#[tokio::test]
async fn a_key_is_taken_as_it_is_printed() {
    let (broker, client, admin) = start_deployed().await;
    produce(
        &client,
        "in",
        ["\"quoted\" name".to_owned(), "plain".to_owned()],
    )
    .await;
    has_records(&admin, "out", 2).await;
    let first = millstream_at(&broker, "plugin state scan drill --limit 1").success();
    assert_eq!(first.stdout.lines().count(), 2);
    assert!(
        first.stderr.contains("there are more than these 1"),
        "{first:#?}"
    );
    let elsewhere = millstream_at(&broker, "plugin state get drill plain --partition 7");
    let says = "has no worker at that topic or partition";
    assert!(elsewhere.stderr.contains(says), "{elsewhere:#?}");
    let scanned = millstream_at(&broker, "plugin state scan drill").success();
    assert_eq!(scanned.stderr, "");
    let profile = broker.profile_path();
    let mut found = 0;
    for line in scanned.stdout.lines().skip(1) {
        let columns: Vec<&str> = line
            .split("  ")
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect();
        let [.., key, value] = columns.as_slice() else {
            panic!("{line}");
        };
        // As a person pastes it into a shell.
        let line = format!(
            "{} --profile {} plugin state get drill {key}",
            millstream_e2e::artifacts::millstream().display(),
            profile.display()
        );
        let got = run(std::process::Command::new("sh").args(["-c", &line])).success();
        assert!(
            got.stdout.contains(key) && got.stdout.contains(value),
            "{got:#?}"
        );
        assert!(value.starts_with("hex:"), "a counter: {value}");
        found += 1;
    }
    assert_eq!(found, 2, "{scanned:#?}");
}

#[tokio::test]
async fn a_promotion_that_is_interrupted_says_how_things_stand() {
    let (broker, client, admin) = start().await;
    // Neither comes to rest: a record waits to be tried again.
    let waiting = DeploymentSpec {
        on_failure: FailurePolicy {
            first_back_off_ms: 600_000,
            longest_back_off_ms: 600_000,
            ..FailurePolicy::default_for(NAME)
        },
        ..spec()
    };
    admin
        .deploy_plugin(component(drill()), waiting)
        .await
        .unwrap();
    produce(&client, "in", ["!trap".to_owned()]).await;
    until("a record that waits", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        (described.workers.first()?.parked == 1).then_some(())
    })
    .await;
    admin.replay_plugin(NAME).await.unwrap();
    let mut command = broker.command(["plugin", "promote", NAME]);
    let mut promote = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let stderr = lines_of(promote.child().stderr.take().unwrap());
    line_with(&stderr, "promoting drill.shadow");
    promote.signal(Signal::INT);
    let told = line_with(
        &stderr,
        "the broker goes on with the promotion of drill.shadow",
    );
    assert!(
        told.contains("`millstream plugin history drill` ends with `promoted` when it is done")
            && told.contains("`millstream plugin promote drill --as drill.shadow` again"),
        "{told}"
    );
    assert_eq!(promote.wait().code(), Some(130));
}
