//! The processes that a run starts: this program again, in one of its hidden roles.
//!
//! A child tells by lines on its standard output and is told by lines on its standard input. It
//! ends when its input does, so that it never outlives the run, however that ends.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::logging::LOG_VARIABLE;

/// How long a child may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How often an ending child is looked at.
const STOP_CHECK: Duration = Duration::from_millis(2);

/// Everything that a run has started, so that all of it can be ended at once.
#[derive(Clone)]
pub(super) struct Started {
    children: Arc<Mutex<Children>>,
    /// What a child says of what happens, if the environment does not say.
    log: &'static str,
}

#[derive(Default)]
struct Children {
    interrupted: bool,
    running: Vec<Arc<Mutex<Child>>>,
}

impl Started {
    /// Nothing yet. What happens is the run's to tell; a child tells what is as bad as this, or worse.
    pub(super) fn nothing(log: &'static str) -> Self {
        Self {
            children: Arc::default(),
            log,
        }
    }

    /// Ends every child at once and starts no more.
    pub(super) fn interrupt(&self) {
        let mut children = lock(&self.children);
        children.interrupted = true;
        for child in children.running.drain(..) {
            // It may have ended by itself.
            let _ = lock(&child).kill();
        }
    }

    /// Starts `millstream bench <role> <arguments>`.
    pub(super) fn spawn<A: AsRef<OsStr>>(
        &self,
        role: &'static str,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Process> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        command.args(["bench", role]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env(
            LOG_VARIABLE,
            std::env::var_os(LOG_VARIABLE).unwrap_or_else(|| OsString::from(self.log)),
        );
        let mut children = lock(&self.children);
        if children.interrupted {
            bail!("interrupted");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the {role} process"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        children.running.push(Arc::clone(&child));
        drop(children);
        let stdout = stdout.context("a child without standard output")?;
        Ok(Process {
            role,
            child,
            stdin,
            lines: read_lines(role, stdout)?,
            started: self.clone(),
        })
    }

    fn forget(&self, child: &Arc<Mutex<Child>>) {
        lock(&self.children)
            .running
            .retain(|other| !Arc::ptr_eq(other, child));
    }
}

/// Reads in a thread of its own, so that waiting for a line can have an end.
fn read_lines(role: &'static str, stdout: ChildStdout) -> anyhow::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel();
    let read = move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    thread::Builder::new()
        .name(format!("{role} output"))
        .spawn(read)
        .context("cannot start a thread")?;
    Ok(lines)
}

/// One child. Dropping it ends it at once.
pub(super) struct Process {
    role: &'static str,
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    started: Started,
}

impl Process {
    /// The process id.
    pub(super) fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = lock(&self.child);
        // It was not waited for, so that its process id is still its own.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process without a number")?;
        kill_process(pid, signal)
            .with_context(|| format!("cannot signal the {} process", self.role))
    }

    /// Sends a line.
    pub(super) fn send(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .with_context(|| format!("the {} process is stopping", self.role))?;
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .with_context(|| format!("cannot speak to the {} process", self.role))
    }

    /// Waits for the next line, at most this long.
    pub(super) fn receive(&self, limit: Duration) -> anyhow::Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!(
                    "the {} process said nothing for {} s",
                    self.role,
                    limit.as_secs()
                )
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the {} process ended early", self.role)
            }
        }
    }

    /// Lets the process finish, and waits for its end.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            let ended = lock(&self.child)
                .try_wait()
                .context("cannot wait for a process")?;
            if let Some(status) = ended {
                anyhow::ensure!(
                    status.success(),
                    "the {} process ended with {status}",
                    self.role
                );
                return Ok(());
            }
            thread::sleep(STOP_CHECK);
        }
        bail!(
            "the {} process did not stop within {} s",
            self.role,
            STOP_LIMIT.as_secs()
        )
    }

    /// Ends the process as a crash would.
    pub(super) fn kill(self) {}
}

impl Drop for Process {
    fn drop(&mut self) {
        self.started.forget(&self.child);
        let mut child = lock(&self.child);
        // Errors say that it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A thread that panicked left nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
