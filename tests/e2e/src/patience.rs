//! Waiting for a condition, and no longer than somebody would watch it.

use std::time::{Duration, Instant};

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
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}

/// Looks until the condition gives something, outside of an asynchronous runtime.
pub fn until_blocking<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(LOOK_AGAIN);
    }
}
