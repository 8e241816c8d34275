//! Tables: compacted topics in which workers look keys up.
//!
//! A broker has each once, whole, whatever deployments name it: a [`Table`] with a store for each partition of
//! its topic, which a task of its own keeps in step with the log. What is on the disk can be thrown away.
//!
//! - this file: which tables there are
//! - `table`: one table, as those see it who look it up
//! - `follow`: how it is read back, and follows its topic
//! - `part`: one partition of it
//! - `source`: where that is read, here or at its leader

mod follow;
mod part;
mod source;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_metadata::Image;
use millstream_protocol::api::plugin::{DeploymentSpec, TableDescription};
use millstream_protocol::{TopicId, WireError};
use millstream_runtime::TableReader;
use millstream_state::States;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use self::follow::Follower;
use self::table::Table;
pub(crate) use self::table::TableTrouble;
use crate::errors;
use crate::leaders::Leaders;

/// What all tables of a broker share.
pub(crate) struct Setting {
    pub(crate) states: Arc<States>,
    /// What one table may take, bytes.
    pub(crate) limit_bytes: u64,
    /// Partitions of tables that may be read at the same time: it takes processors.
    pub(crate) reads: Semaphore,
    pub(crate) leaders: Arc<Leaders>,
}

/// Every table on this broker.
pub(crate) struct Tables {
    setting: Arc<Setting>,
    open: Mutex<BTreeMap<TopicId, OpenTable>>,
}

struct OpenTable {
    table: Arc<Table>,
    stop: watch::Sender<bool>,
    follower: JoinHandle<()>,
}

impl Tables {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting: Arc::new(setting),
            open: Mutex::default(),
        }
    }

    /// The tables of a deployment. Those that are not there yet begin to be read back.
    pub(crate) fn of(&self, spec: &DeploymentSpec) -> Result<DeploymentTables, WireError> {
        let image = self.setting.leaders.controller.image();
        let named = spec.tables.iter().map(|named| {
            let topic = image.topic(&named.topic);
            let topic = topic.ok_or_else(|| errors::unknown_topic(&named.topic))?;
            let table = self.opened(topic.topic_id, &named.topic);
            Ok((named.name.clone(), table))
        });
        named.collect::<Result<_, _>>().map(DeploymentTables)
    }

    fn opened(&self, topic_id: TopicId, topic: &str) -> Arc<Table> {
        let mut open = self.open.lock();
        let open = open.entry(topic_id).or_insert_with(|| {
            let setting = Arc::clone(&self.setting);
            let table = Arc::new(Table::new(topic_id, topic.to_owned(), setting));
            let (stop, stopped) = watch::channel(false);
            let follower = Follower::new(Arc::clone(&table), stopped);
            OpenTable {
                table,
                stop,
                follower: tokio::spawn(follower.run()),
            }
        });
        Arc::clone(&open.table)
    }

    /// Closes the tables that no deployment names any more, and removes their files.
    pub(crate) async fn close_unnamed(&self, image: &Image) {
        let unnamed: Vec<_> = {
            let mut open = self.open.lock();
            let unnamed = open.extract_if(.., |topic_id, _| !is_named(image, *topic_id));
            unnamed.collect()
        };
        for (topic_id, table) in unnamed {
            table.close().await;
            let states = Arc::clone(&self.setting.states);
            let removed = tokio::task::spawn_blocking(move || states.remove(topic_id)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(%error, "a table that no deployment names remains on disk");
            }
        }
    }

    /// Removes the files of tables that no deployment names. To be called before any is opened.
    pub(crate) fn forget_lost(&self) {
        let image = self.setting.leaders.controller.image();
        let named = |topic_id| is_named(&image, topic_id);
        if let Err(error) = self.setting.states.retain(named) {
            tracing::warn!(%error, "tables that no deployment names remain on disk");
        }
    }

    /// Closes all of them.
    pub(crate) async fn stop(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for (_, table) in open {
            table.close().await;
        }
    }
}

impl OpenTable {
    async fn close(self) {
        // The task may have ended by itself.
        let _ = self.stop.send(true);
        if let Err(error) = self.follower.await {
            tracing::error!(%error, "the task of a table failed");
        }
    }
}

/// Whether a deployment has a table that is made of this topic.
fn is_named(image: &Image, topic_id: TopicId) -> bool {
    let topic = image.topic_by_id(topic_id);
    topic.is_some_and(|topic| image.deployments().any(|it| it.looks_up(&topic.name)))
}

/// The tables of one deployment: its names for them, and what they are.
#[derive(Default)]
pub(crate) struct DeploymentTables(Vec<(String, Arc<Table>)>);

impl DeploymentTables {
    /// Waits until each has all that its topic has now.
    pub(crate) async fn caught_up(&self) -> Result<(), TableTrouble> {
        for (_, table) in &self.0 {
            table.caught_up().await?;
        }
        Ok(())
    }

    /// Reads those anew that were given up for their size.
    pub(crate) fn try_again(&self) {
        for (_, table) in &self.0 {
            table.try_again();
        }
    }

    /// What the guest looks up in.
    pub(crate) fn readers(&self) -> Vec<millstream_runtime::Table> {
        let tables = self.0.iter();
        let reader = |(name, table): &(String, Arc<Table>)| millstream_runtime::Table {
            name: name.clone(),
            reader: Arc::clone(table) as Arc<dyn TableReader>,
        };
        tables.map(reader).collect()
    }

    pub(crate) fn describe(&self) -> Vec<TableDescription> {
        let tables = self.0.iter();
        tables.map(|(name, table)| table.describe(name)).collect()
    }
}
