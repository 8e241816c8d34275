//! JavaScript, by componentize-qjs: QuickJS in a component.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::kit;
use super::language::Folder;
use super::tool;
use super::workshop::{Workshop, lay_out};
use super::world::{Part, World};
use crate::output::say;

/// Where the plugin's `import … from "millstream-plugin"` finds it, as Node.js does in a test.
const SDK: &str = "node_modules/millstream-plugin";

/// A module beside those of the SDK, which exports what the world asks for, and imports the plugin.
const ENTRY: &str = "entry.js";

/// Its source.
fn entry(world: &World) -> String {
    let component = if world.has(Part::Timers) {
        "timer-component"
    } else {
        "component"
    };
    let parts: Vec<&str> = world.imported().map(Part::name).collect();
    let mut source = format!("export * from \"./{component}.js\";\n");
    for part in &parts {
        // Writing to a string does not fail.
        let _ = writeln!(source, "import \"./guest-{part}.js\";");
    }
    source + &format!("import {{ check }} from \"./imported.js\";\ncheck({parts:?});\n")
}

/// Packages of which componentize-qjs knows the second, and makes up what it does not know, while it evaluates
/// a plugin's modules: a `wasi:http` whose streams are not those of that `wasi:io`, which then does not fit.
const PACKAGES: [&str; 2] = ["wasi:http", "wasi:io"];

/// Names of as many bytes, under which both are made up, and fit. The component is given the right ones.
const MADE_UP: [&str; 2] = ["qjsx:http", "qjsx:io"];

/// Where the packages are named: in `wit/`.
const NAMED_IN: [&str; 3] = [
    "world.wit",
    "deps/wasi-http/http.wit",
    "deps/wasi-io/io.wit",
];

/// And in the SDK.
const HTTP_MODULE: &str = "guest-http.js";

const NO_NODE: &str =
    "`apt-get install nodejs npm` (Debian), or see https://nodejs.org: version 18 or later";

/// Whether the plugin's folder has the SDK, which its tests import as well.
pub(super) fn has_sdk(folder: &Folder) -> bool {
    folder.path.join(SDK).is_dir()
}

pub(super) async fn build(
    folder: &Folder,
    workshop: &Workshop,
    world: &World,
) -> anyhow::Result<()> {
    let toolchain = workshop
        .toolchain(kit::JAVASCRIPT_LOCK, make_toolchain)
        .await?;
    let wit = world.lay_out(workshop)?;
    let sdk = folder.path.join(SDK);
    lay_out(&sdk, kit::JAVASCRIPT_SDK)?;
    let entry_path = sdk.join(ENTRY);
    fs::write(&entry_path, entry(world))
        .with_context(|| format!("cannot write {}", entry_path.display()))?;

    if world.has(Part::Http) {
        for path in NAMED_IN.map(|path| wit.join(path)) {
            rename(&path, &PACKAGES, &MADE_UP)?;
        }
        rename(&sdk.join(HTTP_MODULE), &PACKAGES, &MADE_UP)?;
    }

    let mut componentize = Command::new("node");
    componentize
        .arg(toolchain.join("node_modules/componentize-qjs/cli.mjs"))
        .arg("--sync")
        .args(["--world", World::NAME, "--wit"])
        .arg(wit);
    componentize.arg("--js").arg(entry_path);
    componentize.arg("--module-root").arg(&folder.path);
    componentize.arg("--output").arg(workshop.component());
    say(format_args!("building {} (componentize-qjs)", folder.name));
    tool::build(&mut componentize, &folder.name, NO_NODE).await?;
    if world.has(Part::Http) {
        rename(&workshop.component(), &MADE_UP, &PACKAGES)?;
    }
    Ok(())
}

/// Renames packages in a file.
fn rename(path: &Path, from: &[&str], to: &[&str]) -> anyhow::Result<()> {
    let mut bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for (from, to) in from.iter().zip(to) {
        replace(&mut bytes, from.as_bytes(), to.as_bytes());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces each `from` by a `to` of the same length.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let mut at = 0;
    while let Some(found) = bytes[at..]
        .windows(from.len())
        .position(|window| window == from)
    {
        let begin = at + found;
        at = begin + from.len();
        bytes[begin..at].copy_from_slice(to);
    }
}

/// A folder with what turns JavaScript into a component, as the lock file has it.
async fn make_toolchain(toolchain: &Path) -> anyhow::Result<()> {
    say(format_args!(
        "preparing to build plugins in JavaScript, once for all of them, below {}",
        toolchain.display()
    ));
    say("  fetching componentize-qjs (npm ci)");
    lay_out(toolchain, kit::JAVASCRIPT_TOOLCHAIN)?;
    let mut npm = Command::new("npm");
    npm.current_dir(toolchain).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        // As often as npm tries by itself, but soon: a registry that is not reached is not reached.
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-maxtimeout=5000",
    ]);
    tool::fetch(&mut npm, "componentize-qjs", NO_NODE).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_has_what_its_world_has() {
        let world = |parts: &[Part]| World::with(parts);
        insta::assert_snapshot!(entry(&world(&[])), @r#"
        export * from "./component.js";
        import { check } from "./imported.js";
        check([]);
        "#);
        insta::assert_snapshot!(entry(&world(&[Part::Timers, Part::Secrets, Part::Tables])), @r#"
        export * from "./timer-component.js";
        import "./guest-secrets.js";
        import "./guest-tables.js";
        import { check } from "./imported.js";
        check(["secrets", "tables"]);
        "#);
    }

    #[test]
    fn packages_are_renamed_there_and_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let text = "wasi:io/poll wasi:iowasi:http/types wasi:clocks wasi:i";
        fs::write(&path, text).unwrap();
        rename(&path, &PACKAGES, &MADE_UP).unwrap();
        let made_up = fs::read_to_string(&path).unwrap();
        assert_eq!(
            made_up,
            "qjsx:io/poll qjsx:ioqjsx:http/types wasi:clocks wasi:i"
        );
        rename(&path, &MADE_UP, &PACKAGES).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
