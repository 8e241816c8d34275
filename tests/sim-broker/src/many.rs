//! Many seeds, each in a process of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::report::Report;
use crate::run::Setup;

/// How often each seed is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Once.
    Once,
    /// Twice: it is wrong if not the same happens.
    Twice,
}

/// Runs so many seeds, from the one of `first` on, some at the same time, with this crate's program.
pub fn run_many(program: &Path, first: Setup, seeds: u64, threads: usize, times: Times) -> Report {
    let next = AtomicU64::new(first.seed);
    let work = || {
        let mut all = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.seed + seeds {
                return all;
            }
            let setup = Setup { seed, ..first };
            let mut report = run_one(program, setup);
            if times == Times::Twice {
                let (one, other) = (report.fingerprint, run_one(program, setup).fingerprint);
                if one != other {
                    let what = format!("seed {seed} is not the same twice: {one:?}, {other:?}");
                    report.wrong.push(what);
                }
            }
            all.add(report);
        }
    };
    let mut all = Report::default();
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            all.add(thread.join().expect("a thread that goes through seeds"));
        }
    });
    all
}

fn run_one(program: &Path, setup: Setup) -> Report {
    let mut command = Command::new(program);
    command
        .args(["--seed", &setup.seed.to_string()])
        .args(["--seconds", &setup.works.as_secs().to_string()])
        .arg("--json")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let ran = command.output().expect("a program that runs seeds");
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| Report {
        seeds: 1,
        wrong: vec![format!(
            "seed {}: no report ({error}): {}",
            setup.seed, ran.status
        )],
        ..Report::default()
    })
}
