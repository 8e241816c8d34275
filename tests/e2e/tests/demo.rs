//! `millstream demo` and `millstream demo-cluster`: the main job and what a cluster survives, shown and
//! verified, and nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use millstream_e2e::artifacts::{millstream, plugins_target_dir, quake_alert, workspace};
use millstream_e2e::command::run;
use millstream_e2e::quakes::{ALERTS, EVENTS};

/// A demo, with folders of its own in place of the user's.
fn demo(folder: &Path, which: &str) -> Command {
    let mut command = Command::new(millstream());
    command
        .current_dir(workspace())
        .arg(which)
        .env("CARGO_TARGET_DIR", plugins_target_dir())
        .env("TMPDIR", folder.join("tmp"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_DATA_HOME", folder.join("share"))
        .env_remove("MILLSTREAM_PROFILE");
    command
}

#[test]
fn the_demo_succeeds_twice_in_a_row_and_leaves_nothing() {
    // Built before, so that the demo finds it fresh.
    quake_alert();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tmp")).unwrap();

    let shown = run(&mut demo(folder.path(), "demo")).success();
    assert!(shown.stdout.contains("records in: 1,707"), "{shown:#?}");
    assert!(shown.stdout.contains("alerts out: 85"), "{shown:#?}");
    for step in [
        "1. building",
        "2. started",
        "3. made",
        "4. deployed",
        "5. streaming",
        "6. stopped",
    ] {
        assert!(shown.stderr.contains(step), "{step} is missing: {shown:#?}");
    }

    let told = run(demo(folder.path(), "demo").args(["--output", "json"]))
        .success()
        .json();
    assert_eq!(
        (&told["records_in"], &told["alerts_out"]),
        (&EVENTS.into(), &ALERTS.into())
    );
    assert_eq!(told["lag"], 0);
    assert!(told["end_to_end_ms"].is_u64(), "{told}");

    nothing_is_left(folder.path());
}

fn nothing_is_left(folder: &Path) {
    let left = |name: &str| fs::read_dir(folder.join(name)).map_or(0, Iterator::count);
    assert_eq!(left("tmp"), 0, "the demo's data was not removed");
    assert_eq!(
        left("config") + left("share"),
        0,
        "the user's own folders were touched"
    );
}

#[test]
fn the_cluster_of_the_demo_loses_a_leader_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tmp")).unwrap();
    let mut demo = demo(folder.path(), "demo-cluster");
    let shown = run(demo.args(["--output", "json"])).success();
    let told = shown.json();
    assert_eq!((&told["lost"], &told["duplicated"]), (&0.into(), &0.into()));
    assert!(told["records"].as_u64() >= Some(3_000), "{told}");
    assert!(told["fail_over_ms"].as_u64() > Some(0), "{told}");
    assert!(told["catch_up_ms"].as_u64() > Some(0), "{told}");
    for step in ["1. making", "4. killed broker", "5. started", "7. ended"] {
        assert!(shown.stderr.contains(step), "{step} is missing: {shown:#?}");
    }
    // Before, during and after.
    let stands: Vec<_> = shown
        .stderr
        .match_indices("$ millstream cluster status")
        .collect();
    assert_eq!(stands.len(), 3, "{shown:#?}");
    assert_eq!(shown.stderr.matches("all is well").count(), 2, "{shown:#?}");
    assert!(shown.stderr.contains("is gone for"), "{shown:#?}");
    nothing_is_left(folder.path());
}

#[test]
fn the_demo_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = run(demo(folder.path(), "demo")
        .arg("--workspace")
        .arg(folder.path()));
    assert!(!elsewhere.status.success());
    assert!(elsewhere.stderr.contains("try: "), "{elsewhere:#?}");
}
