//! `millstream compile-component`: the compiler that a broker starts for each component, and how it is
//! told to. Nobody types it.

use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use millstream_runtime::{CompileLimits, Compiler, CompilerProcess, compile_as_child};

/// This very program, also when another version has taken its place on the disk.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The allocator takes address space by the gigabyte, where it is not what is limited.
const SMALL_ARENAS: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "32MiB");

#[derive(Args, Debug)]
pub(crate) struct CompilerArgs {
    /// The memory that it may take
    #[arg(long)]
    memory_bytes: NonZeroU64,

    /// The time that it may compute, over all processors
    #[arg(long)]
    cpu_seconds: NonZeroU64,
}

impl CompilerArgs {
    pub(crate) fn run(&self) -> ExitCode {
        compile_as_child(self.memory_bytes, self.cpu_seconds)
            .code()
            .into()
    }
}

/// This program as the compiler of a broker.
pub(crate) fn this_program(limits: CompileLimits) -> anyhow::Result<Compiler> {
    let program = match Path::new(THIS_PROGRAM) {
        this if this.exists() => this.to_owned(),
        _ => std::env::current_exe().context("cannot find this program's own file")?,
    };
    Ok(Compiler::Process(CompilerProcess {
        program,
        name: "millstream".into(),
        args: vec!["compile-component".into()],
        env: vec![(SMALL_ARENAS.0.into(), SMALL_ARENAS.1.into())],
        limits,
    }))
}
