//! Looking after a cluster: topics, offsets, groups, plugins.

mod cluster;
mod groups;
mod lifecycle;
mod offsets;
mod plugins;
mod replay;
mod secrets;
mod state;
mod topics;

pub use lifecycle::PluginMetrics;
pub use plugins::{PluginLogs, PluginLogsBuilder};
pub use replay::{PromoteBuilder, ReplayBuilder, ReplayProgress};
pub use state::{PluginState, PluginStateBuilder, StateItem};
pub use topics::{AlterTopicBuilder, CreateTopicBuilder};

use std::future::Future;
use std::pin::Pin;

use millstream_protocol::api::hello::{BrokerDescription, DescribeBroker};

use crate::client::Client;
use crate::error::Result;

/// Looks after a cluster. Made by [`Client::admin`]; clones share the client's connection.
///
/// Requests are repeated when their answer is lost. Where the repetition alone would be refused
/// because the first attempt had worked (a topic that now exists, or no longer does), the methods
/// here notice and succeed.
///
/// ```no_run
/// use std::time::Duration;
/// use millstream::{Client, Durability};
///
/// # async fn example(client: Client) -> millstream::Result<()> {
/// let admin = client.admin();
/// admin
///     .create_topic("orders")
///     .partitions(6)
///     .durability(Durability::Sync)
///     .retention(Duration::from_secs(24 * 60 * 60))
///     .await?;
/// for topic in admin.list_topics().await? {
///     println!("{}: {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// What awaiting a builder runs.
type Request<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What the broker at the other end of the connection is, and how it is.
    pub async fn describe_broker(&self) -> Result<BrokerDescription> {
        self.client.call(DescribeBroker {}).await
    }
}
