//! A broker in this process, from its start to its end.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::Context;
use millstream_broker::{Broker, BrokerConfig};
use tokio::sync::oneshot;

use crate::interrupt::Interrupts;
use crate::output::Output;

/// Starts a broker, unless a signal comes first.
pub(crate) async fn start(
    config: BrokerConfig,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Broker> {
    interrupts
        .unless(async { Ok(Broker::start(config).await?) })
        .await
}

/// Serves until the first signal, until `enough`, or until the broker must stop by itself; then
/// finishes what is under way. A second signal ends it at once.
pub(crate) async fn serve(
    mut broker: Broker,
    interrupts: &mut Interrupts,
    enough: impl Future<Output = ()>,
    output: Output,
) -> anyhow::Result<()> {
    tokio::select! {
        error = broker.failed() => return Err(error.into()),
        _ = interrupts.next() => {}
        () = enough => {}
    }
    output.say("stopping: what is under way is being finished; Ctrl-C ends at once");
    tokio::select! {
        stopped = broker.stop() => Ok(stopped?),
        interrupted = interrupts.next() => Err(interrupted.into()),
    }
}

/// A file of an earlier run would say that this one is ready.
pub(crate) fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The file appears with all of its content or not at all.
pub(crate) fn write_whole(path: &Path, content: &str) -> anyhow::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let written = fs::write(&draft, content).and_then(|()| fs::rename(&draft, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Waits, if that is wanted, until whoever holds the other end of standard input has gone; otherwise for
/// ever.
pub(crate) async fn stdin_closed(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (tell, told) = oneshot::channel();
    // A thread of its own: a runtime would wait for it at the end.
    thread::spawn(move || {
        // What cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = tell.send(());
    });
    // Sent, or dropped by a thread that failed: either way nobody holds on to this process.
    let _ = told.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_is_whole_and_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        remove_stale(&path).unwrap();
        write_whole(&path, "127.0.0.1:1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1:1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove_stale(&path).unwrap();
        assert!(!path.exists());
    }
}
