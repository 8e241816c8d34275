//! Rust, by cargo.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::BuildArgs;
use crate::child::Child;
use crate::errors::{Exit, Problem};

/// What plugins are compiled for: Rust's standard library on WASI 0.2, as components.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// What cargo may say on its standard output, bytes.
const MAX_CARGO_OUTPUT_BYTES: u64 = 256 << 20;

/// Builds the crate in `folder`, optimised. Gives its name and its component. Cargo's own words go to
/// standard error.
pub(super) async fn build(args: &BuildArgs, folder: &Path) -> anyhow::Result<(String, PathBuf)> {
    let manifest = folder.join("Cargo.toml");
    let state = target_state(folder)?;
    if state != TargetState::Usable {
        return Err(target_missing(state).into());
    }

    let mut cargo = Command::new(program("CARGO", "cargo"));
    // In the crate's folder, so that its toolchain file and cargo configuration apply.
    cargo
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    cargo.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    cargo.arg("--manifest-path").arg(&manifest);
    if let Some(target_dir) = &args.target_dir {
        cargo
            .arg("--target-dir")
            .arg(std::path::absolute(target_dir)?);
    }
    cargo.args(&args.arguments);

    let artifacts = run(cargo, &manifest).await?;
    Ok(choose(artifacts, &manifest)?)
}

/// A program of the Rust toolchain, as the variable that cargo itself knows names it.
fn program(variable: &str, usual: &str) -> OsString {
    std::env::var_os(variable)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| usual.into())
}

/// Can the toolchain build components?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetState {
    /// It can, or it cannot be asked: then cargo says why.
    Usable,
    /// The target is missing, and rustup could add it.
    Addable,
    /// The target is missing, and so is rustup.
    Missing,
}

/// Looks whether the toolchain that is used in `folder` has the target.
pub(crate) fn target_state(folder: &Path) -> anyhow::Result<TargetState> {
    let mut rustc = Command::new(program("RUSTC", "rustc"));
    rustc
        .current_dir(folder)
        .args(["--print", "target-libdir", "--target", TARGET]);
    let printed = rustc
        .output()
        .map_err(|error| toolchain_error("rustc", error))?;
    let libraries = String::from_utf8_lossy(&printed.stdout);
    if !printed.status.success() || Path::new(libraries.trim()).exists() {
        return Ok(TargetState::Usable);
    }
    let rustup = Command::new("rustup").arg("--version").output();
    let has_rustup = rustup.is_ok_and(|printed| printed.status.success());
    Ok(if has_rustup {
        TargetState::Addable
    } else {
        TargetState::Missing
    })
}

/// That the target is missing, and what to do.
pub(crate) fn target_missing(state: TargetState) -> Problem {
    let problem = Problem::new(
        Exit::ToolMissing,
        format!("the Rust target {TARGET} is not installed"),
    );
    match state {
        TargetState::Usable | TargetState::Addable => {
            problem.advise(format!("`rustup target add {TARGET}`"))
        }
        TargetState::Missing => problem.advise(format!(
            "install rustup (https://rustup.rs), then `rustup target add {TARGET}`"
        )),
    }
}

fn toolchain_error(name: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = Problem::new(Exit::ToolMissing, format!("cannot run {name}"));
            anyhow!(error).context(problem.advise("install Rust (https://rustup.rs)"))
        }
        _ => anyhow!(error).context(Problem::new(Exit::Failure, format!("cannot run {name}"))),
    }
}

/// One line of cargo's standard output.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    kind: Vec<String>,
}

/// A component as cargo names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Artifact {
    manifest: PathBuf,
    name: String,
    file: PathBuf,
}

/// Runs cargo and gives the components that it has built or found fresh.
async fn run(mut cargo: Command, manifest: &Path) -> anyhow::Result<Vec<Artifact>> {
    let mut child = Child::spawn(&mut cargo).map_err(|error| toolchain_error("cargo", error))?;
    let stdout = child
        .take_stdout()
        .context("cargo has no standard output")?;
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        // Nobody is there to be told when the build was interrupted.
        let _ = tell.send(read_artifacts(BufReader::new(
            stdout.take(MAX_CARGO_OUTPUT_BYTES),
        )));
    });
    let artifacts = told
        .await
        .context("cargo's output was not read")?
        .context("cannot read cargo's output")?;
    let status = child.wait().await.context("cannot wait for cargo")?;
    if !status.success() {
        return Err(Problem::new(
            Exit::Failure,
            format!("cargo could not build {}: {status}", manifest.display()),
        )
        .advise("what cargo says above names the reason")
        .into());
    }
    Ok(artifacts)
}

/// Reads the components from cargo's messages. Lines that are none are passed over: build scripts
/// may print what they like.
fn read_artifacts(mut lines: impl BufRead) -> io::Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Ok(message) = serde_json::from_slice::<Message>(&line) {
            artifacts.extend(component_of(message));
        }
        line.clear();
    }
    Ok(artifacts)
}

fn component_of(message: Message) -> Option<Artifact> {
    let target = message
        .target
        .filter(|target| target.kind.iter().any(|kind| kind == "cdylib"))?;
    if message.reason != "compiler-artifact" {
        return None;
    }
    let file = message
        .filenames
        .into_iter()
        .find(|file| file.extension().is_some_and(|ext| ext == "wasm"))?;
    Some(Artifact {
        manifest: message.manifest_path?,
        name: target.name.replace('_', "-"),
        file,
    })
}

/// The component of this crate; of a workspace's only plugin, if the manifest is a workspace's.
fn choose(mut artifacts: Vec<Artifact>, manifest: &Path) -> Result<(String, PathBuf), Problem> {
    if let Some(own) = artifacts
        .iter()
        .position(|artifact| artifact.manifest == manifest)
    {
        let own = artifacts.swap_remove(own);
        return Ok((own.name, own.file));
    }
    match (artifacts.pop(), artifacts.len()) {
        (Some(only), 0) => Ok((only.name, only.file)),
        (Some(_), more) => Err(Problem::usage(format!("{} builds {} components", manifest.display(), more + 1))
            .advise("name the folder of one crate")),
        (None, _) => Err(Problem::usage(format!("{} builds no component", manifest.display()))
            .advise("a plugin is a library: add `crate-type = [\"cdylib\"]` below [lib] in its Cargo.toml")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(krate: &str) -> Artifact {
        Artifact {
            manifest: format!("/w/{krate}/Cargo.toml").into(),
            name: krate.to_owned(),
            file: format!("/t/{krate}.wasm").into(),
        }
    }

    #[test]
    fn components_are_read_from_what_cargo_says() {
        let said = r#"
{"reason":"compiler-artifact","manifest_path":"/r/serde/Cargo.toml","target":{"name":"serde","kind":["lib"]},"filenames":["/t/libserde.rlib"]}
a build script's own words
{"reason":"compiler-artifact","manifest_path":"/w/quake-alert/Cargo.toml","target":{"name":"quake_alert","kind":["cdylib","rlib"]},"filenames":["/t/quake_alert.wasm","/t/libquake_alert.rlib"]}
{"reason":"compiler-artifact","manifest_path":"/w/tool/Cargo.toml","target":{"name":"tool","kind":["bin"]},"filenames":["/t/tool.wasm"]}
{"reason":"build-finished","success":true}
"#;
        let expected = Artifact {
            file: "/t/quake_alert.wasm".into(),
            ..artifact("quake-alert")
        };
        assert_eq!(read_artifacts(said.as_bytes()).unwrap(), [expected]);
    }

    #[test]
    fn the_crates_own_component_is_chosen() {
        let both = vec![artifact("a"), artifact("b")];
        assert_eq!(
            choose(both.clone(), Path::new("/w/b/Cargo.toml"))
                .unwrap()
                .1,
            Path::new("/t/b.wasm")
        );
        assert_eq!(
            choose(vec![artifact("a")], Path::new("/w/Cargo.toml"))
                .unwrap()
                .0,
            "a"
        );
        insta::assert_snapshot!(choose(both, Path::new("/w/Cargo.toml")).unwrap_err(), @"/w/Cargo.toml builds 2 components");
        insta::assert_snapshot!(choose(Vec::new(), Path::new("/w/Cargo.toml")).unwrap_err(), @"/w/Cargo.toml builds no component");
    }
}
