//! Plugins in Python, JavaScript and C: made, built from source, run on a file, and at work in a broker.
//! A language whose tools cannot be had is skipped, and it is said why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use millstream::Position;
use millstream_e2e::artifacts::{
    if_tools_are_there, millstream, plugin_of_one_file, plugins_target_dir, workspace,
};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::deployment::file_of;
use millstream_e2e::history::History;
use millstream_e2e::patience::within;
use millstream_e2e::quakes::{self, EVENTS};

/// An example plugin.
struct Example {
    name: &'static str,
    /// Where its outputs go, by its deployment file.
    topic: &'static str,
    /// How many there are for its sample and a week of earthquakes.
    outputs: usize,
    /// How many timers these set.
    timers: usize,
}

const PYTHON: Example = Example {
    name: "felt-digest",
    topic: "felt-digests",
    outputs: 128,
    timers: 8,
};

const JAVASCRIPT: Example = Example {
    name: "quake-geojson",
    topic: "quake-features",
    outputs: 10 + EVENTS,
    timers: 0,
};

const C: Example = Example {
    name: "quake-csv",
    topic: "quake-rows",
    outputs: 11 + EVENTS,
    timers: 0,
};

/// An example that was built, and its deployment file with the component in place of its folder.
struct Built {
    example: Example,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Example {
    fn source(&self) -> PathBuf {
        workspace().join("plugins").join(self.name)
    }

    /// Built, if its tools are there.
    fn build(self) -> Option<Built> {
        let component = if_tools_are_there(&self.source())?;
        let folder = tempfile::tempdir().expect("a folder");
        let file = file_of(self.name, &component, folder.path());
        Some(Built {
            example: self,
            file,
            folder,
        })
    }
}

impl Built {
    /// Runs it on its sample and a week of earthquakes behind it, once without a broker and once in
    /// one: each time a component is compiled anew, which takes long for one in Python. What comes of
    /// the sample is what its folder says, and what comes of all is the same in both.
    async fn works_alone_and_in_a_broker(&self) {
        let samples = self.example.source().join("samples");
        let read = |path: &Path| fs::read_to_string(path).expect("a fixture");
        let records = self.folder.path().join("records.ndjson");
        let sample = read(&samples.join("records.ndjson"));
        fs::write(&records, sample + &read(&quakes::path())).expect("a file of records");

        let mut alone = Command::new(millstream());
        alone.args(["plugin", "run", "-f"]).arg(&self.file);
        alone.arg("--fire-timers").arg("--records").arg(&records);
        let alone = run(&mut alone).success();
        assert!(alone.stderr.contains("rejected offset"), "{alone:#?}");
        let of_sample = read(&samples.join("expected.tsv"));
        assert!(
            !of_sample.is_empty() && alone.stdout.starts_with(&of_sample),
            "{alone:#?}"
        );
        let expected: Vec<&str> = alone
            .stdout
            .lines()
            .map(|line| line.splitn(3, '\t').nth(2).expect("a value"))
            .collect();
        assert_eq!(expected.len(), self.example.outputs);
        let fired = format!("\ntimers: {} fired\n", self.example.timers);
        assert_eq!(
            alone.stderr.contains(&fired),
            self.example.timers > 0,
            "{alone:#?}"
        );

        let broker = Broker::start();
        run(broker.command(["plugin", "deploy", "-f"]).arg(&self.file)).success();
        run(broker.command(["produce", "earthquakes"]).arg(&records)).success();

        let client = broker.client().await;
        let topics = client.consumer().topics([self.example.topic]);
        let consumer = topics.start(Position::Earliest).build();
        let mut consumer = within("a consumer", consumer).await.expect("a consumer");
        let history = History::take(&mut consumer, expected.len()).await;
        let found: Vec<String> = history
            .records()
            .map(|record| {
                let value = record.value.as_deref().expect("a value");
                String::from_utf8(value.to_vec()).expect("a text")
            })
            .collect();
        assert_eq!(found, expected);
    }
}

/// Sets and cancels what its records say: `set CLOCK KEY DELAY`, and `long` a timer whose key is too large.
/// A timer does what its key says, and emits its clock and time.
const TIMERS_IN_JAVASCRIPT: &str = r#"
import { Reject, Retry, decode, timers } from "millstream-plugin";

export default class Plugin {
  constructor(context) {
    this.fired = context.output("fired");
  }

  handle(record) {
    const [what, clock, key, delay] = record.text().split(" ");
    if (what === "set") timers.set(clock, key, record.timestampMs + Number(delay));
    else if (what === "cancel") timers.cancel(clock, key);
    else timers.set("wall-time", new Uint8Array(1025), 0);
  }

  onTimer({ clock, key, atMs }, out) {
    out.emit(this.fired, { key, value: `${clock} ${atMs}` });
    if (decode(key) === "reject") throw new Reject("as told");
    if (decode(key) === "retry") throw new Retry(1500, "later");
    if (decode(key) === "again") timers.set(clock, "last", atMs + 2000);
  }
}
"#;

const TIMERS_IN_C: &str = r#"
#include <millstream.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static ms_output fired;

ms_result init(const ms_context *context) {
    return ms_find_output(context, "fired", &fired);
}

ms_result handle(const ms_record *record) {
    static const uint8_t long_key[1025];
    char what[8], clock_name[16], key[16];
    long long delay = 0;
    ms_bytes line = ms_format("%.*s%c", MS_ARG(record->value), 0);
    int found = sscanf((const char *)line.data, "%7s %15s %15s %lld", what, clock_name, key, &delay);
    if (found < 3)
        return ms_timer_set(MS_WALL_TIME, (ms_bytes){long_key, sizeof long_key}, 0);
    ms_clock clock = strcmp(clock_name, "wall-time") == 0 ? MS_WALL_TIME : MS_RECORD_TIME;
    if (strcmp(what, "set") == 0)
        return ms_timer_set(clock, ms_text(key), record->timestamp_ms + delay);
    return ms_timer_cancel(clock, ms_text(key));
}

ms_result on_timer(const ms_timer *timer) {
    const char *clock = timer->clock == MS_WALL_TIME ? "wall-time" : "record-time";
    ms_new_record told = {.key = timer->key, .value = ms_format("%s %" PRId64, clock, timer->at_ms)};
    if (ms_emit(fired, &told) != MS_OK)
        return MS_FAILED;
    if (ms_equal(timer->key, ms_text("reject")))
        return ms_reject("as told");
    if (ms_equal(timer->key, ms_text("retry")))
        return ms_retry(1500, "later");
    if (ms_equal(timer->key, ms_text("again")))
        return ms_timer_set(timer->clock, ms_text("last"), timer->at_ms + 2000);
    return MS_OK;
}
"#;

/// A plugin of this one file has itself called by the timers that it sets, if its tools are there. The
/// records of a file are a millisecond apart, the first at 2020-01-01T00:00:00Z.
fn timers_fire(marker: &str, source: &str) {
    const BEGIN_MS: i64 = 1_577_836_800_000;
    let Some((component, folder)) = plugin_of_one_file("timers", marker, source) else {
        return;
    };
    let records = folder.path().join("records");
    let lines = "set record-time reject 1\nset record-time first -5\nset record-time gone 2\n\
        cancel record-time gone\nset wall-time wall 1000\nset record-time retry 0\nlong\n\
        set record-time again 0\n";
    fs::write(&records, lines).expect("a file of records");
    let mut command = Command::new(millstream());
    command
        .args(["--output", "json", "plugin", "run"])
        .arg(component);
    command.args(["--output-name", "fired", "--fire-timers", "--records"]);
    let ran = run(command.arg(&records)).success();

    for text in [
        "rejected offset 6 (line 7): too large for a timer: a key of 1025 bytes, more than 1024",
        "as told",
        "later",
        "4 emitted, 2 rejected, 1 to be retried, 0 failed",
        "timers: 6 fired\n",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {ran:#?}");
    }
    let fired: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| {
            let emitted: serde_json::Value = serde_json::from_str(line).expect("an object");
            let text = |field: &str| emitted[field].as_str().expect("a text").to_owned();
            let after_ms = emitted["timestamp_ms"].as_i64().expect("a time") - BEGIN_MS;
            (text("key"), text("value"), after_ms)
        })
        .collect();
    let expected = [
        ("first", "record-time", -4),
        ("again", "record-time", 7),
        ("wall", "wall-time", 1004),
        ("last", "record-time", 2007),
    ];
    let expected = expected.map(|(key, clock, after_ms)| {
        (
            key.to_owned(),
            format!("{clock} {}", BEGIN_MS + after_ms),
            after_ms,
        )
    });
    assert_eq!(fired, expected, "{ran:#?}");
}

/// What the build of a plugin of this one file says when it fails; nothing where its tools are missing.
fn refused(folder: &Path, marker: &str, source: &str) -> Option<String> {
    fs::write(folder.join(marker), source).expect("a plugin");
    let mut build = Command::new(millstream());
    build.args(["plugin", "build", "--target-dir"]);
    let built = run(build.arg(plugins_target_dir()).arg(folder));
    (built.code() != Some(8)).then(|| built.exited(1).stderr)
}

/// A new plugin in this language does what its sample says. Gives its folder, if its tools are there.
fn a_new_plugin_works(language: &str) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut new = Command::new(millstream());
    new.current_dir(folder.path())
        .args(["plugin", "new", "heat-watch", "--language", language]);
    run(&mut new).success();
    let made = folder.path().join("heat-watch");
    let component = if_tools_are_there(&made)?;
    let mut command = Command::new(millstream());
    command
        .current_dir(&made)
        .args(["plugin", "run"])
        .arg(component)
        .args([
            "--records",
            "samples/records.ndjson",
            "--key-field",
            "sensor",
        ])
        .args(["--output-name", "hot", "--config", "limit=30"])
        // A key that is misspelt is seen, whatever the language.
        .args(["--config", "limti=20"])
        .args(["--expect", "samples/expected.tsv"]);
    let ran = run(&mut command).success();
    for text in [
        "log info plugin.",
        "readings above 30",
        "rejected offset 3 (line 4): expected the fields sensor and celsius",
        "the config key `limti` was never asked for",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {ran:#?}");
    }
    assert!(!ran.stderr.contains("`limit`"), "{ran:#?}");
    Some(folder)
}

#[test]
fn a_new_plugin_in_python_works_and_is_tested() {
    let Some(folder) = a_new_plugin_works("python") else {
        return;
    };
    let mut test = Command::new("python3");
    test.current_dir(folder.path().join("heat-watch"))
        .args(["-m", "unittest"])
        .env(
            "PYTHONPATH",
            plugins_target_dir().join("python/heat-watch/sdk"),
        );
    let tested = run(&mut test).success();
    assert!(tested.stderr.contains("Ran 3 tests"), "{tested:#?}");
}

#[test]
fn a_new_plugin_in_javascript_works_and_is_tested() {
    let Some(folder) = a_new_plugin_works("javascript") else {
        return;
    };
    let mut test = Command::new("node");
    test.current_dir(folder.path().join("heat-watch"))
        .arg("--test");
    let tested = run(&mut test).success();
    assert!(tested.stdout.contains("# pass 3"), "{tested:#?}");
}

#[test]
fn a_new_plugin_in_c_works() {
    a_new_plugin_works("c");
}

#[tokio::test]
async fn a_plugin_in_python_works_alone_and_in_a_broker() {
    if let Some(built) = PYTHON.build() {
        built.works_alone_and_in_a_broker().await;
    }
}

#[tokio::test]
async fn a_plugin_in_javascript_works_alone_and_in_a_broker() {
    if let Some(built) = JAVASCRIPT.build() {
        built.works_alone_and_in_a_broker().await;
    }
}

#[tokio::test]
async fn a_plugin_in_c_works_alone_and_in_a_broker() {
    if let Some(built) = C.build() {
        built.works_alone_and_in_a_broker().await;
    }
}

#[test]
fn timers_fire_in_javascript() {
    timers_fire("plugin.js", TIMERS_IN_JAVASCRIPT);
}

#[test]
fn timers_fire_in_c() {
    timers_fire("plugin.c", TIMERS_IN_C);
}

#[test]
fn what_a_plugin_uses_has_to_be_imported_where_it_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |marker: &str, source: &str, (file, elsewhere): (&str, &str), reason: &str| {
        fs::write(folder.path().join(file), elsewhere).expect("a file");
        if let Some(said) = refused(folder.path(), marker, source) {
            assert!(said.contains(reason), "{reason}: {said}");
        }
        fs::remove_file(folder.path().join(marker)).expect("a plugin");
    };
    check(
        "plugin.py",
        "import elsewhere\n\nclass Plugin:\n    pass\n",
        (
            "elsewhere.py",
            "from millstream_plugin.tables import Table\n",
        ),
        "`millstream_plugin.tables` is used, but not imported by plugin.py: write \
            `from millstream_plugin import tables` at its top",
    );
    let elsewhere = (
        "elsewhere.js",
        "export { secrets } from \"millstream-plugin/secrets\";",
    );
    check(
        "plugin.js",
        "import \"./elsewhere.js\";\nexport default class Plugin {}",
        elsewhere,
        "\"millstream-plugin/secrets\" is imported, and not by plugin.js: write \
            `import \"millstream-plugin/secrets\";` there",
    );
    check(
        "plugin.js",
        "// import \"millstream-plugin/tables\"\nexport default class Plugin {}",
        elsewhere,
        "plugin.js names \"millstream-plugin/tables\" and does not import it",
    );
}

#[test]
fn what_timers_would_call_has_to_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |marker: &str, source: &str, reason: &str| {
        if let Some(said) = refused(folder.path(), marker, source) {
            assert!(said.contains(reason), "{reason}: {said}");
        }
        fs::remove_file(folder.path().join(marker)).expect("a plugin");
    };
    let deaf = TIMERS_IN_C.replace("on_timer", "some_timer");
    let reason =
        "'ms_timer_set' is unavailable: timers call a function `on_timer`: plugin.c names none";
    check("plugin.c", &deaf, reason);
    let elsewhere =
        "class Base { ['on' + 'Timer']() {} }\nexport default class Plugin extends Base {}";
    let reason = "has an `onTimer` that plugin.js does not name";
    check("plugin.js", elsewhere, reason);
    let reason = "plugin.js names `onTimer`, but the class that it exports has no such method";
    check(
        "plugin.js",
        "export default class Plugin {} // without onTimer",
        reason,
    );
}

#[test]
fn a_missing_tool_is_named_with_how_to_install_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // Where there are no tools at all.
    let nowhere = folder.path().join("nowhere");
    let check = |marker: &str, tool: &str, advice: &str, step: &str| {
        let plugin = folder.path().join(tool);
        fs::create_dir(&plugin).expect("a folder");
        fs::write(plugin.join(marker), "").expect("a file");
        let mut build = Command::new(millstream());
        build.args(["plugin", "build"]).arg(&plugin);
        build.env("PATH", &nowhere).env_remove("WASI_SDK_PATH");
        let refused = run(&mut build).exited(8);
        // What takes long the first time is said before it begins.
        for text in [&format!("error: {tool} is not installed"), advice, step] {
            assert!(refused.stderr.contains(text), "{text}: {refused:#?}");
        }
    };
    check(
        "plugin.py",
        "python3",
        "apt-get install python3 python3-venv",
        "making a virtual environment",
    );
    check(
        "plugin.js",
        "npm",
        "apt-get install nodejs npm",
        "fetching componentize-qjs",
    );
    check(
        "plugin.c",
        "clang",
        "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32",
        "",
    );
}

#[test]
fn a_plugin_that_cannot_be_built_fails_by_its_own_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("plugin.c"), "int init(").expect("a file");
    let mut build = Command::new(millstream());
    let built = run(build.args(["plugin", "build"]).arg(folder.path()));
    if built.code() != Some(8) {
        let failed = built.exited(1);
        assert!(
            failed.stderr.contains("clang could not build"),
            "{failed:#?}"
        );
    }
}
