//! The cluster's image: its brokers, topics, partitions, leaders, producer ids and deployments.
//!
//! A pure core, and the state machine of the metadata log. It knows no network, no disk, no clock
//! and no randomness: new identities and the time are part of a [`Command`]. It does not know what
//! a partition's log holds, nor what a plugin's workers are doing.
//!
//! # Two steps
//!
//! A command is *validated* against the image by the one broker that may write the metadata log,
//! and becomes at most one [`Record`]. The record is written, and then *applied* by every broker.
//! Validation says no, with an error that names the thing; application cannot: it is total and
//! deterministic, so all images that have applied the same records are equal. A command makes one
//! record or none (when nothing would change), so it is never half done.
//!
//! A record holds for the image that it was validated against: the shell makes it durable and
//! applies it before it validates the next command, and answers after that. Where a write fails,
//! nothing was applied and nothing is to be taken back.
//!
//! # On disk
//!
//! Records and snapshots are a version number and postcard. The types of
//! [`millstream_protocol::api`] that they carry ([`TopicConfig`], [`DeploymentSpec`]) are a part of
//! the format: who changes one adds a version here that still reads the old layout. The tests hold
//! the bytes.
//!
//! [`TopicConfig`]: millstream_protocol::api::topic::TopicConfig
//! [`DeploymentSpec`]: millstream_protocol::api::plugin::DeploymentSpec
//!
//! # Layout
//!
//! - [`Image`]: the state, its queries, [`Image::validate`] and [`Image::apply`]
//! - [`command`], [`record`]: what is asked, and what was decided
//! - [`broker`], [`topic`], [`deployment`]: the parts of the image, each with its rules
//! - [`placement`]: which broker gets a new partition
//! - [`names`]: what a name may be
//! - [`error`]: the errors of each command, and their codes on the wire
//! - [`limits`]: the bounds
//!
//! # Example
//!
//! ```
//! use millstream_metadata::{Actor, Command, Image, Limits};
//! use millstream_protocol::TopicId;
//! use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
//! use uuid::Uuid;
//!
//! let mut image = Image::default();
//! let topic = CreateTopic { name: "orders".into(), partitions: 3, config: TopicConfig::default() };
//! for command in [
//!     Command::FormCluster { cluster_id: Uuid::from_u128(1) },
//!     Command::RegisterBroker {
//!         broker_id: 1,
//!         directory_id: Uuid::from_u128(2),
//!         address: "127.0.0.1:9092".into(),
//!     },
//!     Command::CreateTopic { topic_id: TopicId(Uuid::from_u128(3)), topic, actor: Actor::User },
//! ] {
//!     let record = image.validate(&command, &Limits::default()).unwrap().unwrap();
//!     image.apply(&record);
//! }
//! assert_eq!(image.topic("orders").unwrap().partitions.len(), 3);
//! ```

pub mod broker;
pub mod command;
pub mod deployment;
pub mod difference;
pub mod error;
mod error_code;
mod history;
mod image;
pub mod limits;
mod loops;
pub mod names;
pub mod placement;
pub mod record;
mod shadow;
mod snapshot;
pub mod topic;

pub use broker::{Broker, BrokerId, BrokerState};
pub use command::{Actor, Command};
pub use deployment::{Deployment, DeploymentId, Plugin};
pub use error::{CommandError, SpecError};
pub use image::{FEATURE_LEVEL, Image};
pub use limits::Limits;
pub use millstream_protocol::api::plugin::OnExisting;
pub use record::{Appointment, CodecError, Record};
pub use shadow::Shadow;
pub use topic::{Partition, Topic};
