//! A child process that does not outlive the test.

use std::fs;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Held open, if it is a pipe: waiting for a child closes the one that the child still has.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        let spawned = command.spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let _stdin = child.stdin.take();
        Self { child, _stdin }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processor time that its threads have taken (Linux): how far it is, on a machine that may be busy.
    pub fn processor_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id()));
        let taken = |thread: fs::DirEntry| -> Option<u64> {
            // One that ended meanwhile counts no more.
            let figures = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            figures.split(' ').next()?.parse().ok()
        };
        let threads = threads.into_iter().flatten().filter_map(Result::ok);
        Duration::from_nanos(threads.filter_map(taken).sum())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "process {} has ended already", self.id());
        // It was not waited for, so that the process id is still its own.
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a process that takes signals");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a process to wait for")
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
