//! The task of a table: it reads the table back, and has a task for each partition keep it in step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_protocol::api::plugin::TableState;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use super::part::{Keeper, Lost, Part};
use super::source::Source;
use super::table::Table;
use crate::config::STATE_FLUSH_CHECK;
use crate::errors;

/// The first wait after a table could not be read; it doubles from one to the next.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// Why a table has failed, as far as it is told, bytes: all tables of a deployment go into its description.
const MAX_REASON_BYTES: usize = 1024;

pub(super) struct Follower {
    table: Arc<Table>,
    stopped: watch::Receiver<bool>,
}

impl Follower {
    pub(super) fn new(table: Arc<Table>, stopped: watch::Receiver<bool>) -> Self {
        Self { table, stopped }
    }

    /// Reads the table back and follows its topic, again and again, until it is stopped.
    pub(super) async fn run(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let mut parts = Vec::new();
            let lost = match self.load(&mut parts).await {
                Ok(()) => {
                    back_off = FIRST_BACK_OFF;
                    self.follow(&mut parts).await
                }
                Err(lost) => lost,
            };
            let topic = &self.table.topic;
            let state = match &lost {
                Lost::Stopped | Lost::Outdated => TableState::Loading,
                Lost::TooLarge => {
                    let limit = self.table.setting.limit_bytes;
                    let reason = format!(
                        "the table of topic {topic} takes more than the {limit} bytes that one may: delete \
                         keys, or raise the broker's `table_bytes`, then resume"
                    );
                    tracing::error!(topic, limit, "a table is given up: it is too large");
                    TableState::TooLarge { reason }
                }
                Lost::Failed(error) => {
                    tracing::error!(topic, %error, "a table cannot be read: it is tried again");
                    let mut reason = format!("the table of topic {topic}: {error}");
                    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                    TableState::Failed { reason }
                }
            };
            self.table.show(None, TableState::Loading);
            self.close(parts, matches!(lost, Lost::TooLarge)).await;
            self.table.show(None, state);
            match lost {
                Lost::Stopped => return,
                Lost::Outdated => {}
                Lost::TooLarge => {
                    while !self.table.is_wanted_again() {
                        tokio::select! {
                            () = self.table.wake.notified() => {}
                            _ = self.stopped.wait_for(|stopped| *stopped) => return,
                        }
                    }
                }
                Lost::Failed(_) => {
                    tokio::select! {
                        () = tokio::time::sleep(back_off) => {}
                        _ = self.stopped.wait_for(|stopped| *stopped) => return,
                    }
                    back_off = (2 * back_off).min(LONGEST_BACK_OFF);
                    self.table.show(None, TableState::Loading);
                }
            }
        }
    }

    /// Reads all partitions back.
    async fn load(&mut self, parts: &mut Vec<Arc<Part>>) -> Result<(), Lost> {
        self.table.broken.store(false, Ordering::Release);
        let partitions = self.table.partitions();
        let partitions = partitions.ok_or_else(|| errors::unknown_topic(&self.table.topic))?;
        let mut loading = JoinSet::new();
        for partition in partitions {
            loading.spawn(load(
                Arc::clone(&self.table),
                partition,
                self.stopped.clone(),
            ));
        }
        // All of them end, also after an error: nobody else may have their files.
        let mut outcome = Ok(());
        while let Some(loaded) = loading.join_next().await {
            match loaded.map_err(errors::unfinished).map_err(Lost::from) {
                Ok(Ok(part)) => parts.push(part),
                Ok(Err(lost)) | Err(lost) => outcome = Err(lost),
            }
        }
        parts.sort_unstable_by_key(|part| part.partition.id().partition);
        outcome
    }

    /// Follows the topic until something ends it.
    async fn follow(&mut self, parts: &mut Vec<Arc<Part>>) -> Lost {
        loop {
            self.table.show(Some(parts), TableState::Following);
            let lost = match self.is_too_large() {
                true => Lost::TooLarge,
                false => self.keep(parts).await,
            };
            if !matches!(lost, Lost::TooLarge) {
                return lost;
            }
            // What is in memory counts in full, whatever it replaces. In the files it is known.
            if let Err(lost) = flush_all(parts).await {
                return lost;
            }
            if self.is_too_large() {
                return Lost::TooLarge;
            }
        }
    }

    fn is_too_large(&self) -> bool {
        self.table.bytes() > self.table.setting.limit_bytes
    }

    /// Has each partition kept in step, and those that are added.
    async fn keep(&mut self, parts: &mut Vec<Arc<Part>>) -> Lost {
        let (stop, stopped) = watch::channel(false);
        let mut keepers = JoinSet::new();
        for part in parts.iter() {
            keepers.spawn(keep(
                Arc::clone(&self.table),
                Arc::clone(part),
                stopped.clone(),
            ));
        }
        let mut looks = tokio::time::interval(STATE_FLUSH_CHECK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let lost = loop {
            tokio::select! {
                Some(ended) = keepers.join_next() => break match ended {
                    Ok(lost) => lost,
                    Err(error) => errors::unfinished(error).into(),
                },
                _ = self.stopped.wait_for(|stopped| *stopped) => break Lost::Stopped,
                () = self.table.wake.notified() => {}
                _ = looks.tick() => {}
            }
            if self.table.broken.load(Ordering::Acquire) {
                // What exactly is in the log already.
                break Lost::Outdated;
            }
            match self.added(parts).await {
                Ok(added) if added.is_empty() => {}
                Ok(added) => {
                    for part in added {
                        parts.push(Arc::clone(&part));
                        keepers.spawn(keep(Arc::clone(&self.table), part, stopped.clone()));
                    }
                    self.table.show(Some(parts), TableState::Following);
                }
                Err(lost) => break lost,
            }
        };
        // Nobody else is there to be told.
        let _ = stop.send(true);
        while keepers.join_next().await.is_some() {}
        lost
    }

    /// The partitions that the topic has and the table does not.
    async fn added(&self, parts: &[Arc<Part>]) -> Result<Vec<Arc<Part>>, Lost> {
        let partitions = self.table.partitions().unwrap_or_default();
        let mut added = Vec::new();
        for partition in partitions.into_iter().skip(parts.len()) {
            let table = Arc::clone(&self.table);
            added.push(load(table, partition, self.stopped.clone()).await?);
        }
        Ok(added)
    }

    /// Closes the stores, where it may block, and removes their files if they are not wanted.
    async fn close(&self, parts: Vec<Arc<Part>>, remove: bool) {
        let (states, topic_id) = (Arc::clone(&self.table.setting.states), self.table.topic_id);
        let closing = spawn_blocking(move || {
            drop(parts);
            if remove {
                states.remove(topic_id)
            } else {
                Ok(())
            }
        });
        match closing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a table that is too large remains on disk"),
            Err(error) => tracing::error!(%error, "closing a table failed"),
        }
    }
}

/// Reads one partition back, when it is its turn.
async fn load(
    table: Arc<Table>,
    partition: Source,
    stopped: watch::Receiver<bool>,
) -> Result<Arc<Part>, Lost> {
    let _reading = table
        .setting
        .reads
        .acquire()
        .await
        .map_err(errors::stopping)?;
    let states = Arc::clone(&table.setting.states);
    let loaded = spawn_blocking(move || Part::load(&states, partition, &stopped)).await;
    loaded.map_err(errors::unfinished)?.map(Arc::new)
}

/// Keeps one partition in step until it is told to stop, or cannot.
async fn keep(table: Arc<Table>, part: Arc<Part>, mut stopped: watch::Receiver<bool>) -> Lost {
    let mut changes = part.partition.watch();
    let mut keeper = Keeper::new(part);
    loop {
        changes.borrow_and_update();
        while keeper.is_behind() {
            if *stopped.borrow() {
                return Lost::Stopped;
            }
            let reading = match table.setting.reads.acquire().await {
                Ok(reading) => reading,
                Err(error) => return errors::stopping(error).into(),
            };
            let stepped = spawn_blocking(move || {
                let stepped = keeper.step();
                (keeper, stepped)
            });
            let stepped = stepped.await;
            drop(reading);
            match stepped {
                Ok((came, Ok(()))) => keeper = came,
                Ok((_, Err(lost))) => return lost,
                Err(error) => return errors::unfinished(error).into(),
            }
            table.moved();
            if table.bytes() > table.setting.limit_bytes {
                return Lost::TooLarge;
            }
        }
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return errors::partition_gone(keeper.part().partition.id()).into();
                }
            }
            // It may be time to write to the file.
            () = tokio::time::sleep(STATE_FLUSH_CHECK) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Lost::Stopped,
        }
    }
}

/// Has every part's memory in its file.
async fn flush_all(parts: &[Arc<Part>]) -> Result<(), Lost> {
    let parts = parts.to_vec();
    let flushed = spawn_blocking(move || parts.iter().try_for_each(|part| part.flush()));
    let flushed = flushed.await.map_err(errors::unfinished)?;
    flushed.map_err(|error| Lost::Failed(errors::from_state(&error)))
}
