//! The threads on which guests run, and who of them goes first.
//!
//! A guest that is within its deployment's [`Share`] gets a *prompt* turn, at the priority of the
//! broker's own threads. One that computes longer than a turn should is lowered while it runs, and
//! its deployment's next turns are *background* turns, below everything else the broker does, until it
//! has earned what it took. What is left of the processors there is divided evenly between the deployments that
//! want it, by a [`Turnstile`]: of the turns that wait, that of the deployment which has taken least goes
//! first, and a guest that [computes on](computed) stands back for it in the middle of its call. So a busy
//! guest gets what nobody else wants, a modest one is as quick beside it as without it, and busy ones
//! are as quick as each other.
//!
//! A turn that [waits](waiting) for what is outside of this machine gives its place away, to whoever is
//! next, and goes on below everything else when there is a place among [those that have
//! waited](RESUMED_TURNS). So no server that answers late holds up a neighbour of the plugin that has asked
//! it, and no number of answers at once does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use millstream_runtime::thread_cpu_time;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::workers::priority::{self, ThreadId};
use crate::workers::share::Share;
use crate::workers::turnstile::{Account, Place, Turnstile};

/// What one deployment may take at the broker's own priority, of one processor.
const DEPLOYMENT_PERCENT: u32 = 25;

/// What all deployments may take there together, of each processor.
const ALL_PERCENT: u32 = 50;

/// A turn that computes longer is in the background from then on. It is what a deployment may take at
/// once, too.
const LONGEST_PROMPT_TURN: Duration = Duration::from_millis(20);

/// Prompt turns that may run at once, for each processor: they are short.
const PROMPT_TURNS: usize = 4;

/// Turns that have waited and go on at once, for each processor. Even together they are lighter than one
/// thread of the broker: they are nine times lighter each.
const RESUMED_TURNS: usize = 4;

/// How long a thread waits for its next turn before it ends.
const KEEP_THREAD: Duration = Duration::from_secs(10);

/// The threads of a broker's guests.
pub(crate) struct GuestThreads {
    prompt: Pool,
    background: Pool,
    places: Arc<Places>,
}

/// Where turns wait until they may run.
struct Places {
    prompt: Arc<Semaphore>,
    background: Arc<Turnstile>,
    /// Those that come first go first.
    resumed: Arc<Turnstile>,
    /// What all guests take at the broker's own priority.
    all: Share,
}

thread_local! {
    /// The turn that runs on this thread.
    static CURRENT: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// The turn on the calling thread, if there is one.
fn current() -> Option<Arc<Running>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Says that the turn on the calling thread has to wait.
pub(crate) fn waiting() {
    if let Some(running) = current() {
        running.waiting();
    }
}

/// Says that it has waited, and is there when it may go on, on the same thread.
pub(crate) async fn waited() {
    if let Some(running) = current() {
        running.waited().await;
    }
}

/// Says that it has computed for a while, and is there when it may go on, on the same thread.
pub(crate) async fn computed() {
    if let Some(running) = current() {
        running.computed().await;
    }
}

/// Whether the turn on the calling thread is one that nothing else of the broker waits for.
pub(crate) fn in_background() -> bool {
    current().is_some_and(|running| {
        let held = &running.state.lock().held;
        !matches!(held, Some(Held::Prompt(_)))
    })
}

/// A turn was not run to its end: its thread panicked, or there was none to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnLost {
    #[error("the worker's thread failed")]
    Failed,
    #[error("no thread for the worker: {0}")]
    NoThread(#[from] io::Error),
    #[error("stopping")]
    Stopping,
    #[error("given up before it began")]
    GivenUp,
}

impl GuestThreads {
    /// For so many processors.
    pub(crate) fn new(processors: usize) -> Self {
        let percent = u32::try_from(processors).unwrap_or(u32::MAX);
        let percent = percent.saturating_mul(ALL_PERCENT);
        let places = Places {
            prompt: Arc::new(Semaphore::new(PROMPT_TURNS * processors)),
            background: Arc::new(Turnstile::new(processors.saturating_sub(1))),
            resumed: Arc::new(Turnstile::new(RESUMED_TURNS * processors)),
            all: Share::new(percent, LONGEST_PROMPT_TURN * PROMPT_TURNS as u32),
        };
        Self {
            prompt: Pool::new("guest", Priority::Usual),
            background: Pool::new("guest-bg", Priority::Background),
            places: Arc::new(places),
        }
    }

    /// What a deployment starts with.
    pub(crate) fn share_of_deployment() -> Share {
        Share::new(DEPLOYMENT_PERCENT, LONGEST_PROMPT_TURN)
    }

    /// Runs one turn of a deployment, when it is its turn, unless it is given up before that.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        share: &Share,
        given_up: impl Future<Output = ()>,
        turn: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TurnLost> {
        let place = tokio::select! {
            biased;
            () = given_up => return Err(TurnLost::GivenUp),
            place = self.places.enter(share) => place?,
        };
        let is_prompt = matches!(place, Held::Prompt(_));
        let running = Running {
            state: Mutex::new(RunningState {
                thread: None,
                lowered: false,
                held: Some(place),
                counted: Duration::ZERO,
            }),
            places: Arc::clone(&self.places),
            account: Arc::clone(&share.account),
        };
        let ran = if is_prompt {
            let (running, mut outcome) = self.prompt.start(running, turn)?;
            tokio::select! {
                biased;
                outcome = &mut outcome => outcome,
                () = tokio::time::sleep(LONGEST_PROMPT_TURN) => {
                    running.lower(LONGEST_PROMPT_TURN);
                    outcome.await
                }
            }
        } else {
            let (_, outcome) = self.background.start(running, turn)?;
            outcome.await
        };
        let ran = ran.map_err(|_| TurnLost::Failed)?;
        share.take(ran.took, Instant::now());
        Ok(ran.outcome)
    }
}

impl Places {
    /// Waits for a place: a prompt one for a deployment that is within its share.
    async fn enter(&self, share: &Share) -> Result<Held, TurnLost> {
        let now = Instant::now();
        if !(share.has_left(now) && self.all.has_left(now)) {
            let place = self.background.wait(&share.account).await;
            return Ok(Held::Background(place));
        }
        let place = Arc::clone(&self.prompt).acquire_owned().await;
        place.map(Held::Prompt).map_err(|_| TurnLost::Stopping)
    }
}

/// What a turn came to, and the processor time it took.
struct Ran<T> {
    outcome: T,
    took: Duration,
}

/// At which priority a pool's threads begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Usual,
    Background,
}

/// Threads that come when they are needed, and go when they are not or have been lowered.
struct Pool(Arc<PoolShared>);

struct PoolShared {
    name: &'static str,
    priority: Priority,
    state: Mutex<PoolState>,
    wake: Condvar,
}

#[derive(Default)]
struct PoolState {
    /// Turns for threads that are idle.
    queue: VecDeque<Job>,
    idle: usize,
}

struct Job {
    running: Arc<Running>,
    turn: Box<dyn FnOnce() + Send>,
}

/// A turn that is under way, or about to be.
struct Running {
    state: Mutex<RunningState>,
    places: Arc<Places>,
    account: Arc<Account>,
}

struct RunningState {
    thread: Option<ThreadId>,
    lowered: bool,
    /// Where it runs. None while it waits, and from when it was lowered until it computes on.
    held: Option<Held>,
    /// What its thread had taken in all when its time was last looked at.
    counted: Duration,
}

/// A place that a turn holds.
enum Held {
    Prompt(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
    Background(Place),
    Resumed(#[expect(dead_code, reason = "held until it is dropped")] Place),
}

impl RunningState {
    /// What the thread that runs it, which is the calling one, has taken since it was looked at.
    fn count(&mut self) -> Duration {
        let counted = thread_cpu_time();
        let took = counted.saturating_sub(self.counted);
        self.counted = counted;
        took
    }
}

impl Running {
    /// Lets every other thread go before it: it has computed for such a time as if it were one of the
    /// broker's own.
    fn lower(&self, took: Duration) {
        let mut state = self.state.lock();
        if !matches!(state.held, Some(Held::Prompt(_))) {
            return;
        }
        state.held = None;
        state.lowered = true;
        self.places.all.take(took, Instant::now());
        if let Some(thread) = state.thread {
            priority::lower(thread);
        }
    }

    fn begin(&self, thread: Option<ThreadId>) {
        let mut state = self.state.lock();
        state.thread = thread;
        state.counted = thread_cpu_time();
        if let (Some(thread), true) = (thread, state.lowered) {
            priority::lower(thread);
        }
    }

    /// Takes note of what it took, and gives up its place if it is a prompt one.
    fn stand_back(&self) {
        let took = self.state.lock().count();
        self.lower(took);
        self.places.background.charge(&self.account, took);
    }

    fn waiting(&self) {
        self.stand_back();
        self.state.lock().held = None;
    }

    async fn waited(&self) {
        let nobodys = Arc::default();
        let place = self.places.resumed.wait(&nobodys).await;
        self.state.lock().held = Some(Held::Resumed(place));
    }

    async fn computed(&self) {
        self.stand_back();
        let background = &self.places.background;
        let held = self.state.lock().held.take();
        let place = match held {
            Some(Held::Background(place)) => background.wait_again(place, &self.account).await,
            other => {
                drop(other);
                background.wait(&self.account).await
            }
        };
        self.state.lock().held = Some(Held::Background(place));
    }

    /// It has ended: its place is free, and its thread will not be lowered any more.
    fn end(&self) {
        let mut state = self.state.lock();
        state.thread = None;
        let took = state.count();
        let held = state.held.take();
        drop(state);
        if matches!(held, Some(Held::Prompt(_))) {
            self.places.all.take(took, Instant::now());
        } else {
            self.places.background.charge(&self.account, took);
        }
    }

    /// Whether its thread was lowered.
    fn was_lowered(&self) -> bool {
        self.state.lock().lowered
    }
}

impl Pool {
    fn new(name: &'static str, priority: Priority) -> Self {
        Self(Arc::new(PoolShared {
            name,
            priority,
            state: Mutex::default(),
            wake: Condvar::new(),
        }))
    }

    /// Starts a turn at once.
    fn start<T: Send + 'static>(
        &self,
        running: Running,
        turn: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<(Arc<Running>, oneshot::Receiver<Ran<T>>)> {
        let (done, outcome) = oneshot::channel();
        let running = Arc::new(running);
        let turn = {
            let running = Arc::clone(&running);
            move || {
                let before = thread_cpu_time();
                let outcome = turn();
                let took = thread_cpu_time().saturating_sub(before);
                running.end();
                // Who waited may have gone.
                let _ = done.send(Ran { outcome, took });
            }
        };
        let job = Job {
            running: Arc::clone(&running),
            turn: Box::new(turn),
        };
        let mut state = self.0.state.lock();
        if state.idle > state.queue.len() {
            state.queue.push_back(job);
            drop(state);
            self.0.wake.notify_one();
        } else {
            drop(state);
            let pool = Arc::clone(&self.0);
            let thread = thread::Builder::new().name(pool.name.to_owned());
            thread.spawn(move || pool.work(job))?;
        }
        Ok((running, outcome))
    }
}

impl PoolShared {
    /// A thread's life.
    fn work(&self, mut job: Job) {
        if self.priority == Priority::Background {
            priority::lower_this_thread();
        }
        let thread = priority::this_thread();
        loop {
            job.running.begin(thread);
            CURRENT.set(Some(Arc::clone(&job.running)));
            (job.turn)();
            CURRENT.set(None);
            // There is no way back to the priority it had.
            if job.running.was_lowered() {
                return;
            }
            match self.next() {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.wake.wait_for(&mut state, KEEP_THREAD);
            state.idle -= 1;
            if waited.timed_out() {
                return state.queue.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use tokio::runtime::Handle;

    use super::*;

    fn spin(time: Duration) {
        let before = thread_cpu_time();
        while thread_cpu_time() - before < time {
            std::hint::spin_loop();
        }
    }

    async fn run<T: Send + 'static>(
        threads: &GuestThreads,
        share: &Share,
        turn: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TurnLost> {
        threads.run(share, std::future::pending(), turn).await
    }

    #[tokio::test]
    async fn a_turn_gives_what_it_came_to_and_its_time_is_taken() {
        let threads = GuestThreads::new(1);
        let share = GuestThreads::share_of_deployment();
        let turn = || {
            spin(2 * LONGEST_PROMPT_TURN);
            7
        };
        assert_eq!(run(&threads, &share, turn).await.unwrap(), 7);
        assert!(!share.has_left(Instant::now()));
        // In the background it still runs.
        assert_eq!(run(&threads, &share, || 8).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_turn_that_panics_is_told_and_the_next_one_runs() {
        let threads = GuestThreads::new(1);
        let share = GuestThreads::share_of_deployment();
        let lost = run(&threads, &share, || panic!("as the test wants it")).await;
        assert!(matches!(lost, Err::<(), _>(TurnLost::Failed)));
        assert_eq!(run(&threads, &share, || 8).await.unwrap(), 8);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn long_turns_are_lowered_and_later_ones_of_others_are_not() {
        fn nice() -> i32 {
            rustix::process::getpriority_process(None).unwrap()
        }
        let threads = GuestThreads::new(1);
        let (busy, modest) = (
            GuestThreads::share_of_deployment(),
            GuestThreads::share_of_deployment(),
        );
        let usual = run(&threads, &modest, nice).await.unwrap();
        let (lowered, ran) = mpsc::channel();
        let long = move || {
            while nice() == usual {
                std::hint::spin_loop();
            }
            // What is left is computed in the background.
            spin(2 * LONGEST_PROMPT_TURN);
            lowered.send(nice()).unwrap();
        };
        run(&threads, &busy, long).await.unwrap();
        assert!(ran.recv().unwrap() > usual);
        assert!(run(&threads, &busy, nice).await.unwrap() > usual);
        assert_eq!(run(&threads, &modest, nice).await.unwrap(), usual);
    }

    #[tokio::test]
    async fn a_turn_that_waits_holds_nobody_up() {
        let threads = Arc::new(GuestThreads::new(1));
        for busy in [false, true] {
            let shares = [(); 2].map(|()| GuestThreads::share_of_deployment());
            if busy {
                // From here on their turns are in the background, where there is one place.
                let now = Instant::now();
                shares
                    .iter()
                    .for_each(|share| share.take(50 * LONGEST_PROMPT_TURN, now));
            }
            let [share, neighbour] = shares;
            let (answer, answered) = mpsc::channel();
            let (asked, asks) = oneshot::channel();
            let turn = move || {
                asked.send(()).unwrap();
                waiting();
                answered.recv().unwrap()
            };
            let waits = tokio::spawn({
                let threads = Arc::clone(&threads);
                async move { run(&threads, &share, turn).await.unwrap() }
            });
            asks.await.unwrap();
            for turn in 0..2 * PROMPT_TURNS {
                assert_eq!(run(&threads, &neighbour, move || turn).await.unwrap(), turn);
            }
            answer.send("late").unwrap();
            assert_eq!(waits.await.unwrap(), "late");
            assert_eq!(threads.places.background.free(), 1);
        }
    }

    #[tokio::test]
    async fn only_so_many_that_have_waited_go_on_at_once() {
        let threads = Arc::new(GuestThreads::new(1));
        let (begun, went_on) = mpsc::channel();
        let mut held = Vec::new();
        for number in 0..=RESUMED_TURNS {
            let (begun, threads) = (begun.clone(), Arc::clone(&threads));
            let (let_end, end) = mpsc::channel::<()>();
            let runtime = Handle::current();
            let turn = move || {
                waiting();
                runtime.block_on(waited());
                begun.send(number).unwrap();
                end.recv().unwrap();
            };
            let running = tokio::spawn(async move {
                let share = GuestThreads::share_of_deployment();
                run(&threads, &share, turn).await.unwrap();
            });
            held.push((let_end, running));
        }
        while threads.places.resumed.queued() == 0 {
            tokio::task::yield_now().await;
        }
        let first: Vec<_> = (0..RESUMED_TURNS)
            .map(|_| went_on.recv().unwrap())
            .collect();
        assert!(went_on.try_recv().is_err(), "one has no place yet");
        // The end of any of them lets it on.
        held[first[0]].0.send(()).unwrap();
        let last = went_on.recv().unwrap();
        assert!(!first.contains(&last));
        for (number, (let_end, running)) in held.into_iter().enumerate() {
            if number != first[0] {
                let_end.send(()).unwrap();
            }
            running.await.unwrap();
        }
        // Each gives its place back when what it came to is known already.
        while threads.places.resumed.free() < RESUMED_TURNS {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn guests_that_compute_without_end_let_each_other_and_others_have_their_turn() {
        let threads = Arc::new(GuestThreads::new(1));
        let ends = Arc::new(AtomicBool::new(false));
        let endless: Vec<_> = (0..3)
            .map(|_| {
                let (threads, ends) = (Arc::clone(&threads), Arc::clone(&ends));
                let (begun, begins) = oneshot::channel();
                let runtime = Handle::current();
                let turn = move || {
                    begun.send(()).unwrap();
                    let mut rounds = 0;
                    while !ends.load(Ordering::Relaxed) {
                        spin(Duration::from_millis(1));
                        runtime.block_on(computed());
                        rounds += 1;
                    }
                    rounds
                };
                let running = tokio::spawn(async move {
                    let share = GuestThreads::share_of_deployment();
                    run(&threads, &share, turn).await.unwrap()
                });
                (begins, running)
            })
            .collect();
        let mut running = Vec::new();
        for (begins, endless) in endless {
            begins.await.unwrap();
            running.push(endless);
        }
        let busy = GuestThreads::share_of_deployment();
        busy.take(Duration::from_secs(3_600), Instant::now());
        for turn in 0..10 {
            let came = run(&threads, &busy, move || {
                spin(Duration::from_millis(1));
                turn
            });
            assert_eq!(came.await.unwrap(), turn);
        }
        // One that is not let through in time is given up without a trace.
        let given_up = threads.run(&busy, std::future::ready(()), || ());
        assert!(matches!(given_up.await, Err(TurnLost::GivenUp)));
        ends.store(true, Ordering::Relaxed);
        for endless in running {
            let rounds = endless.await.unwrap();
            assert!(rounds > 1, "{rounds}");
        }
        assert_eq!(threads.places.background.free(), 1);
        assert_eq!(
            threads.places.prompt.available_permits(),
            PROMPT_TURNS,
            "those that compute on are no prompt turns"
        );
    }
}
