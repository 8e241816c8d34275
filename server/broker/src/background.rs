//! Tasks that run for as long as the broker does, and what happens if one of its parts does not.

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::replicas::actor::Fault;

/// Tasks that end with the broker.
pub(crate) struct Background {
    tasks: Mutex<JoinSet<()>>,
    faults: UnboundedSender<Fault>,
}

impl Background {
    /// None yet. Those that panic are told as faults.
    pub(crate) fn new(faults: UnboundedSender<Fault>) -> Self {
        Self {
            tasks: Mutex::default(),
            faults,
        }
    }

    pub(crate) fn spawn(
        &self,
        part: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let alarm = Alarm::new(part, self.faults.clone());
        self.tasks.lock().spawn(async move {
            let _alarm = alarm;
            task.await;
        });
    }

    /// Ends all of them, wherever they wait.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

/// Held by a part of the broker without which it cannot go on: if that panics, the broker hears of it, and stops.
pub(crate) struct Alarm {
    part: &'static str,
    faults: UnboundedSender<Fault>,
}

impl Alarm {
    pub(crate) fn new(part: &'static str, faults: UnboundedSender<Fault>) -> Self {
        Self { part, faults }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The broker may be stopping for an earlier fault already.
            let _ = self.faults.send(Fault::Panicked(self.part));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told() {
        let (faults, mut faulty) = mpsc::unbounded_channel();
        let background = Background::new(faults);
        background.spawn("the clerk", async {});
        background.spawn("the porter", async { panic!("no") });
        let fault = faulty.recv().await.map(|fault| fault.to_string());
        assert_eq!(fault.as_deref(), Some("the porter has panicked"));
        background.stop().await;
        assert!(faulty.try_recv().is_err());
    }
}
