//! The compiler's process: limits first, then one component in and its machine code out.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use wasmtime::Engine;

use crate::engine::{RuntimeConfig, engine_config};

/// How much it lets others go first. Whoever serves produce and fetch does not wait for it.
const NICENESS: i32 = 10;

/// Files that it may have open: the three standard streams, and a few of the system's.
const MAX_FILES: u64 = 16;

/// How the compiler's process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompilerExit {
    /// The machine code is on standard output.
    Compiled,
    /// The component is not valid; why is on standard error.
    Refused,
    /// There was not enough memory.
    OutOfMemory,
    /// Something is wrong with the process itself; what, is on standard error.
    Failed,
}

impl CompilerExit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Compiled => 0,
            Self::Failed => 1,
            Self::Refused => 3,
            Self::OutOfMemory => 4,
        }
    }
}

/// What the program does that a [`CompilerProcess`](super::CompilerProcess) names, and all that it
/// does: bounds itself, reads a component from standard input, and writes its machine code to
/// standard output. It has to be called before anything else has taken memory or threads.
pub fn compile_as_child(memory_bytes: NonZeroU64, cpu_seconds: NonZeroU64) -> CompilerExit {
    let outcome = bound(memory_bytes.get(), cpu_seconds.get())
        .map_err(|error| (CompilerExit::Failed, error.to_string()))
        .and_then(|()| compile());
    match outcome {
        Ok(()) => CompilerExit::Compiled,
        Err((exit, reason)) => {
            // The exit code says the most important.
            let _ = io::stderr().write_all(reason.as_bytes());
            exit
        }
    }
}

/// Sets the limits of this process. What a limit forbids fails or ends it.
fn bound(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    // A compiler whose broker is gone has nobody to compile for.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, limit) in [
        (Resource::As, memory_bytes),
        (Resource::Cpu, cpu_seconds),
        (Resource::Nofile, MAX_FILES),
        // It writes to a pipe, and leaves nothing behind.
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit)?;
    }
    nice(NICENESS)?;
    Ok(())
}

fn compile() -> Result<(), (CompilerExit, String)> {
    let failed = |error: io::Error| (CompilerExit::Failed, error.to_string());
    let config = RuntimeConfig::default();
    let mut component = Vec::new();
    io::stdin()
        .take(config.max_component_bytes as u64)
        .read_to_end(&mut component)
        .map_err(failed)?;
    let engine = Engine::new(&engine_config(&config))
        .map_err(|error| (CompilerExit::Failed, format!("{error:#}")))?;
    let artefact = engine.precompile_component(&component).map_err(refused)?;
    let mut stdout = io::stdout();
    stdout
        .write_all(&artefact)
        .and_then(|()| stdout.flush())
        .map_err(failed)
}

fn refused(error: wasmtime::Error) -> (CompilerExit, String) {
    let without_memory = error.chain().any(|cause| {
        cause.is::<wasmtime::error::OutOfMemory>()
            || cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
    });
    let exit = if without_memory {
        CompilerExit::OutOfMemory
    } else {
        CompilerExit::Refused
    };
    (exit, format!("{error:#}"))
}
