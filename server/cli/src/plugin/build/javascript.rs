//! JavaScript, by componentize-qjs: QuickJS in a component.

use std::path::Path;
use std::process::Command;

use super::kit;
use super::language::Folder;
use super::tool;
use super::workshop::{Workshop, lay_out};
use super::world::World;

/// Where the plugin's `import … from "millstream-plugin"` finds it, as Node.js does in a test.
const SDK: &str = "node_modules/millstream-plugin";

/// The module of the SDK that exports what the world asks for, and imports the plugin.
fn entry(world: World) -> &'static str {
    match world {
        World::Plain => "component.js",
        World::Timers => "timer-component.js",
    }
}

const NO_NODE: &str =
    "`apt-get install nodejs npm` (Debian), or see https://nodejs.org: version 18 or later";

pub(super) async fn build(
    folder: &Folder,
    workshop: &Workshop,
    world: World,
) -> anyhow::Result<()> {
    let toolchain = workshop
        .toolchain(kit::JAVASCRIPT_LOCK, make_toolchain)
        .await?;
    let wit = workshop.laid_out("wit", kit::WIT)?;
    let sdk = folder.path.join(SDK);
    lay_out(&sdk, kit::JAVASCRIPT_SDK)?;

    let mut componentize = Command::new("node");
    componentize
        .arg(toolchain.join("node_modules/componentize-qjs/cli.mjs"))
        .arg("--sync")
        .args(["--world", world.name(), "--wit"])
        .arg(wit);
    componentize.arg("--js").arg(sdk.join(entry(world)));
    componentize.arg("--module-root").arg(&folder.path);
    componentize.arg("--output").arg(workshop.component());
    tool::build(&mut componentize, &folder.name, NO_NODE).await
}

/// A folder with what turns JavaScript into a component, as the lock file has it.
async fn make_toolchain(toolchain: &Path) -> anyhow::Result<()> {
    tracing::info!("installing componentize-qjs below {}", toolchain.display());
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
