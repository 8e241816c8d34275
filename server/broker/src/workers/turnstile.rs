//! A bound on what goes on at once, where those come first that have had least of it.
//!
//! It is start-time fair queuing (Goyal, Vin and Cheng, "Start-time Fair Queuing", SIGCOMM 1996). Whoever
//! comes again and again has an [`Account`] of the time that it took. The turnstile has a time of its own,
//! which stands where the account of the last one stood that it let through, and an account that is behind
//! it is put forward to it by whoever comes. So one that comes for the first time, or after a while,
//! shares from then on with the others: it has saved up nothing, and one that computed for an hour while nobody
//! else wanted to owes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::RecvError};

/// Lets a few through at a time, and first those that have taken least.
pub(super) struct Turnstile(Mutex<Waiting>);

struct Waiting {
    places: usize,
    free: usize,
    /// By what their accounts were when they were put here, and by when they came.
    queue: BTreeMap<(Duration, u64), Waiter>,
    came: u64,
    /// Its own time.
    now: Duration,
    /// The account that is ahead of all others.
    most: Duration,
}

struct Waiter {
    account: Arc<Account>,
    let_through: oneshot::Sender<Place>,
}

/// What one has taken, in the time of its turnstile. It is changed under the turnstile's lock alone.
#[derive(Default)]
pub(super) struct Account(Mutex<Duration>);

impl Account {
    fn stands_at(&self) -> Duration {
        *self.0.lock()
    }
}

/// One is through. Dropping it lets the next one through.
pub(super) struct Place {
    turnstile: Arc<Turnstile>,
    /// When it came.
    came: u64,
}

impl Turnstile {
    pub(super) fn new(places: usize) -> Self {
        let places = places.max(1);
        Self(Mutex::new(Waiting {
            places,
            free: places,
            queue: BTreeMap::new(),
            came: 0,
            now: Duration::ZERO,
            most: Duration::ZERO,
        }))
    }

    /// Waits for a place.
    pub(super) async fn wait(self: &Arc<Self>, account: &Arc<Account>) -> Place {
        match self.enter(account) {
            Entered::Now(place) => place,
            Entered::Later(place) => self.taken(place.await),
        }
    }

    /// Lets others go first whose accounts stand lower. Those with the same account have their turn when this one
    /// is done: they do not all begin, and then all take their time.
    pub(super) async fn wait_again(
        self: &Arc<Self>,
        place: Place,
        account: &Arc<Account>,
    ) -> Place {
        let again = {
            let mut waiting = self.0.lock();
            waiting.put_forward(account);
            if waiting.queue.is_empty() {
                waiting.now = account.stands_at();
                return place;
            }
            waiting.queue_up(Arc::clone(account), place.came)
        };
        drop(place);
        self.taken(again.await)
    }

    /// Adds a time that was used to an account.
    pub(super) fn charge(&self, account: &Account, took: Duration) {
        let mut waiting = self.0.lock();
        let mut stands_at = account.0.lock();
        *stands_at += took;
        waiting.most = waiting.most.max(*stands_at);
    }

    fn enter(self: &Arc<Self>, account: &Arc<Account>) -> Entered {
        let mut waiting = self.0.lock();
        waiting.put_forward(account);
        waiting.came += 1;
        let came = waiting.came;
        if waiting.free > 0 {
            waiting.free -= 1;
            waiting.now = account.stands_at();
            return Entered::Now(self.place(came));
        }
        Entered::Later(waiting.queue_up(Arc::clone(account), came))
    }

    fn place(self: &Arc<Self>, came: u64) -> Place {
        Place {
            turnstile: Arc::clone(self),
            came,
        }
    }

    /// Nobody drops the other end without a word: it is in the queue of this very turnstile.
    fn taken(self: &Arc<Self>, place: Result<Place, RecvError>) -> Place {
        place.unwrap_or_else(|_| self.place(u64::MAX))
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.lock().free
    }

    /// How many wait for a place, or have waited and left.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.0.lock().queue.len()
    }
}

impl Waiting {
    /// Who comes after a while has saved up nothing.
    fn put_forward(&self, account: &Account) {
        let mut stands_at = account.0.lock();
        *stands_at = self.now.max(*stands_at);
    }

    fn queue_up(&mut self, account: Arc<Account>, came: u64) -> oneshot::Receiver<Place> {
        let (let_through, through) = oneshot::channel();
        let key = (account.stands_at(), came);
        let waiter = Waiter {
            account,
            let_through,
        };
        self.queue.insert(key, waiter);
        through
    }

    /// Whose turn it is, and when it came.
    fn next(&mut self) -> Option<(u64, oneshot::Sender<Place>)> {
        while let Some(((stood_at, came), waiter)) = self.queue.pop_first() {
            let stands_at = waiter.account.stands_at();
            if waiter.let_through.is_closed() {
                continue;
            }
            if stands_at > stood_at {
                // Others with the same account were let through meanwhile.
                self.queue.insert((stands_at, came), waiter);
                continue;
            }
            self.now = self.now.max(stands_at);
            return Some((came, waiter.let_through));
        }
        None
    }
}

enum Entered {
    Now(Place),
    Later(oneshot::Receiver<Place>),
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.turnstile.0.lock();
            let next = waiting.next();
            if next.is_none() {
                waiting.free += 1;
                if waiting.free == waiting.places {
                    // Nobody has waited for what was taken: it is forgotten.
                    waiting.now = waiting.most;
                }
            }
            next
        };
        if let Some((came, next)) = next {
            // To one that waits no more it does not go: it is dropped here, and goes to the next.
            let _ = next.send(self.turnstile.place(came));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A turnstile with one place, those that come to it, and the order in which they were let through.
    struct Queue {
        turnstile: Arc<Turnstile>,
        told: mpsc::Sender<&'static str>,
        order: mpsc::Receiver<&'static str>,
    }

    impl Queue {
        fn new() -> Self {
            let (told, order) = mpsc::channel();
            Self {
                turnstile: Arc::new(Turnstile::new(1)),
                told,
                order,
            }
        }

        /// One comes, and takes a time when it is through.
        async fn comes(
            &self,
            name: &'static str,
            account: &Arc<Account>,
            takes: Duration,
        ) -> tokio::task::JoinHandle<()> {
            let (turnstile, account) = (Arc::clone(&self.turnstile), Arc::clone(account));
            let (told, queued) = (self.told.clone(), self.turnstile.queued());
            let comes = tokio::spawn(async move {
                let _place = turnstile.wait(&account).await;
                turnstile.charge(&account, takes);
                told.send(name).unwrap();
            });
            while self.turnstile.queued() == queued {
                tokio::task::yield_now().await;
            }
            comes
        }

        /// Those that were let through, when so many of them have been.
        async fn order(&self, count: usize) -> Vec<&'static str> {
            let mut order = Vec::new();
            while order.len() < count {
                order.extend(self.let_through());
                tokio::task::yield_now().await;
            }
            order
        }

        /// Those that were let through since this was asked.
        fn let_through(&self) -> Vec<&'static str> {
            self.order.try_iter().collect()
        }
    }

    fn accounts<const N: usize>() -> [Arc<Account>; N] {
        [(); N].map(|()| Arc::default())
    }

    #[tokio::test]
    async fn those_that_have_taken_least_go_first_and_who_left_holds_nobody_up() {
        let queue = Queue::new();
        let [first, much, gone, little] = accounts();
        let place = queue.turnstile.wait(&first).await;
        queue.turnstile.charge(&much, 2 * MS);
        queue.turnstile.charge(&little, MS);
        queue.comes("much", &much, MS).await;
        let left = queue.comes("gone", &gone, MS).await;
        queue.comes("little", &little, MS).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        drop(place);
        assert_eq!(queue.order(2).await, ["little", "much"]);
        assert_eq!(queue.turnstile.free(), 1);
    }

    #[tokio::test]
    async fn each_has_the_same_time_whatever_a_turn_takes() {
        let queue = Queue::new();
        let [long, short, other] = accounts();
        let place = queue.turnstile.wait(&other).await;
        for _ in 0..3 {
            queue.comes("long", &long, 4 * MS).await;
        }
        for _ in 0..9 {
            queue.comes("short", &short, MS).await;
        }
        drop(place);
        let order = queue.order(12).await;
        let expected = [
            "long", "short", "short", "short", "short", "long", "short", "short", "short", "short",
            "long", "short",
        ];
        assert_eq!(order, expected);
    }

    #[tokio::test]
    async fn who_comes_later_has_saved_up_nothing_and_who_was_alone_owes_nothing() {
        let queue = Queue::new();
        let [old, new, other] = accounts();
        for _ in 0..100 {
            let _place = queue.turnstile.wait(&old).await;
            queue.turnstile.charge(&old, 60_000 * MS);
        }
        let place = queue.turnstile.wait(&other).await;
        queue.turnstile.charge(&other, MS);
        for _ in 0..3 {
            queue.comes("old", &old, MS).await;
            queue.comes("new", &new, MS).await;
        }
        drop(place);
        let order = queue.order(6).await;
        assert_eq!(order, ["old", "new", "old", "new", "old", "new"]);
        // One that has not come for a while goes next, and only once.
        let place = queue.turnstile.wait(&old).await;
        queue.turnstile.charge(&old, 60_000 * MS);
        for _ in 0..2 {
            queue.comes("other", &other, MS).await;
            queue.comes("old", &old, MS).await;
        }
        drop(place);
        assert_eq!(queue.order(4).await, ["other", "other", "old", "old"]);
    }

    #[tokio::test]
    async fn one_that_is_through_lets_those_go_first_that_have_taken_less() {
        let queue = Queue::new();
        let [old, new] = accounts();
        let turnstile = &queue.turnstile;
        let mut place = turnstile.wait(&old).await;
        // What it took while it was alone is forgotten.
        for _ in 0..100 {
            turnstile.charge(&old, 60_000 * MS);
            place = turnstile.wait_again(place, &old).await;
        }
        turnstile.charge(&old, 3 * MS);
        for _ in 0..5 {
            queue.comes("new", &new, MS).await;
        }
        let place = turnstile.wait_again(place, &old).await;
        assert_eq!(queue.order(3).await, ["new", "new", "new"]);
        drop(place);
        assert_eq!(queue.order(2).await, ["new", "new"]);
    }

    #[tokio::test]
    async fn those_with_one_account_are_done_one_after_the_other() {
        let queue = Queue::new();
        let [many, other] = accounts();
        let turnstile = &queue.turnstile;
        let mut place = turnstile.wait(&many).await;
        queue.comes("many", &many, MS).await;
        queue.comes("many", &many, MS).await;
        queue.comes("other", &other, 2 * MS).await;
        for _ in 0..10 {
            turnstile.charge(&many, MS);
            place = turnstile.wait_again(place, &many).await;
        }
        assert_eq!(queue.let_through(), ["other"]);
        drop(place);
        assert_eq!(queue.order(2).await, ["many", "many"]);
    }
}
