//! C, by clang: a core module, and around it a component.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::ComponentEncoder;

use super::kit;
use super::language::Folder;
use super::tool;
use super::workshop::Workshop;
use super::world::{Part, World};
use crate::errors::{Exit, Problem};

/// Names a wasi-sdk, whose clang is then used.
const SDK_VARIABLE: &str = "WASI_SDK_PATH";

const NO_CLANG: &str = "`apt-get install clang lld wasi-libc libclang-rt-dev-wasm32` (Debian); \
    elsewhere, unpack a release of https://github.com/WebAssembly/wasi-sdk and name its folder by \
    WASI_SDK_PATH";

/// Uses the library's headers, its archive and the compiler's own.
const PROBE: &[u8] =
    b"#include <stdlib.h>\ndouble probe(const char *text) { return strtod(text, 0); }\n";

pub(super) async fn build(
    folder: &Folder,
    workshop: &Workshop,
    world: &World,
    arguments: &[OsString],
) -> anyhow::Result<()> {
    probe()?;
    let sdk = workshop.laid_out("sdk", kit::C_SDK)?;
    let bindings = workshop.laid_out("bindings", &[])?;
    let wit = world.lay_out(workshop)?;
    generate(&wit, &bindings)?;

    let module = workshop.part("module.wasm");
    let mut compile = clang();
    compile.args(["-std=c11", "-O2", "-Wall", "-Wextra"]);
    // A log line names `plugin.c`, wherever that is.
    let mut here = OsString::from("-ffile-prefix-map=");
    here.push(&folder.path);
    here.push("/=");
    compile.arg(here);
    if !world.has(Part::Timers) {
        compile.arg("-DMS_NO_TIMERS");
    }
    compile.arg("-I").arg(&folder.path);
    // As the system's own: the author's warnings are not for what is generated.
    compile.arg("-isystem").arg(&sdk);
    compile.arg("-isystem").arg(&bindings);
    compile.args(arguments);
    compile.args(files(&folder.path, "c")?);
    compile.args(files(&sdk, "c")?);
    compile.args(files(&bindings, "c")?);
    compile.args(files(&bindings, "o")?);
    compile.args(["-Wl,--strip-debug", "-o"]).arg(&module);
    tool::build(&mut compile, &folder.name, NO_CLANG).await?;
    encode(&module, &workshop.component())
}

/// clang, for a module that is called again and again.
fn clang() -> Command {
    let program = match std::env::var_os(SDK_VARIABLE).filter(|path| !path.is_empty()) {
        Some(sdk) => Path::new(&sdk).join("bin/clang").into_os_string(),
        None => "clang".into(),
    };
    let mut clang = Command::new(program);
    clang.args(["--target=wasm32-wasi", "-mexec-model=reactor"]);
    clang
}

/// Finds out whether clang, its linker and a C library for WebAssembly are there: all that a compiler
/// says of a plugin is then about the plugin.
fn probe() -> anyhow::Result<()> {
    let mut probe = clang();
    probe
        .args(["-x", "c", "-", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = probe
        .spawn()
        .map_err(|error| tool::missing(&probe, error, NO_CLANG))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A clang that does not read it says why.
        let _ = stdin.write_all(PROBE);
    }
    let said = child.wait_with_output().context("cannot wait for clang")?;
    if said.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said.stderr);
    let first = said
        .lines()
        .find(|line| line.contains("error"))
        .unwrap_or("it does not say why");
    let problem = format!("clang cannot build for WebAssembly: {}", first.trim());
    Err(Problem::new(Exit::ToolMissing, problem)
        .advise(NO_CLANG)
        .into())
}

/// Writes the bindings to the world, as `plugin.h` and `plugin.c`.
fn generate(wit: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(World::NAME))?;
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts {
        rename_world: Some("plugin".to_owned()),
        ..Default::default()
    };
    let mut generator = options.build();
    generator.generate(&mut resolve, world, &mut files)?;
    for (name, content) in files.iter() {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The folder's files with this extension, in the order of their names.
fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let read = || {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
        found.sort();
        Ok::<_, std::io::Error>(found)
    };
    read().with_context(|| format!("cannot read {}", folder.display()))
}

/// Makes the component. A libc that speaks the WASI before components is adapted.
fn encode(module: &Path, component: &Path) -> anyhow::Result<()> {
    let core = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|encoder| encoder.encode())
        .map_err(|error| {
            let problem = Problem::new(Exit::Failure, "no component can be made of the module")
                .advise("a plugin imports nothing but what <millstream.h> and the C library offer");
            anyhow!(error).context(problem)
        })?;
    fs::write(component, encoded).with_context(|| format!("cannot write {}", component.display()))
}
