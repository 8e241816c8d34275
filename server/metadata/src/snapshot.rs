//! The whole image in bytes.
//!
//! ```text
//! 1 byte   the format version
//! postcard cluster (option of id and feature level), brokers, topics, deployments, next producer id,
//!          earlier revisions (name, deployments), next directory number, join tokens
//! ```
//!
//! The lists are in the order of numbers and names, so equal images have equal bytes.

use millstream_protocol::ProducerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::Broker;
use crate::codec::{CodecError, Format};
use crate::deployment::Deployment;
use crate::image::Image;
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::partition::DirectoryNumber;
use crate::record::FORMAT_VERSION;
use crate::token::JoinToken;
use crate::topic::Topic;

const FORMAT: Format = Format {
    what: "snapshot",
    version: FORMAT_VERSION,
    limit: MAX_SNAPSHOT_BYTES,
};

#[derive(Serialize)]
struct Written<'a> {
    cluster: Option<(Uuid, u16)>,
    brokers: Vec<&'a Broker>,
    topics: Vec<&'a Topic>,
    deployments: Vec<&'a Deployment>,
    next_producer_id: ProducerId,
    history: Vec<(&'a String, &'a Vec<Deployment>)>,
    next_directory: DirectoryNumber,
    tokens: Vec<&'a JoinToken>,
}

#[derive(Deserialize)]
struct Read {
    cluster: Option<(Uuid, u16)>,
    brokers: Vec<Broker>,
    topics: Vec<Topic>,
    deployments: Vec<Deployment>,
    next_producer_id: ProducerId,
    history: Vec<(String, Vec<Deployment>)>,
    next_directory: DirectoryNumber,
    tokens: Vec<JoinToken>,
}

impl Image {
    /// The image in bytes, at most [`MAX_SNAPSHOT_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let written = Written {
            cluster: self.cluster,
            brokers: self.brokers().collect(),
            topics: self.topics().collect(),
            deployments: self.deployments().collect(),
            next_producer_id: self.next_producer_id,
            history: self.history.iter().collect(),
            next_directory: self.next_directory,
            tokens: self.tokens.values().collect(),
        };
        FORMAT.encode(&written)
    }

    /// Reads an image back. What stands in it twice is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let read: Read = FORMAT.decode(bytes)?;
        let repeated = |part, name| CodecError::Repeated {
            what: FORMAT.what,
            part,
            name,
        };
        let mut image = Self {
            cluster: read.cluster,
            next_producer_id: read.next_producer_id,
            next_directory: read.next_directory,
            ..Self::default()
        };
        for broker in read.brokers {
            if let Some(broker) = image.brokers.insert(broker.broker_id, broker) {
                return Err(repeated("broker", broker.broker_id.to_string()));
            }
        }
        for topic in read.topics {
            if image
                .topic_ids
                .insert(topic.name.clone(), topic.topic_id)
                .is_some()
            {
                return Err(repeated("topic", topic.name));
            }
            if let Some(topic) = image.topics.insert(topic.topic_id, topic) {
                return Err(repeated("topic", topic.topic_id.to_string()));
            }
        }
        for deployment in read.deployments {
            let name = deployment.spec.name.clone();
            if let Some(deployment) = image.deployments.insert(name, deployment) {
                return Err(repeated("deployment", deployment.spec.name));
            }
        }
        for (name, earlier) in read.history {
            if image.history.insert(name.clone(), earlier).is_some() {
                return Err(repeated("history of deployment", name));
            }
        }
        for token in read.tokens {
            if let Some(token) = image.tokens.insert(token.hash, token) {
                return Err(repeated("join token", format!("{:?}", token.hash)));
            }
        }
        Ok(image)
    }
}
