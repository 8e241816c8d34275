//! The client process: it takes tasks by its standard input and does them, one at a time.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use millstream::{Admin, Client, ErrorCode, Profile};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::disk::{self, Flush};
use super::identities::{Identities, SERVER_NAME};
use super::payload::Payload;
use super::raw_quic::RawClient;
use super::task::{Answer, BrokerTask, DiskTask, Outcome, QuicTask, Task};
use super::workload::{cluster, consume, latency, native, produce, worker};

/// How the client process is started.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The folder with the run's identities
    #[arg(long)]
    pub(super) identities: PathBuf,
    /// The broker's address
    #[arg(long, required_unless_present = "profile")]
    pub(super) broker: Option<String>,
    /// The profile of a cluster's operator, in place of it
    #[arg(long)]
    pub(super) profile: Option<PathBuf>,
    /// The raw QUIC server's address
    #[arg(long)]
    pub(super) quic: Option<String>,
}

/// Does what comes by standard input until it ends.
pub(super) async fn run(args: ClientArgs) -> anyhow::Result<()> {
    let hands = Arc::new(Hands::connect(args).await?);
    let mut tasks = lines_of_stdin()?;
    tell(&Ok(Outcome::Done))?;
    while let Some(line) = tasks.recv().await {
        let task: Task = serde_json::from_str(&line).context("a task that cannot be read")?;
        let hands = Arc::clone(&hands);
        // Spawned, so that it runs on the runtime's own threads, as a server's requests do.
        let mut performing = tokio::spawn(async move { hands.perform(task).await });
        let done = tokio::select! {
            done = &mut performing => done?,
            next = tasks.recv() => match next {
                Some(_) => bail!("a task came before the one before it was done"),
                None => return Ok(()),
            },
        };
        tell(&done.map_err(|error| format!("{error:#}")))?;
    }
    Ok(())
}

fn tell(answer: &Answer) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer)?;
    writeln!(stdout)?;
    Ok(stdout.flush()?)
}

/// The lines of standard input; the channel closes at its end.
pub(super) fn lines_of_stdin() -> anyhow::Result<mpsc::UnboundedReceiver<String>> {
    let (sender, lines) = mpsc::unbounded_channel();
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new()
        .name("standard input".to_owned())
        .spawn(read)
        .context("cannot start a thread")?;
    Ok(lines)
}

/// What tasks are done with: connections that are open, and bytes that are in memory.
struct Hands {
    /// Of a cluster's operator, if there is one.
    profile: Option<Profile>,
    producing: Client,
    consuming: Client,
    quic: Option<RawClient>,
    payload: Payload,
}

impl Hands {
    async fn connect(args: ClientArgs) -> anyhow::Result<Self> {
        let identities = Identities::at(&args.identities);
        let payload = Payload::new();
        let profile = args.profile.as_deref().map(Profile::load).transpose()?;
        let connect = async |name: &str| {
            let builder = match &profile {
                Some(profile) => Client::builder().profile(profile)?,
                None => Client::builder()
                    .addresses(&args.broker)
                    .server_name(SERVER_NAME)
                    .identity(identities.client()?),
            };
            anyhow::Ok(builder.client_name(name).connect().await?)
        };
        let quic = match &args.quic {
            Some(address) => Some(RawClient::connect(&identities, address, payload.clone()).await?),
            None => None,
        };
        Ok(Self {
            producing: connect("bench-producer").await?,
            consuming: connect("bench-consumer").await?,
            profile,
            quic,
            payload,
        })
    }

    /// What only the broker at this address answers.
    async fn admin_of(&self, address: &str) -> anyhow::Result<Admin> {
        let mut profile = self
            .profile
            .clone()
            .context("this client knows no cluster")?;
        profile.addresses = vec![address.to_owned()];
        Ok(Client::from_profile(&profile).await?.admin())
    }

    async fn perform(&self, task: Task) -> anyhow::Result<Outcome> {
        match task {
            Task::Quic(task) => {
                let quic = self
                    .quic
                    .as_ref()
                    .context("this client knows no raw QUIC server")?;
                over_quic(quic, task).await
            }
            Task::Disk(task) => {
                let payload = self.payload.clone();
                spawn_blocking(move || to_disk(task, &payload)).await?
            }
            Task::Broker(task) => self.with_broker(task).await,
            Task::Native(task) => {
                let handled = spawn_blocking(move || native::run(task.work, task.records));
                Ok(Outcome::PerSecond(handled.await??))
            }
        }
    }

    async fn with_broker(&self, task: BrokerTask) -> anyhow::Result<Outcome> {
        let (producing, consuming, payload) = (&self.producing, &self.consuming, &self.payload);
        Ok(match task {
            BrokerTask::CreateTopic {
                topic,
                partitions,
                durability,
                replicas,
            } => {
                producing
                    .admin()
                    .create_topic(topic)
                    .partitions(partitions)
                    .replication_factor(replicas)
                    .durability(durability)
                    .await?;
                Outcome::Done
            }
            BrokerTask::DeleteTopic { topic } => {
                match producing.admin().delete_topic(topic).await {
                    // Whoever was asked first may have been killed before it could answer.
                    Err(error) if error.code() != Some(ErrorCode::UnknownTopic) => {
                        return Err(error.into());
                    }
                    _ => Outcome::Done,
                }
            }
            BrokerTask::Produce {
                topic,
                record_bytes,
                records,
            } => Outcome::Seconds(
                produce::produce(producing, payload, &topic, record_bytes, records).await?,
            ),
            BrokerTask::Consume {
                topic,
                record_bytes,
                records,
            } => {
                Outcome::Seconds(consume::consume(consuming, &topic, record_bytes, records).await?)
            }
            BrokerTask::EndToEnd {
                topic,
                record_bytes,
                records,
            } => Outcome::Seconds(
                consume::end_to_end(producing, consuming, payload, &topic, record_bytes, records)
                    .await?,
            ),
            BrokerTask::Count { topic } => {
                Outcome::Count(consume::count(&consuming.admin(), &topic).await?)
            }
            BrokerTask::AckLatency {
                topic,
                schedule,
                record_bytes,
            } => Outcome::Latency(
                latency::acknowledged(producing, payload, &topic, schedule, record_bytes).await?,
            ),
            BrokerTask::EndToEndLatency {
                topic,
                output,
                schedule,
                record_bytes,
            } => Outcome::Latency(
                latency::end_to_end(
                    producing,
                    consuming,
                    payload,
                    (&topic, output.as_deref().unwrap_or(&topic)),
                    schedule,
                    record_bytes,
                )
                .await?,
            ),
            BrokerTask::FailOver {
                topic,
                partition,
                record_bytes,
                process,
            } => {
                let target = cluster::Target {
                    topic,
                    partition,
                    record_bytes,
                };
                Outcome::Seconds(cluster::fail_over(producing, payload, target, process).await?)
            }
            BrokerTask::Elect {
                topic,
                process,
                brokers,
            } => {
                let mut admins = Vec::with_capacity(brokers.len());
                for address in brokers {
                    admins.push(self.admin_of(&address).await?);
                }
                Outcome::Seconds(cluster::elect(&admins, &topic, process).await?)
            }
            BrokerTask::CatchUp { broker, topic } => {
                let admin = self.admin_of(&broker).await?;
                Outcome::PerSecond(cluster::catch_up(&consuming.admin(), &admin, &topic).await?)
            }
            BrokerTask::FillQuakes {
                topic,
                records,
                batch_records,
            } => {
                worker::fill(producing, &topic, records, batch_records).await?;
                Outcome::Done
            }
            BrokerTask::Touch { topic, partitions } => {
                worker::touch(producing, &topic, partitions).await?;
                Outcome::Done
            }
            BrokerTask::Deploy(deployment) => {
                Outcome::Seconds(worker::deploy(&producing.admin(), &deployment).await?.1)
            }
            BrokerTask::Remove { name } => {
                producing.admin().remove_plugin(name).await?;
                Outcome::Done
            }
            BrokerTask::AwaitHandled { name, records } => {
                worker::await_handled(&producing.admin(), &name, records).await?;
                Outcome::Done
            }
            BrokerTask::RunWorker {
                deployment,
                records,
            } => Outcome::PerSecond(worker::run(producing, &deployment, records).await?),
        })
    }
}

async fn over_quic(quic: &RawClient, task: QuicTask) -> anyhow::Result<Outcome> {
    Ok(match task {
        QuicTask::Up { bytes } => Outcome::Seconds(quic.up(bytes).await?),
        QuicTask::Down { bytes } => Outcome::Seconds(quic.down(bytes).await?),
        QuicTask::Both { bytes } => Outcome::Seconds(quic.both(bytes).await?),
        QuicTask::RoundTrips {
            schedule,
            request_bytes,
            answer_bytes,
        } => Outcome::Latency(
            quic.round_trips(schedule, request_bytes, answer_bytes)
                .await?,
        ),
    })
}

fn to_disk(task: DiskTask, payload: &Payload) -> anyhow::Result<Outcome> {
    Ok(match task {
        DiskTask::Write {
            folder,
            bytes,
            group_bytes,
        } => {
            let flush = group_bytes.map_or(Flush::Never, Flush::Each);
            Outcome::Seconds(disk::write(&folder, payload, bytes, flush)?)
        }
        DiskTask::Sync {
            folder,
            record_bytes,
            duration,
        } => Outcome::Latency(disk::sync_records(
            &folder,
            payload,
            record_bytes,
            duration,
        )?),
    })
}
