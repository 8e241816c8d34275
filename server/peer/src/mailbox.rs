//! An outbox that is filled from any thread and emptied by the tasks of its lanes.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::outbox::{Lane, Outbox, Outgoing};

#[derive(Default)]
pub(crate) struct Mailbox {
    outbox: Mutex<Outbox>,
    spans: Notify,
    words: Notify,
}

impl Mailbox {
    pub(crate) fn open(&self) {
        self.outbox.lock().open();
    }

    pub(crate) fn close(&self) {
        self.outbox.lock().close();
    }

    /// Takes a message, or loses it.
    pub(crate) fn push(&self, outgoing: Outgoing) {
        let lane = self.outbox.lock().push(outgoing);
        if let Some(lane) = lane {
            self.news(lane).notify_one();
        }
    }

    /// Waits for the next message of a lane, which one task alone empties. Cancel-safe.
    pub(crate) async fn next(&self, lane: Lane) -> Outgoing {
        loop {
            if let Some(next) = self.try_next(lane) {
                return next;
            }
            self.news(lane).notified().await;
        }
    }

    /// The same if there is one.
    pub(crate) fn try_next(&self, lane: Lane) -> Option<Outgoing> {
        self.outbox.lock().next(lane)
    }

    /// Takes back what is left of a message that its lane's task has taken out.
    pub(crate) fn put_back(&self, rest: Outgoing) {
        self.outbox.lock().put_back(rest);
    }

    /// Takes back a message that is to wait with what comes for its partition.
    pub(crate) fn hold(&self, outgoing: Outgoing) {
        self.outbox.lock().hold(outgoing);
    }

    /// Whether there are messages that wait so.
    pub(crate) fn has_held(&self) -> bool {
        self.outbox.lock().has_held()
    }

    /// The first of them.
    pub(crate) fn next_held(&self) -> Option<Outgoing> {
        self.outbox.lock().next_held()
    }

    fn news(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Spans => &self.spans,
            Lane::Words => &self.words,
        }
    }
}
