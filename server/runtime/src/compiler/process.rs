//! The child that compiles, as its parent sees it: fed, bounded, and killed when it is over.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{CompileError, CompileLimits, CompilerExit};
use crate::fit::RefusedError;
use crate::logs::{MAX_LOG_MESSAGE_BYTES, escape};

/// How a compiler without enough memory says so before it aborts: for an allocation, or for the stacks
/// of its threads.
const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of ", "ThreadPoolBuildError"];

/// How often a child that has closed its output is asked whether it has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// How to start a compiler: a program that calls [`compile_as_child`](super::compile_as_child).
///
/// It is given `--memory-bytes N --cpu-seconds N` behind its arguments, and no environment but this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilerProcess {
    /// The program's file.
    pub program: PathBuf,
    /// What it is called in a list of processes.
    pub name: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// What one component may take.
    pub limits: CompileLimits,
}

/// What came of a child.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    said: String,
}

/// Kills and waits for the child, whatever becomes of the one who holds it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl CompilerProcess {
    pub(super) fn compile(&self, component: &[u8]) -> Result<Vec<u8>, RefusedError> {
        let ended = self.run(component)?;
        let refused = |error: CompileError| Err(error.into());
        let exit = |exit: CompilerExit| ended.status.code() == Some(exit.code().into());
        if exit(CompilerExit::Compiled) {
            return Ok(ended.output);
        }
        if exit(CompilerExit::Refused) {
            return Err(RefusedError::Invalid { reason: ended.said });
        }
        let says_so = || OUT_OF_MEMORY.iter().any(|it| ended.said.contains(it));
        if exit(CompilerExit::OutOfMemory) || says_so() {
            let limit_bytes = self.limits.memory_bytes;
            return refused(CompileError::Memory { limit_bytes });
        }
        if ended.status.signal() == Some(Signal::XCPU.as_raw()) {
            return refused(self.out_of_time());
        }
        let reason = match ended.said.as_str() {
            "" => ended.status.to_string(),
            said => format!("{}: {said}", ended.status),
        };
        refused(CompileError::Failed { reason })
    }

    fn out_of_time(&self) -> CompileError {
        let limit_ms = u64::try_from(self.limits.time.as_millis()).unwrap_or(u64::MAX);
        CompileError::Time { limit_ms }
    }

    /// Runs the child to its end, which is its own or the limits'.
    fn run(&self, component: &[u8]) -> Result<Ended, CompileError> {
        let unavailable = |error: io::Error| CompileError::Unavailable {
            reason: format!("{}: {error}", self.program.display()),
        };
        let deadline = Instant::now() + self.limits.time;
        let mut child = Killed(self.command().spawn().map_err(unavailable)?);
        let pipes = (
            child.0.stdin.take(),
            child.0.stdout.take(),
            child.0.stderr.take(),
        );
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(unavailable(io::Error::other("it has no pipes")));
        };
        thread::scope(|threads| {
            threads.spawn(move || {
                // A child that ends early says itself why.
                let _ = stdin.write_all(component);
            });
            let said = threads.spawn(move || last_words(stderr));
            let (done, output) = mpsc::channel();
            let limit = self.limits.artefact_bytes;
            threads.spawn(move || {
                // Nobody waits for it when the time is over.
                let _ = done.send(read_within(stdout, limit));
            });
            let output = match output.recv_timeout(left(deadline)) {
                Ok(read) => read.map_err(unavailable),
                Err(_) => Err(self.out_of_time()),
            };
            let ended = output.and_then(|output| {
                let limit_bytes = limit;
                let output = output.ok_or(CompileError::Size { limit_bytes })?;
                Ok((self.wait(&mut child.0, deadline)?, output))
            });
            // The threads end with the pipes, and these with the child.
            drop(child);
            let said = said.join().unwrap_or_default();
            let (status, output) = ended?;
            Ok(Ended {
                status,
                output,
                said,
            })
        })
    }

    fn command(&self) -> Command {
        // Every processor may work on it for all of the time.
        let processors = thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let cpu_seconds = (self.limits.time.as_secs() + 1).saturating_mul(processors);
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.args)
            .arg("--memory-bytes")
            .arg(self.limits.memory_bytes.to_string())
            .arg("--cpu-seconds")
            .arg(cpu_seconds.to_string())
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn wait(&self, child: &mut Child, deadline: Instant) -> Result<ExitStatus, CompileError> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() >= deadline => return Err(self.out_of_time()),
                Ok(None) => thread::sleep(CHECK_INTERVAL),
                Err(error) => {
                    let reason = error.to_string();
                    return Err(CompileError::Unavailable { reason });
                }
            }
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Everything up to the end; `None` as soon as it is more than `limit` bytes.
fn read_within(from: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// What the child says about its end, bounded and escaped. Reads on to the end, so that the child
/// never waits for a reader.
fn last_words(mut stderr: impl Read) -> String {
    let mut said = Vec::new();
    let mut start = stderr.by_ref().take(MAX_LOG_MESSAGE_BYTES as u64);
    // What cannot be read was not said.
    let _ = start.read_to_end(&mut said);
    let _ = io::copy(&mut stderr, &mut io::sink());
    escape(String::from_utf8_lossy(&said).trim(), MAX_LOG_MESSAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler that is a shell script, with a second, and place for a kilobyte.
    fn script(script: &str) -> CompilerProcess {
        CompilerProcess {
            program: "/bin/sh".into(),
            name: "compiler".into(),
            args: vec!["-c".into(), script.into()],
            env: Vec::new(),
            limits: CompileLimits {
                time: Duration::from_secs(1),
                memory_bytes: 64 << 20,
                artefact_bytes: 1024,
            },
        }
    }

    fn refused(text: &str) -> RefusedError {
        script(text).compile(b"component").unwrap_err()
    }

    #[test]
    fn what_comes_out_is_the_artefact() {
        assert_eq!(script("exec cat").compile(b"in").unwrap(), b"in");
        // One that does not read all of it holds nobody up.
        let large = vec![0; 1 << 20];
        assert_eq!(script("echo out").compile(&large).unwrap(), b"out\n");
    }

    #[test]
    fn a_compiler_above_its_limits_is_killed() {
        let time = CompileError::Time { limit_ms: 1000 };
        assert_eq!(refused("exec sleep 600"), time.clone().into());
        // Neither does it help to say that one is done.
        assert_eq!(refused("exec sleep 600 >&- 2>&-"), time.clone().into());
        assert_eq!(refused("kill -XCPU $$"), time.into());
        let size = CompileError::Size { limit_bytes: 1024 };
        assert_eq!(refused("exec cat /dev/zero"), size.into());
    }

    #[test]
    fn how_a_compiler_ends_says_why() {
        let said = "echo 'unknown section' >&2; exit 3";
        let reason = "unknown section".to_owned();
        assert_eq!(refused(said), RefusedError::Invalid { reason });

        let limit_bytes = 64 << 20;
        let memory = CompileError::Memory { limit_bytes };
        assert_eq!(refused("exit 4"), memory.clone().into());
        let aborted = "echo memory allocation of 9 bytes failed >&2; kill -ABRT $$";
        assert_eq!(refused(aborted), memory.into());

        let reason = "signal: 11 (SIGSEGV)".to_owned();
        assert_eq!(
            refused("kill -SEGV $$"),
            CompileError::Failed { reason }.into()
        );
        let reason = "exit status: 101: \\u{1b}[2Jpanicked".to_owned();
        let panicked = "printf '\\033[2Jpanicked\\n' >&2; exit 101";
        assert_eq!(refused(panicked), CompileError::Failed { reason }.into());
    }

    #[test]
    fn a_compiler_that_is_not_there_is_no_fault_of_the_component() {
        let mut nothing = script("");
        nothing.program = "/nowhere/millstream".into();
        let reason = "/nowhere/millstream: No such file or directory (os error 2)".to_owned();
        assert_eq!(
            nothing.compile(b"component").unwrap_err(),
            CompileError::Unavailable { reason }.into()
        );
    }
}
