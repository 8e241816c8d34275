//! From a component to code for this machine: within this process, or in a child with limits.
//!
//! # Layout
//!
//! - this file: what a compiler is told, and how it fails
//! - `process`: the child as its parent sees it
//! - `child`: the child itself

mod child;
mod process;

use std::time::Duration;

use wasmtime::Engine;

pub use self::child::{CompilerExit, compile_as_child};
pub use self::process::CompilerProcess;
use crate::fit::RefusedError;
use crate::native::Artefact;

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process: for those who trust the component, or themselves. Nothing bounds the time
    /// and memory that it takes.
    #[default]
    InProcess,
    /// In a child process with limits, one for each component.
    Process(CompilerProcess),
}

/// What compiling one component may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// From the child's start to its end.
    pub time: Duration,
    /// The child's address space, bytes. Three times what it really uses is a good measure.
    pub memory_bytes: u64,
    /// What comes out, bytes.
    pub artefact_bytes: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory_bytes: 2 << 30,
            artefact_bytes: 256 << 20,
        }
    }
}

/// Why a component that looks like one was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It was not done in time.
    #[error("it takes longer than {limit_ms} ms")]
    Time {
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// It needs too much memory.
    #[error("it takes more than {limit_bytes} bytes of memory")]
    Memory {
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// Too much comes out.
    #[error("it becomes more than {limit_bytes} bytes of code")]
    Size {
        /// The limit, bytes.
        limit_bytes: usize,
    },
    /// The compiler broke off.
    #[error("the compiler failed: {reason}")]
    Failed {
        /// How it ended, and what it said.
        reason: String,
    },
    /// There is no compiler: no fault of the component.
    #[error("no compiler can be run: {reason}")]
    Unavailable {
        /// What the operating system or the engine says.
        reason: String,
    },
}

impl Compiler {
    /// The machine code of a component, to be loaded by an engine like this one.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        component: &[u8],
    ) -> Result<Artefact, RefusedError> {
        let compiled = match self {
            Self::InProcess => {
                let compiled = engine.precompile_component(component);
                compiled.map_err(|error| RefusedError::Invalid {
                    reason: format!("{error:#}"),
                })
            }
            Self::Process(process) => process.compile(component),
        };
        compiled.map(Artefact::trusted)
    }
}
