//! A bound on what goes on at once, where those come first that are due first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::RecvError};

/// Lets a few through at a time, and first those that are due soonest.
pub(super) struct Turnstile(Mutex<Waiting>);

struct Waiting {
    free: usize,
    /// By when they are due, and by when they came.
    queue: BTreeMap<(Option<Instant>, u64), oneshot::Sender<Place>>,
    came: u64,
}

/// One is through. Dropping it lets the next one through.
pub(super) struct Place(Arc<Turnstile>);

impl Turnstile {
    pub(super) fn new(places: usize) -> Self {
        Self(Mutex::new(Waiting {
            free: places.max(1),
            queue: BTreeMap::new(),
            came: 0,
        }))
    }

    /// Waits for a place.
    pub(super) async fn wait(self: &Arc<Self>, due: Option<Instant>) -> Place {
        match self.enter(due) {
            Entered::Now(place) => place,
            Entered::Later(place) => self.taken(place.await),
        }
    }

    /// The same, on a thread that may block.
    pub(super) fn wait_blocking(self: &Arc<Self>, due: Option<Instant>) -> Place {
        match self.enter(due) {
            Entered::Now(place) => place,
            Entered::Later(place) => self.taken(place.blocking_recv()),
        }
    }

    fn enter(self: &Arc<Self>, due: Option<Instant>) -> Entered {
        let mut waiting = self.0.lock();
        if waiting.free > 0 {
            waiting.free -= 1;
            return Entered::Now(Place(Arc::clone(self)));
        }
        waiting.came += 1;
        let (let_through, through) = oneshot::channel();
        let key = (due, waiting.came);
        waiting.queue.insert(key, let_through);
        Entered::Later(through)
    }

    /// Nobody drops the other end without a word: it is in the queue of this very turnstile.
    fn taken(self: &Arc<Self>, place: Result<Place, RecvError>) -> Place {
        place.unwrap_or_else(|_| Place(Arc::clone(self)))
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.lock().free
    }

    /// How many wait for a place, or have waited and left.
    pub(super) fn queued(&self) -> usize {
        self.0.lock().queue.len()
    }
}

enum Entered {
    Now(Place),
    Later(oneshot::Receiver<Place>),
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.0.0.lock();
            let next = waiting.queue.pop_first();
            waiting.free += usize::from(next.is_none());
            next
        };
        if let Some((_, next)) = next {
            // To one that waits no more it does not go: it is dropped here, and goes to the next.
            let _ = next.send(Self(Arc::clone(&self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_that_are_due_first_go_first_and_who_left_holds_nobody_up() {
        let turnstile = Arc::new(Turnstile::new(1));
        let now = Instant::now();
        let first = turnstile.wait(Some(now)).await;
        let (told, order) = mpsc::channel();
        let queue = |due: Option<Instant>, name: &'static str| {
            let (turnstile, told) = (Arc::clone(&turnstile), told.clone());
            tokio::spawn(async move {
                let _place = turnstile.wait(due).await;
                told.send(name).unwrap();
            })
        };
        let late = queue(Some(now + Duration::from_secs(2)), "late");
        let gone = queue(None, "gone");
        let soon = queue(Some(now + Duration::from_secs(1)), "soon");
        while turnstile.queued() < 3 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(first);
        soon.await.unwrap();
        late.await.unwrap();
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["soon", "late"]);
        assert_eq!(turnstile.free(), 1);
    }
}
