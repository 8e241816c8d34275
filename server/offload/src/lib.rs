//! Where a broker does what waits for a disk, or takes long: never where a task could be held up.
//!
//! On an executor of several threads that is a thread of its own. An executor of one thread does it in place,
//! and then nothing happens beside anything else: a simulation, which runs a broker so, sees the same order of
//! events every time, and its clock, which stands still meanwhile, shows that nothing has waited.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};

/// What was to be done has panicked, or the executor ends and does not begin it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

/// Where an executor's tasks leave what may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// To threads of its own.
    Threads,
    /// They do it in place.
    InPlace,
}

impl Offload {
    /// That of the executor that this is called on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio executor.
    pub fn here() -> Self {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => Self::InPlace,
            _ => Self::Threads,
        }
    }

    /// Runs what may block at any time until it ends by itself: on a thread with this name, which is an executor
    /// for nothing else, or as a task of the executor that this is called on.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    ///
    /// # Panics
    ///
    /// In place, outside of a tokio executor.
    pub fn host(
        self,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Self::InPlace => drop(tokio::spawn(work)),
            Self::Threads => {
                let executor = Builder::new_current_thread().enable_time().build()?;
                let thread = thread::Builder::new().name(name.to_owned());
                thread.spawn(move || executor.block_on(work))?;
            }
        }
        Ok(())
    }
}

/// Does what may block, where this executor's tasks leave that. Dropping the future does not end what has begun.
///
/// # Errors
///
/// It has panicked, or was not begun.
///
/// # Panics
///
/// Outside of a tokio executor.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    match Offload::here() {
        Offload::InPlace => {
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Failed(message(&*panic)))
        }
        Offload::Threads => {
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| Failed(error.to_string()))
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it has panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn one_thread_does_it_in_place() {
        let here = thread::current().id();
        assert_eq!(run(|| thread::current().id()).await, Ok(here));
        let (sender, told) = oneshot::channel();
        Offload::here()
            .host("worker", async move {
                sender.send(thread::current().id()).unwrap()
            })
            .unwrap();
        assert_eq!(told.await, Ok(here));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn several_leave_it_to_threads_of_its_own() {
        let (sender, told) = oneshot::channel();
        let name = || thread::current().name().map(str::to_owned);
        Offload::here()
            .host("worker", async move { sender.send(name()).unwrap() })
            .unwrap();
        assert_eq!(told.await, Ok(Some("worker".to_owned())));
        let (sender, told) = oneshot::channel();
        // It blocks until another task has run.
        let (waits, told) = tokio::join!(run(move || told.blocking_recv()), async move {
            sender.send(7).unwrap();
        });
        assert_eq!((waits, told), (Ok(Ok(7)), ()));
    }

    #[tokio::test]
    async fn a_panic_in_place_is_told() {
        let failed = run(|| -> () { panic!("no") }).await;
        assert_eq!(failed, Err(Failed("it has panicked: no".to_owned())));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_on_a_thread_is_told() {
        let failed = run(|| -> () { panic!("no") }).await.unwrap_err();
        assert!(failed.to_string().contains("panicked"), "{failed}");
    }
}
