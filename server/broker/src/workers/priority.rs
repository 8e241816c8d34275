//! The priority of threads, and where they run. Where the system does not let it be set, all threads stay
//! as they are.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A background thread gets a tenth of what another thread gets that wants the same processor (nice
/// 10: weight 110 of 1024), and what nobody wants. With less it would stand still on a busy machine.
#[cfg(target_os = "linux")]
const BACKGROUND_NICE: i32 = 10;

/// A thread, as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadId(#[cfg(target_os = "linux")] rustix::process::Pid);

/// The calling thread.
#[cfg(target_os = "linux")]
pub(crate) fn this_thread() -> Option<ThreadId> {
    // A link to `<process>/task/<thread>`.
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    let number = link.file_name()?.to_str()?.parse().ok()?;
    rustix::process::Pid::from_raw(number).map(ThreadId)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn this_thread() -> Option<ThreadId> {
    None
}

/// [Lowers](lower) the calling thread.
pub(crate) fn lower_this_thread() {
    if let Some(thread) = this_thread() {
        lower(thread);
    }
}

/// Lets every other thread go first, from now on: a process that is not privileged cannot take it
/// back. One processor is left to the others, if there are two: a thread that wakes up looks for one that is
/// idle, and where none is, it may have to wait behind another.
#[cfg(target_os = "linux")]
pub(crate) fn lower(thread: ThreadId) {
    // On Linux a priority is a thread's, whatever the call is named.
    if let Err(error) = rustix::process::setpriority_process(Some(thread.0), BACKGROUND_NICE) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
    if let Err(error) = leave_one_processor(thread) {
        tracing::debug!(%error, "a thread runs on every processor");
    }
}

#[cfg(target_os = "linux")]
fn leave_one_processor(thread: ThreadId) -> rustix::io::Result<()> {
    let mut processors = sched_getaffinity(Some(thread.0))?;
    // All threads are lowered from the same set, and leave the same one.
    let first = (0..CpuSet::MAX_CPU).find(|processor| processors.is_set(*processor));
    let (Some(first), 2..) = (first, processors.count()) else {
        return Ok(());
    };
    processors.unset(first);
    sched_setaffinity(Some(thread.0), &processors)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower(_thread: ThreadId) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn one_thread_is_lowered_and_the_others_are_not() {
        let (asking, asked) = std::sync::mpsc::channel();
        let (answering, answer) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            answering.send(this_thread().unwrap()).unwrap();
            asked.recv().unwrap();
            let thread = Some(this_thread().unwrap().0);
            let runs_on = sched_getaffinity(thread).unwrap().count();
            (getpriority_process(thread).unwrap(), runs_on)
        });
        let all = sched_getaffinity(None).unwrap().count();
        let before = getpriority_process(Some(this_thread().unwrap().0)).unwrap();
        lower(answer.recv().unwrap());
        asking.send(()).unwrap();
        let one_less = (all - 1).max(1);
        assert_eq!(other.join().unwrap(), (BACKGROUND_NICE, one_less));
        assert_eq!(sched_getaffinity(None).unwrap().count(), all);
        let after = getpriority_process(Some(this_thread().unwrap().0)).unwrap();
        assert_eq!(after, before);
    }
}
