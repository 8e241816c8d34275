//! Plugins in Python, JavaScript and C: made, built from source, run on a file, and at work in a broker.
//! A language whose tools cannot be had is skipped, and it is said why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use millstream::Position;
use millstream_e2e::artifacts::{if_tools_are_there, millstream, plugins_target_dir, workspace};
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
}

const PYTHON: Example = Example {
    name: "felt-digest",
    topic: "felt-digests",
    outputs: 128,
};

const JAVASCRIPT: Example = Example {
    name: "quake-geojson",
    topic: "quake-features",
    outputs: 10 + EVENTS,
};

const C: Example = Example {
    name: "quake-csv",
    topic: "quake-rows",
    outputs: 11 + EVENTS,
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
        let alone = run(alone.arg("--records").arg(&records)).success();
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
        .args(["--expect", "samples/expected.tsv"]);
    let ran = run(&mut command).success();
    for text in [
        "log info plugin.",
        "readings above 30",
        "rejected offset 3 (line 4): expected the fields sensor and celsius",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {ran:#?}");
    }
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
fn a_missing_tool_is_named_with_how_to_install_it() {
    let folder = tempfile::tempdir().expect("a folder");
    // Where there are no tools at all.
    let nowhere = folder.path().join("nowhere");
    let check = |marker: &str, tool: &str, advice: &str| {
        let plugin = folder.path().join(tool);
        fs::create_dir(&plugin).expect("a folder");
        fs::write(plugin.join(marker), "").expect("a file");
        let mut build = Command::new(millstream());
        build.args(["plugin", "build"]).arg(&plugin);
        build.env("PATH", &nowhere).env_remove("WASI_SDK_PATH");
        let refused = run(&mut build).exited(8);
        for text in [&format!("error: {tool} is not installed"), advice] {
            assert!(refused.stderr.contains(text), "{text}: {refused:#?}");
        }
    };
    check(
        "plugin.py",
        "python3",
        "apt-get install python3 python3-venv",
    );
    check("plugin.js", "npm", "apt-get install nodejs npm");
    check(
        "plugin.c",
        "clang",
        "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32",
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
