//! `millstream plugin build`: from a plugin's folder to a component.
//!
//! Rust is built by cargo, as it would be without this program. For the other languages this program
//! brings along what it takes (`wit/`, the SDKs, the versions of the tools) and keeps tools and
//! results below a folder `target`; nothing is installed anywhere else.
//!
//! # Layout
//!
//! - this file: what is asked for, and what comes of it
//! - `language`: which language a folder is in
//! - `world`: what its plugin has besides what all have: timers, tables and so on
//! - `cargo`, `python`, `javascript`, `c`: how each is built
//! - `kit`: what this program brings along
//! - `workshop`: the folder below `target`
//! - `unchanged`: whether what lies there is built already
//! - `tool`: other programs, run

mod c;
mod cargo;
mod javascript;
mod kit;
mod language;
mod python;
mod tool;
mod unchanged;
mod workshop;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

pub(crate) use self::cargo::{TARGET, TargetState, target_missing, target_state};
pub(crate) use self::language::is_source;
use self::language::{Folder, Language};
use self::unchanged::Inputs;
use self::workshop::Workshop;
use self::world::World;
use crate::errors::Problem;
use crate::output::{View, bytes};

/// The languages and what they need, for `--help`.
pub(super) const HELP: &str = "\
The folder's language is that of the file that begins the plugin:
  Cargo.toml   Rust. Needs cargo and the target wasm32-wasip2
  plugin.py    Python. Needs python3 with venv, and PyPI when it is built for the first time; pure
               Python packages are taken from a requirements.txt
  plugin.js    JavaScript. Needs Node.js 18 and npm, and npm's registry when it is built for the
               first time; packages are taken from node_modules
  plugin.c     C, with every other .c file of the folder. Needs a clang that knows wasm32-wasi
               (Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32), or a wasi-sdk
               that WASI_SDK_PATH names
What is built, and the tools that PyPI and npm provide, are kept in the folder's `target`. A tool that
is missing or cannot be fetched ends the build with exit code 8, and it is said how to install it.";

#[derive(Args, Debug)]
pub(crate) struct BuildArgs {
    /// The plugin's folder, or a crate's Cargo.toml
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub(crate) path: PathBuf,

    /// Where the tools and what is built are kept [default: `target` in the folder, or as cargo is
    /// configured]
    #[arg(long, value_name = "DIR")]
    pub(crate) target_dir: Option<PathBuf>,

    /// Further arguments for cargo or clang, for example `-- --locked`
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Component {
    /// The crate's or folder's name, as a deployment could have it.
    pub(crate) name: String,
    /// The component's file.
    pub(crate) component: PathBuf,
    /// Its size.
    pub(crate) size_bytes: u64,
}

impl View for Component {
    fn text(&self) -> String {
        format!("{}\n", self.component.display())
    }
}

/// Builds the plugin, optimised. The tools' own words go to standard error.
pub(crate) async fn build(args: &BuildArgs) -> anyhow::Result<Component> {
    let folder = Folder::find(&args.path)?;
    let (name, component) = match folder.language {
        Language::Rust => cargo::build(args, &folder.path).await?,
        language => built_here(args, &folder, language).await?,
    };
    let size_bytes = component
        .metadata()
        .with_context(|| format!("cannot read {}", component.display()))?
        .len();
    tracing::info!(component = %component.display(), size = bytes(size_bytes), "built");
    Ok(Component {
        name,
        component,
        size_bytes,
    })
}

/// Builds with the tools that this program looks after.
async fn built_here(
    args: &BuildArgs,
    folder: &Folder,
    language: Language,
) -> anyhow::Result<(String, PathBuf)> {
    if language != Language::C && !args.arguments.is_empty() {
        return Err(
            Problem::usage("only cargo and clang take further arguments")
                .advise("leave out what is behind `--`")
                .into(),
        );
    }
    let workshop = Workshop::open(folder, args.target_dir.as_deref())?;
    let cannot_read = || format!("cannot read {}", folder.path.display());
    let world = World::of(folder)?;
    let kit = match language {
        Language::Python => Some((kit::PYTHON_SDK, kit::PYTHON_REQUIREMENTS)),
        Language::JavaScript => Some((kit::JAVASCRIPT_SDK, kit::JAVASCRIPT_LOCK)),
        // The same again is the same, and there at once.
        Language::C | Language::Rust => None,
    };
    let inputs = kit.map(|(sdk, recipe)| Inputs::of(folder, &[kit::WIT, sdk], recipe));
    let inputs = inputs.transpose().with_context(cannot_read)?;
    let is_whole = language != Language::JavaScript || javascript::has_sdk(folder);
    if is_whole && inputs.as_ref().is_some_and(|it| it.are_those_of(&workshop)) {
        tracing::info!(
            plugin = folder.name,
            "nothing has changed since it was built"
        );
        return Ok((folder.name.clone(), workshop.component()));
    }
    match language {
        Language::Python => python::build(folder, &workshop, &world).await?,
        Language::JavaScript => javascript::build(folder, &workshop, &world).await?,
        Language::C | Language::Rust => {
            c::build(folder, &workshop, &world, &args.arguments).await?
        }
    }
    if let Some(inputs) = inputs {
        let component = workshop.component();
        inputs
            .keep(&workshop)
            .with_context(|| format!("cannot write beside {}", component.display()))?;
    }
    Ok((folder.name.clone(), workshop.component()))
}
