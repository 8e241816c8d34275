//! The program `millstream`: a broker, and everything to use and look after one.
//!
//! What is typed is parsed ([`cli`]) and then checked into what runs, one module for each command.
//! Results go to standard output as tables or JSON, prose to standard error ([`output`]); errors are
//! printed in one place, with what to try next and an exit code that means something ([`errors`]).
//! The program knows no wire format, no log and no WebAssembly: that is the crates' below it.
//!
//! # Layout
//!
//! - `dev`, `server`: a broker in this process (`serving`)
//! - `demo`: the main job, from real input to verified output, by processes of its own (`child`); what a
//!   cluster survives
//! - `topic`, `group`, `plugin`, `broker`, `cluster`: administration
//! - `produce`, `consume`: records in and out
//! - `bench`: measurements
//! - `local`: a cluster on this machine, for the demo and for measurements
//! - `compiler`: what a broker starts this program as, once more, to compile a component
//! - `connect`, `interrupt`, `logging`, `parse`: what they have in common, each on its own

mod absence;
mod bench;
mod broker;
mod child;
mod cli;
mod cluster;
mod compiler;
mod connect;
mod consume;
mod demo;
mod dev;
mod errors;
mod group;
mod interrupt;
mod local;
mod logging;
mod output;
mod parse;
mod plugin;
mod produce;
mod server;
mod serving;
mod topic;

use std::process::ExitCode;

use anyhow::Context;

/// Batches are buffers of up to a megabyte that come and go with every frame. The system's
/// allocator gives such memory back at once and takes page faults for it again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for what may block, at once. Each keeps memory of its own, so that a thousand workers which
/// start together are not to have hundreds of them.
const MAX_BLOCKING_THREADS: usize = 32;

fn main() -> ExitCode {
    let cli = cli::Cli::from_command_line();
    if let Some(compiler) = cli.compiler() {
        return compiler.run();
    }
    let format = cli.output();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .context("cannot start the asynchronous runtime")
        .and_then(|runtime| {
            let outcome = runtime.block_on(cli.run());
            // What still waits for input, or for a signal that nobody needs any more, is left behind.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => errors::Exit::Success.into(),
        Err(error) => errors::report(&error, format).into(),
    }
}
