//! A plugin from its first line to a deployment that a file declares: made, run on a file of records,
//! deployed, deployed again.

use std::fs;
use std::path::Path;
use std::process::Command;

use millstream_e2e::artifacts::{
    drill, millstream, plugins_target_dir, probe, quake_alert, quake_stats, workspace,
};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{Finished, run, run_with_input};
use millstream_e2e::quakes::{self, ALERTS};
use serde_json::Value;

fn plugin_run(component: &Path) -> Command {
    let mut command = Command::new(millstream());
    command.args(["plugin", "run"]).arg(component);
    command
}

/// The alerts of a week, with these arguments.
fn alerts(args: &[&str]) -> Finished {
    let mut command = plugin_run(quake_alert());
    command.arg("--records").arg(quakes::path());
    run(command.args(["--output-name", "alerts"]).args(args))
}

/// What the drill makes of these lines.
fn drilled(lines: &str, args: &[&str]) -> Finished {
    let mut command = plugin_run(drill());
    command.args(["--records", "-", "--output-name", "out"]);
    run_with_input(command.args(args), lines)
}

#[test]
fn a_plugin_runs_on_a_file() {
    let all = alerts(&[]).success();
    assert_eq!(all.stdout.lines().count(), ALERTS);
    for line in all.stdout.lines() {
        let fields: Vec<&str> = line.splitn(3, '\t').collect();
        let alert: Value = serde_json::from_str(fields[2]).expect("an alert");
        assert_eq!(
            fields[..2],
            ["alerts", alert["net"].as_str().expect("a key")]
        );
    }
    assert!(
        all.stderr
            .contains("1,707 records: 85 emitted, 0 rejected, 0 to be retried, 0 failed"),
        "{all:#?}"
    );
    // Where one call ends and the next begins makes no difference.
    assert_eq!(
        alerts(&["--records-per-call", "7"]).success().stdout,
        all.stdout
    );
    assert!(
        alerts(&["--config", "min-mag=9"])
            .success()
            .stdout
            .is_empty()
    );

    let json = alerts(&["--output", "json", "--key-field", "id"]).success();
    let events = quakes::events();
    for line in json.stdout.lines() {
        let record: Value = serde_json::from_str(line).expect("an object a line");
        let offset = record["offset"].as_u64().expect("an offset") as usize;
        let alert: Value =
            serde_json::from_str(record["value"].as_str().expect("a value")).expect("an alert");
        assert_eq!(alert["id"].as_str(), Some(events[offset].id.as_str()));
        assert_eq!(record["output"], "alerts");
        assert_eq!(record["key"], alert["net"]);
        assert_eq!(record["headers"], Value::Array(Vec::new()));
        assert!(record["timestamp_ms"].is_i64());
    }
}

#[test]
fn a_plugin_is_run_with_what_it_is_granted() {
    let run_with = |lines: &str, args: &[&str], variable: Option<&str>| {
        let mut command = plugin_run(probe());
        command.args(["--records", "-", "--output-name", "found"]);
        command.env_remove("MILLSTREAM_SECRET_API_KEY");
        if let Some(value) = variable {
            command.env("MILLSTREAM_SECRET_API_KEY", value);
        }
        run_with_input(command.args(args), lines)
    };
    let value = |ran: &Finished| {
        let line = ran.stdout.lines().next().expect("a line");
        line.rsplit_once('\t').expect("a value").1.to_owned()
    };
    let granted = ["--grant", "secret=api-key"];

    let refused = run_with("secret\n", &[], Some("hunter2"));
    assert_eq!(refused.code(), Some(5), "{refused:#?}");
    let why = "imports `millstream:plugin/secrets@0.1.0`, but the deployment is granted no secret";
    assert!(refused.stderr.contains(why), "{refused:#?}");
    let missing = run_with("secret\n", &granted, None);
    assert_ne!(missing.code(), Some(0), "{missing:#?}");
    let why = "the secret api-key has no value";
    assert!(missing.stderr.contains(why), "{missing:#?}");

    let ran = run_with("secret\nlog secret\n", &granted, Some("hunter2")).success();
    assert_eq!(value(&ran), "hunter2");
    assert!(ran.stderr.contains("it is ***"), "{ran:#?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secrets.toml");
    fs::write(&file, "api-key = \"from the file\"\n").expect("a file");
    let secrets = ["--secrets", file.to_str().expect("a path")];
    let args = [&granted[..], &secrets].concat();
    let ran = run_with("secret\n", &args, Some("hunter2")).success();
    assert_eq!(value(&ran), "from the file");

    // The record's time is that of the first line of every file.
    let at_record = run_with("clock\n", &granted, Some("hunter2")).success();
    assert_eq!(value(&at_record), "1577836800000");
    let args = [&granted[..], &["--grant", "clocks"]].concat();
    let now = value(&run_with("clock\n", &args, Some("hunter2")).success());
    assert!(
        now.parse::<i64>().expect("a time") > 1_577_836_800_000,
        "{now}"
    );
}

#[test]
fn what_comes_out_is_compared_with_what_should() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = folder.path().join("expected.tsv");
    let path = expected.to_str().expect("a path");
    let all = alerts(&[]).success().stdout;
    fs::write(&expected, &all).expect("a file");
    alerts(&["--expect", path]).success();

    let third = all.lines().nth(2).expect("a third alert");
    fs::write(&expected, all.replace(third, "alerts\tnobody\t{}")).expect("a file");
    let differs = alerts(&["--expect", path]).exited(7);
    assert_eq!(differs.stdout, all);
    for text in [
        "line 3",
        "expected: alerts\\tnobody\\t{}",
        "found:    alerts\\t",
        "try:",
    ] {
        assert!(differs.stderr.contains(text), "{text}: {differs:#?}");
    }
}

#[test]
fn state_is_kept_from_call_to_call() {
    let counted = drilled("a/1\na/2\nb/1\na/3\n", &["--records-per-call", "2"]).success();
    let values: Vec<&str> = counted
        .stdout
        .lines()
        .map(|line| line.rsplit('\t').next().expect("a value"))
        .collect();
    // The value, its count, the partition, and what the one instance had seen.
    assert_eq!(values, ["a/1 1 0 1", "a/2 2 0 2", "b/1 1 0 3", "a/3 3 0 4"]);
    assert!(counted.stderr.contains("state: 2 entries"), "{counted:#?}");
}

#[test]
fn timers_fire_by_the_time_that_a_field_tells() {
    let folder = workspace().join("plugins/quake-stats/samples");
    let stats = |args: &[&str]| {
        let mut command = plugin_run(quake_stats());
        command.arg("--records").arg(folder.join("events.ndjson"));
        command.args(["--output-name", "stats", "--output-name", "late"]);
        command.args(["--key-field", "net", "--timestamp-field", "time"]);
        run(command.args(args))
    };
    // As its README says: an hour has ended when a later one has begun.
    let expected = folder.join("expected.tsv");
    let waiting = stats(&["--expect", expected.to_str().expect("a path")]).success();
    assert!(
        waiting.stderr.contains("\ntimers: 3 fired, 2 still wait"),
        "{waiting:#?}"
    );

    let all = stats(&["--fire-timers", "--output", "json"]).success();
    let fired: Vec<Value> = all
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .filter(|record: &Value| record["output"] == "stats")
        .collect();
    assert_eq!(fired.len(), 5);
    for record in &fired {
        let stats: Value =
            serde_json::from_str(record["value"].as_str().expect("a value")).expect("figures");
        assert_eq!(record["offset"], Value::Null);
        assert_eq!(record["timer"]["clock"], "record-time");
        assert_eq!(record["timer"]["at_ms"], stats["to"]);
    }

    let mut command = plugin_run(quake_stats());
    command.args([
        "--records",
        "-",
        "--output-name",
        "stats",
        "--timestamp-field",
        "time",
    ]);
    let bad = run_with_input(&mut command, "{\"net\":\"us\"}\n").exited(1);
    assert!(bad.stderr.contains("it has no field time"), "{bad:#?}");
}

#[test]
fn what_fails_is_told_by_its_offset_and_the_others_count() {
    let lines = "a/1\n!reject no such thing\na/2\n!trap\na/3\n!retry 5\na/4\n";
    let failed = drilled(lines, &[]).exited(1);
    let counts: Vec<&str> = failed
        .stdout
        .lines()
        .map(|line| line.split(' ').nth(1).expect("a count"))
        .collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    for text in [
        "rejected offset 1 (line 2): no such thing",
        "the call with offsets 0 to 6 failed, looking for the record: trapped",
        "failed offset 3 (line 4): trapped",
        "offset 5 (line 6): as asked",
        "7 records: 4 emitted, 1 rejected, 1 to be retried, 1 failed",
        "error: 1 record failed",
    ] {
        assert!(failed.stderr.contains(text), "{text}: {failed:#?}");
    }
    // A guest that never returns is stopped.
    let stuck = drilled("a/1\n!loop\n", &["--deadline", "100ms"]).exited(1);
    assert!(
        stuck
            .stderr
            .contains("failed offset 1 (line 2): deadline of 100 ms exceeded"),
        "{stuck:#?}"
    );
}

#[test]
fn a_plugin_that_does_not_start_says_what_to_try() {
    let mut command = plugin_run(quake_alert());
    let refused = run(command.arg("--records").arg(quakes::path())).exited(1);
    for text in ["declares no output `alerts`", "--output-name"] {
        assert!(refused.stderr.contains(text), "{text}: {refused:#?}");
    }
}

#[test]
fn a_new_plugin_works_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = |args: &[&str]| {
        let mut command = Command::new(millstream());
        command.current_dir(folder.path()).args(args);
        command
    };
    let sdk = workspace().join("sdk/plugin");
    let made = run(program(&["plugin", "new", "heat-watch", "--sdk"]).arg(sdk)).success();
    assert_eq!(made.stdout, "heat-watch\n");
    let made = folder.path().join("heat-watch");
    // The versions that are there for another plugin will do, without asking a registry.
    fs::copy(
        workspace().join("plugins/quake-alert/Cargo.lock"),
        made.join("Cargo.lock"),
    )
    .expect("a copy");

    // What the program says to do next, word for word.
    let readme = fs::read_to_string(made.join("README.md")).expect("a README");
    let line = readme
        .lines()
        .find_map(|line| line.strip_prefix("millstream plugin run "))
        .expect("how to run it");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = program(&["plugin", "run"]);
    command
        .args(words)
        .current_dir(&made)
        .env("CARGO_TARGET_DIR", plugins_target_dir());
    let ran = run(&mut command).success();
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:#?}");
    assert!(ran.stderr.contains("rejected offset 3"), "{ran:#?}");

    let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    test.current_dir(&made)
        .args(["test", "--quiet"])
        .env("CARGO_TARGET_DIR", plugins_target_dir());
    run(&mut test).success();

    let found = run(program(&["plugin", "new", "other", "--sdk"]).arg(workspace())).success();
    assert!(!found.stderr.contains("--sdk"), "{found:#?}");
    // No registry has the SDK.
    let lone = run(&mut program(&["plugin", "new", "lone"])).exited(4);
    assert!(
        lone.stderr
            .contains("millstream plugin new lone --sdk PATH"),
        "{lone:#?}"
    );
    run(program(&["plugin", "new", "heat-watch", "--sdk"]).arg(workspace())).exited(5);
    run(&mut program(&["plugin", "new", "heat watch"])).exited(2);
    let other = run(&mut program(&["plugin", "new", "x", "--language", "cobol"])).exited(2);
    assert!(other.stderr.contains("possible values: rust"), "{other:#?}");
}

#[test]
fn a_declared_deployment_changes_only_when_its_file_does() {
    let broker = Broker::start();
    let file = broker.folder().join("deployment.toml");
    let declare = |min_mag: &str| {
        let component = quake_alert().to_str().expect("a path");
        let text = format!(
            "name = \"quake-alert\"\ncomponent = {component:?}\ninputs = [\"quakes\"]\n\
             create-topics = true\npartitions = 2\n[outputs]\nalerts = \"alerts\"\n\
             [config]\nmin-mag = {min_mag}\n"
        );
        fs::write(&file, text).expect("a file");
    };
    let deploy = |more: &[&str]| {
        let mut command = broker.command(["plugin", "deploy", "--output", "json", "-f"]);
        run(command.arg(&file).args(more))
    };
    declare("4.5");
    let first = deploy(&[]).success().json();
    // What is shown has the workers, which begin a moment after they were deployed.
    assert_eq!(first["workers"].as_array().map(Vec::len), Some(2));
    let again = deploy(&[]).success();
    assert!(again.stderr.contains("nothing changed"), "{again:#?}");
    assert_eq!(again.json()["deployed_at_ms"], first["deployed_at_ms"]);
    assert_eq!(again.json()["digest"], first["digest"]);

    declare("5.5");
    let differs = deploy(&[]).exited(5).json_error();
    assert!(
        differs["message"]
            .as_str()
            .is_some_and(|message| message.ends_with("it differs in config min-mag: 4.5 → 5.5")),
        "{differs}"
    );
    assert!(
        differs["try"]
            .as_str()
            .is_some_and(|advice| advice.contains("--replace")),
        "{differs}"
    );
    let replaced = deploy(&["--replace"]).success().json();
    assert_eq!(replaced["config"][0]["value"], "5.5");
    assert_ne!(replaced["deployed_at_ms"], first["deployed_at_ms"]);
    // Even then, the same again changes nothing.
    let again = deploy(&["--replace"]).success().json();
    assert_eq!(again["deployed_at_ms"], replaced["deployed_at_ms"]);
}
