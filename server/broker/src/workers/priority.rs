//! The priority of threads. Where the system does not let it be set, all threads stay as they are.

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

/// Lets every other thread go first, from now on: a process that is not privileged cannot take it
/// back.
#[cfg(target_os = "linux")]
pub(crate) fn lower(thread: ThreadId) {
    // On Linux a priority is a thread's, whatever the call is named.
    if let Err(error) = rustix::process::setpriority_process(Some(thread.0), BACKGROUND_NICE) {
        tracing::debug!(%error, "the priority of a thread stays as it is");
    }
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
            getpriority_process(Some(this_thread().unwrap().0)).unwrap()
        });
        let before = getpriority_process(Some(this_thread().unwrap().0)).unwrap();
        lower(answer.recv().unwrap());
        asking.send(()).unwrap();
        assert_eq!(other.join().unwrap(), BACKGROUND_NICE);
        let after = getpriority_process(Some(this_thread().unwrap().0)).unwrap();
        assert_eq!(after, before);
    }
}
