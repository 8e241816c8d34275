//! The cluster's image: its brokers, topics, partitions, replicas, leaders, producer ids and
//! deployments.
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
//! # Replicas
//!
//! A partition has replicas, one of which leads it in an epoch. Each replica is in a directory with
//! a number: the image hands them out, a later one is greater, and a directory that has lost
//! something gets another. So an acknowledgement, or a leadership, tells for which directory it
//! holds. What a partition's replicas are told is its [`Partition`]: version, epoch, leader and its
//! directory, the replicas, and those that are to take their place.
//!
//! Who is to lead or to keep what after a broker has come or gone is not decided by validation:
//! [`plan`] says which commands to give, and these are validated like any others. The [`steward`]
//! gives them in time, on the broker that leads the metadata quorum; all brokers tell it that they are
//! there, and what they lead.
//!
//! # Journals
//!
//! The topic that holds a deployment's journals of an input topic ([`names::journal_topic`]) is a companion of
//! that topic: its partitions are kept and led where the input's partitions of the same numbers
//! are, so that a worker has both on its broker. They are placed there, elected, drained and moved
//! together with them, and brought after them by the steward where that was not possible at the same
//! time. Nothing else moves them, and they do not count as load. When the input is gone, it is an
//! internal topic like others.
//!
//! # On disk and between brokers
//!
//! Records and snapshots are a version number and postcard. Until a release has written it,
//! [`FORMAT_VERSION`] stays 1 and the layout may change under it; the data directory has a version
//! of its own, which changes with it. From then on, who changes a type adds a version here. The
//! types of
//! [`millstream_protocol::api`] that they carry ([`TopicConfig`], [`DeploymentSpec`]) are a part of
//! the format as well. The tests hold the bytes. The same goes for what brokers tell each other:
//! commands, [`Answer`]s, beats; its version is [`WIRE_VERSION`].
//!
//! [`FORMAT_VERSION`]: record::FORMAT_VERSION
//! [`WIRE_VERSION`]: command::WIRE_VERSION
//! [`TopicConfig`]: millstream_protocol::api::topic::TopicConfig
//! [`DeploymentSpec`]: millstream_protocol::api::plugin::DeploymentSpec
//!
//! # Layout
//!
//! - [`Image`]: the state, its queries, [`Image::validate`] and [`Image::apply`]
//! - [`command`], [`record`]: what is asked, and what was decided; [`Answer`]: what comes back to who
//!   has asked
//! - [`broker`], [`topic`], [`partition`], [`deployment`]: the parts of the image
//! - [`registration`], [`token`]: who is let in, and under which number
//! - [`leaders`], [`replicas`], [`reassignment`]: how a partition's leader, directories and replicas
//!   change; `loss`: how it goes on when too many are lost
//! - `companions`: which topics go where another one is
//! - [`placement`]: which brokers get a new partition; `load`: what each carries
//! - [`plan`]: what to do about brokers that come, go and are emptied; how the partitions stand
//! - [`steward`]: what is decided on behalf of the cluster, and the cluster's status; [`beat`]: what
//!   brokers tell it
//! - [`names`]: what a name may be
//! - [`error`]: the errors of each command, and their codes on the wire
//! - [`limits`]: the bounds
//!
//! # Example
//!
//! ```
//! use millstream_metadata::{Actor, Command, FeatureRange, Image, Limits, Registration};
//! use millstream_protocol::TopicId;
//! use millstream_protocol::api::peer::Lineage;
//! use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
//! use uuid::Uuid;
//!
//! let mut image = Image::default();
//! let topic = CreateTopic { name: "orders".into(), partitions: 3, config: TopicConfig::default() };
//! for command in [
//!     Command::FormCluster { cluster_id: Uuid::from_u128(1) },
//!     Command::RegisterBroker {
//!         registration: Registration {
//!             broker_id: 1,
//!             directory_id: Uuid::from_u128(2),
//!             incarnation: 1,
//!             lineage: Lineage::new(Uuid::from_u128(9)),
//!             address: "127.0.0.1:9092".into(),
//!             rack: None,
//!             features: FeatureRange::CURRENT,
//!             join: None,
//!         },
//!     },
//!     Command::CreateTopic { topic_id: TopicId(Uuid::from_u128(3)), topic, actor: Actor::User },
//! ] {
//!     let record = image.validate(&command, &Limits::default()).unwrap().unwrap();
//!     image.apply(&record);
//! }
//! assert_eq!(image.topic("orders").unwrap().partitions.len(), 3);
//! ```

mod answer;
pub mod beat;
pub mod broker;
mod codec;
pub mod command;
mod companions;
pub mod deployment;
pub mod difference;
pub mod error;
mod error_code;
mod history;
mod image;
pub mod leaders;
pub mod limits;
mod load;
mod loops;
mod loss;
pub mod names;
pub mod partition;
pub mod placement;
pub mod plan;
pub mod reassignment;
pub mod record;
pub mod registration;
pub mod replicas;
mod shadow;
mod snapshot;
pub mod steward;
pub mod token;
pub mod topic;

pub use answer::Answer;
pub use beat::{Beat, BeatAnswer, Session};
pub use broker::{Broker, BrokerId, BrokerState, FeatureRange, Start};
pub use codec::CodecError;
pub use command::{Actor, Command};
pub use deployment::{Deployment, DeploymentId, Plugin};
pub use error::{CommandError, SpecError};
pub use image::{FEATURE_LEVEL, Image, MIN_FEATURE_LEVEL};
pub use leaders::{Appointment, Nomination};
pub use limits::Limits;
pub use millstream_protocol::api::plugin::OnExisting;
pub use partition::{DirectoryNumber, Partition, Replica};
pub use reassignment::Reassignment;
pub use record::Record;
pub use registration::{Join, Registration};
pub use replicas::RegisteredReplica;
pub use shadow::Shadow;
pub use steward::Steward;
pub use token::{JoinToken, TokenHash};
pub use topic::Topic;
