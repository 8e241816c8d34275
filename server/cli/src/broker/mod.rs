//! `millstream broker`: look at the broker at the other end of the connection.

use std::time::Duration;

use clap::Subcommand;
use millstream::{BrokerDescription, HelloResponse};
use serde::Serialize;

use crate::cli::Context;
use crate::output::{Facts, View, bytes, count, elapsed};

#[derive(Subcommand, Debug)]
pub(crate) enum BrokerCommand {
    /// Shows what the broker is, how it is, and as whom it knows you
    Describe,
}

/// Runs one of them.
pub(crate) async fn run(command: BrokerCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        BrokerCommand::Describe => {
            let client = context.client().await?;
            let (hello, broker) = (
                client.broker().await?,
                client.admin().describe_broker().await?,
            );
            context.output.print(&BrokerView::of(&hello, &broker))
        }
    }
}

/// A broker, as it is shown.
#[derive(Debug, Serialize)]
struct BrokerView {
    cluster_id: String,
    broker_id: u32,
    software: String,
    /// The protocol's version spoken with it.
    protocol_version: u16,
    /// Whom the broker takes this client for.
    principal: String,
    uptime_ms: u64,
    connections: u32,
    topics: u32,
    partitions: u32,
    workers: u32,
    /// `null`: unknown.
    resident_bytes: Option<u64>,
}

impl BrokerView {
    fn of(hello: &HelloResponse, broker: &BrokerDescription) -> Self {
        Self {
            cluster_id: broker.cluster_id.to_string(),
            broker_id: broker.broker_id,
            software: broker.software.clone(),
            protocol_version: hello.version,
            principal: hello.principal.clone(),
            uptime_ms: broker.uptime_ms,
            connections: broker.connections,
            topics: broker.topics,
            partitions: broker.partitions,
            workers: broker.workers,
            resident_bytes: Some(broker.resident_bytes).filter(|bytes| *bytes > 0),
        }
    }
}

impl View for BrokerView {
    fn text(&self) -> String {
        Facts::default()
            .fact("broker", self.broker_id)
            .fact("cluster", &self.cluster_id)
            .fact(
                "software",
                format!(
                    "{}, protocol version {}",
                    self.software, self.protocol_version
                ),
            )
            .fact("you are", &self.principal)
            .fact(
                "running for",
                elapsed(Duration::from_millis(self.uptime_ms)),
            )
            .fact(
                "memory",
                self.resident_bytes
                    .map_or_else(|| "unknown".to_owned(), bytes),
            )
            .fact("connections", count(self.connections.into()))
            .fact("topics", count(self.topics.into()))
            .fact("partitions", count(self.partitions.into()))
            .fact("workers", count(self.workers.into()))
            .text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::both_forms;

    #[test]
    fn a_broker_in_full() {
        let cluster_id = serde_json::from_str("\"0189dcd0-11aa-7000-8000-000000000001\"").unwrap();
        let hello = HelloResponse {
            version: 1,
            cluster_id,
            broker_id: 1,
            software: "millstream/0.1.0".to_owned(),
            principal: "millstream://client/dev".to_owned(),
            max_batch_bytes: 8 << 20,
            fetch_streams: 256,
        };
        let broker = BrokerDescription {
            cluster_id,
            broker_id: 1,
            software: "millstream/0.1.0".to_owned(),
            uptime_ms: 125_000,
            connections: 1,
            topics: 3,
            partitions: 6,
            workers: 4,
            resident_bytes: 40 << 20,
        };
        insta::assert_snapshot!(both_forms(&BrokerView::of(&hello, &broker)), @r#"
        broker:      1
        cluster:     0189dcd0-11aa-7000-8000-000000000001
        software:    millstream/0.1.0, protocol version 1
        you are:     millstream://client/dev
        running for: 2m 5s
        memory:      40.0 MiB
        connections: 1
        topics:      3
        partitions:  6
        workers:     4
        ---
        {
          "cluster_id": "0189dcd0-11aa-7000-8000-000000000001",
          "broker_id": 1,
          "software": "millstream/0.1.0",
          "protocol_version": 1,
          "principal": "millstream://client/dev",
          "uptime_ms": 125000,
          "connections": 1,
          "topics": 3,
          "partitions": 6,
          "workers": 4,
          "resident_bytes": 41943040
        }
        "#);
    }
}
