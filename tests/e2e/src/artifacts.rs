//! What is built once for all tests of a process: the program, and the plugins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::command::{Finished, run};

/// The environment variable that names a program to test in place of the one that is built here.
pub const PROGRAM_VARIABLE: &str = "MILLSTREAM_E2E_PROGRAM";

/// The workspace's root.
pub fn workspace() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        root.canonicalize().expect("the workspace's root")
    })
}

/// The program, up to date.
pub fn millstream() -> &'static Path {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match std::env::var_os(PROGRAM_VARIABLE) {
        Some(path) => Ok(path.into()),
        None => build_program(&Build::of_this_process()),
    });
    built(program)
}

/// The component of `plugins/quake-alert`.
pub fn quake_alert() -> &'static Path {
    plugin("plugins/quake-alert")
}

/// The component of `plugins/quake-stats`.
pub fn quake_stats() -> &'static Path {
    plugin("plugins/quake-stats")
}

/// The component of `plugins/enrich`.
pub fn enrich() -> &'static Path {
    static COMPONENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(COMPONENT.get_or_init(|| build_plugin("plugins/enrich")))
}

/// The component of `plugins/dedupe`.
pub fn dedupe() -> &'static Path {
    plugin("plugins/dedupe")
}

/// The component of `tests/fixtures/drill`, which does what its input says.
pub fn drill() -> &'static Path {
    plugin("tests/fixtures/drill")
}

/// The component of the runtime's own tests that looks around as its input says.
pub fn probe() -> &'static Path {
    plugin("server/runtime/tests/guests/probe")
}

/// The component of the runtime's own tests that was written for `wasi:messaging`.
pub fn courier() -> &'static Path {
    plugin("server/runtime/tests/guests/courier")
}

/// The component of the plugin in this folder of the workspace, built by the program itself.
pub fn plugin(folder: &'static str) -> &'static Path {
    static COMPONENTS: Mutex<BTreeMap<&str, &Result<PathBuf, String>>> =
        Mutex::new(BTreeMap::new());
    // Held while one is built: two builds at once would take as long.
    let mut components = COMPONENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let component = components
        .entry(folder)
        .or_insert_with(|| Box::leak(Box::new(build_plugin(folder))));
    built(component)
}

/// The component of the runtime's own tests that asks servers what its input says.
pub fn asker() -> &'static Path {
    static COMPONENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(COMPONENT.get_or_init(|| build_plugin("server/runtime/tests/guests/asker")))
}

fn build_plugin(folder: &str) -> Result<PathBuf, String> {
    let mut build = plugin_build(&workspace().join(folder));
    Ok(component_of(&succeeded(&mut build)?))
}

/// The component of a plugin in a language whose tools may be missing: `None` when they are, which is
/// then said on standard error, also when the test succeeds.
pub fn if_tools_are_there(folder: &Path) -> Option<PathBuf> {
    const TOOL_MISSING: i32 = 8;
    let finished = run(&mut plugin_build(folder));
    if finished.code() == Some(TOOL_MISSING) {
        let folder = folder.strip_prefix(workspace()).unwrap_or(folder);
        let mut stderr = std::io::stderr().lock();
        // Where nobody can read it, nothing is lost.
        let _ = write!(stderr, "skipped {}: {}", folder.display(), finished.stderr);
        return None;
    }
    Some(component_of(&finished.success()))
}

/// The component of a plugin that is this one file, and the folder that it is in: `None` as with
/// [`if_tools_are_there`].
pub fn plugin_of_one_file(name: &str, marker: &str, source: &str) -> Option<(PathBuf, TempDir)> {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder
        .path()
        .join(format!("{name}-{marker}").replace('.', "-"));
    fs::create_dir(&plugin).expect("a folder");
    fs::write(plugin.join(marker), source).expect("a plugin");
    Some((if_tools_are_there(&plugin)?, folder))
}

fn plugin_build(folder: &Path) -> Command {
    let mut build = Command::new(millstream());
    build
        .args(["plugin", "build", "--target-dir"])
        .arg(plugins_target_dir())
        .arg(folder);
    build
}

/// The path that a build has printed.
fn component_of(built: &Finished) -> PathBuf {
    built.stdout.trim_end().into()
}

/// What was built, or a failure of every test that needs it: nobody tries again.
fn built(outcome: &'static Result<PathBuf, String>) -> &'static Path {
    match outcome {
        Ok(path) => path,
        Err(error) => panic!("{error}"),
    }
}

fn succeeded(command: &mut Command) -> Result<Finished, String> {
    let finished = run(command);
    if finished.status.success() {
        Ok(finished)
    } else {
        Err(format!(
            "{}: {}\n{}",
            finished.command, finished.status, finished.stderr
        ))
    }
}

/// Where the example plugins are built for tests.
pub fn plugins_target_dir() -> PathBuf {
    Build::of_this_process()
        .target_dir
        .join("tmp")
        .join("plugins")
}

/// How this very test was built.
struct Build {
    target_dir: PathBuf,
    /// The target's name, if one was asked for.
    triple: Option<OsString>,
    profile: OsString,
}

impl Build {
    /// Reads it off the test's own path, `<target dir>/[<triple>/]<profile>/deps/<test>`. Cargo
    /// marks the target directory with a tag.
    fn of_this_process() -> Self {
        let test = std::env::current_exe().expect("this test's own file");
        let profile_dir = test.ancestors().nth(2).expect("a profile's directory");
        let target_dir = profile_dir
            .ancestors()
            .skip(1)
            .find(|folder| folder.join("CACHEDIR.TAG").exists())
            .expect("cargo's target directory above this test");
        let place = profile_dir
            .strip_prefix(target_dir)
            .expect("a folder below it");
        let names: Vec<OsString> = place.iter().map(ToOwned::to_owned).collect();
        let (triple, profile) = match names.as_slice() {
            [profile] => (None, profile),
            [triple, profile] => (Some(triple.clone()), profile),
            _ => panic!("{} is no profile's directory", profile_dir.display()),
        };
        // The profile `dev` is the only one whose directory has another name.
        let profile = if profile == "debug" {
            "dev".into()
        } else {
            profile.clone()
        };
        Self {
            target_dir: target_dir.to_owned(),
            triple,
            profile,
        }
    }
}

/// Builds the program as this test was built. The whole workspace is named, and its examples, so that
/// cargo unites the same features as for `cargo test --workspace` and compiles nothing twice.
fn build_program(build: &Build) -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace())
        .args(["build", "--workspace", "--bin", "millstream", "--examples"])
        .args(["--message-format", "json-render-diagnostics", "--profile"])
        .arg(&build.profile)
        .arg("--target-dir")
        .arg(&build.target_dir);
    if let Some(triple) = &build.triple {
        cargo.arg("--target").arg(triple);
    }
    let executable = succeeded(&mut cargo)?
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find(|message| {
            message["target"]["name"] == "millstream" && message["executable"].is_string()
        })
        .and_then(|message| Some(message["executable"].as_str()?.into()))
        .expect("a program named millstream among what cargo built");
    Ok(executable)
}
