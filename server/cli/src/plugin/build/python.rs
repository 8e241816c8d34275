//! Python, by componentize-py in a virtual environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::kit;
use super::language::Folder;
use super::tool;
use super::workshop::Workshop;
use super::world::{Part, World};
use crate::errors::{Exit, Problem};
use crate::output::say;

/// What a plugin's own packages are listed in.
const REQUIREMENTS: &str = "requirements.txt";

/// The module that exports what the world asks for, and imports the plugin.
fn entry(world: &World) -> &'static str {
    if world.has(Part::Timers) {
        "millstream_plugin.timer_component"
    } else {
        "millstream_plugin.component"
    }
}

const NO_PYTHON: &str =
    "`apt-get install python3 python3-venv` (Debian), or see https://www.python.org/downloads";

pub(super) async fn build(
    folder: &Folder,
    workshop: &Workshop,
    world: &World,
) -> anyhow::Result<()> {
    let environment = workshop
        .toolchain(kit::PYTHON_REQUIREMENTS, make_environment)
        .await?;
    let wit = world.lay_out(workshop)?;
    let sdk = workshop.laid_out("sdk", kit::PYTHON_SDK)?;
    let packages = packages(folder, workshop, &environment).await?;

    let mut componentize = Command::new(environment.join("bin/componentize-py"));
    // Nothing but what is named here.
    componentize
        .env_remove("VIRTUAL_ENV")
        .env_remove("PYTHONPATH")
        .current_dir(workshop.part(""));
    componentize
        .args(["--quiet", "--world", World::NAME, "--wit-path"])
        .arg(wit);
    componentize.args(["componentize", entry(world), "--output"]);
    componentize.arg(workshop.component());
    for path in [Some(&folder.path), Some(&sdk), packages.as_ref()]
        .into_iter()
        .flatten()
    {
        componentize.arg("--python-path").arg(path);
    }
    say(format_args!("building {} (componentize-py)", folder.name));
    tool::build(&mut componentize, &folder.name, NO_PYTHON).await
}

/// A virtual environment with what turns Python into a component.
async fn make_environment(environment: &Path) -> anyhow::Result<()> {
    say(format_args!(
        "preparing to build plugins in Python, once for all of them, below {}",
        environment.display()
    ));
    say("  making a virtual environment (python3 -m venv)");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(environment);
    let status = tool::run(&mut venv, NO_PYTHON).await?;
    if !status.success() {
        let problem = "python3 cannot make a virtual environment";
        return Err(Problem::new(Exit::ToolMissing, problem)
            .advise("`apt-get install python3-venv` (Debian)")
            .into());
    }
    let requirements = environment.join(REQUIREMENTS);
    fs::write(&requirements, kit::PYTHON_REQUIREMENTS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    say("  fetching componentize-py (pip install): this takes most of the time");
    let mut install = pip(environment);
    install.arg("--requirement").arg(&requirements);
    tool::fetch(&mut install, "componentize-py", NO_PYTHON).await
}

/// The packages that the plugin itself needs, if any: those of pure Python alone can become part of a
/// component.
async fn packages(
    folder: &Folder,
    workshop: &Workshop,
    environment: &Path,
) -> anyhow::Result<Option<PathBuf>> {
    let requirements = folder.path.join(REQUIREMENTS);
    if !requirements.is_file() {
        return Ok(None);
    }
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let packages = workshop.part("packages");
    let installed = packages.join(".installed");
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return Ok(Some(packages));
    }
    say(format_args!(
        "fetching the packages of {REQUIREMENTS} (pip install)"
    ));
    let packages = workshop.laid_out("packages", &[])?;
    let mut install = pip(environment);
    install.args(["--only-binary", ":all:", "--platform", "any"]);
    install.args(["--implementation", "py", "--target"]);
    install
        .arg(&packages)
        .arg("--requirement")
        .arg(&requirements);
    tool::fetch(&mut install, "the plugin's packages", NO_PYTHON).await?;
    fs::write(&installed, wanted)
        .with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(Some(packages))
}

fn pip(environment: &Path) -> Command {
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.env_remove("PYTHONPATH");
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    pip
}
