//! Waiting for a condition, and no longer than somebody would watch it.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::MissedTickBehavior;

/// How long a test waits for a condition before it fails: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition that cannot wake anybody is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits for a future that should come soon.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Looks until the condition gives something.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut looks = tokio::time::interval(LOOK_AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    })
    .await
}

/// The same on a thread that may block, also one of an asynchronous runtime.
pub fn until_blocking<T: Send>(what: &str, mut condition: impl FnMut() -> Option<T> + Send) -> T {
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(until(what, async || condition()))
        });
        looking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
