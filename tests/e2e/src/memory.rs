//! How much memory a process comes to hold.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Looks again and again at what a process holds of memory (Linux): what nobody else could give back. Pages of files that
/// it has mapped are not among that, as the kernel takes them back when it needs them.
#[derive(Debug)]
pub struct MemoryWatch {
    before: u64,
    stop: Sender<()>,
    peak: JoinHandle<u64>,
}

impl MemoryWatch {
    /// Begins to look at a process that runs.
    pub fn start(process_id: u32) -> Self {
        let before = held_bytes(process_id).expect("a process that runs");
        let (stop, stopped) = mpsc::channel();
        let peak = thread::spawn(move || {
            let mut peak = before;
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(held_bytes(process_id).unwrap_or(0));
            }
            peak
        });
        Self { before, stop, peak }
    }

    /// By how much what it held has grown at most, bytes. Ends the watch.
    pub fn grown_bytes(self) -> u64 {
        drop(self.stop);
        self.peak.join().expect("a watch without a fault") - self.before
    }
}

/// What it holds now, bytes.
fn held_bytes(process_id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    let held = status.lines().find_map(|it| it.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = held.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}
