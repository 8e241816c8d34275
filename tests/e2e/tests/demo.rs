//! `millstream demo`: the main job, shown and verified, and nothing left behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use millstream_e2e::artifacts::{millstream, plugins_target_dir, quake_alert, workspace};
use millstream_e2e::command::run;
use millstream_e2e::quakes::{ALERTS, EVENTS};

/// The demo, with folders of its own in place of the user's.
fn demo(folder: &Path) -> Command {
    let mut command = Command::new(millstream());
    command
        .current_dir(workspace())
        .arg("demo")
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

    let shown = run(&mut demo(folder.path())).success();
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

    let told = run(demo(folder.path()).args(["--output", "json"]))
        .success()
        .json();
    assert_eq!(
        (&told["records_in"], &told["alerts_out"]),
        (&EVENTS.into(), &ALERTS.into())
    );
    assert_eq!(told["lag"], 0);
    assert!(told["end_to_end_ms"].is_u64(), "{told}");

    let left = |name: &str| fs::read_dir(folder.path().join(name)).map_or(0, Iterator::count);
    assert_eq!(left("tmp"), 0, "the demo's data was not removed");
    assert_eq!(
        left("config") + left("share"),
        0,
        "the user's own folders were touched"
    );
}

#[test]
fn the_demo_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = run(demo(folder.path()).arg("--workspace").arg(folder.path()));
    assert!(!elsewhere.status.success());
    assert!(elsewhere.stderr.contains("try: "), "{elsewhere:#?}");
}
