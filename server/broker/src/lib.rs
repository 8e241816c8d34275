//! The broker: topics, groups and workers behind one QUIC listener.
//!
//! This crate composes: it gives the pure cores (`millstream-log`, `-group`, `-metadata`) a clock,
//! threads and a disk, and lets clients reach them by the protocol of `millstream-protocol`. It
//! prints nothing, reads no configuration file and knows no command line.
//!
//! # Layout
//!
//! - [`Broker`]: start, where it listens, stop
//! - [`config`]: what it is told, and its named limits
//! - [`data_dir`]: the directory's layout, version and lock
//! - `listener`, `session`, `handlers`: connections, and one file per API family
//! - `writer`, `flusher`, `partition`, `registry`: the way of a batch to the log, and back
//! - `replicas`: the shell around each partition's replica, and which replicas there are here
//! - [`cluster`]: this broker among the others: links, the metadata quorum
//! - `controller`: what follows from a change of the metadata image
//! - `descriptors`: the files that may be open, which bound the partitions
//! - `leaders`: partitions wherever they are led
//! - `groups`: the shell around the group coordinator
//! - `workers`: deployments and the workers they run
//! - `secrets`: what they are granted by name
//! - `errors`: every error's code on the wire
//!
//! # The way of a batch
//!
//! A produce stream's task reads and validates it, the writer's thread gives it an offset and
//! writes it, the flusher's thread makes it durable (`sync`), the writer publishes the new high
//! watermark, which wakes the fetch streams and workers of the partition, and acknowledges it to
//! the produce stream.

mod background;
pub mod clock;
pub mod cluster;
pub mod config;
mod context;
mod controller;
pub mod data_dir;
mod descriptors;
mod errors;
mod flusher;
mod follower;
mod groups;
mod handlers;
mod internal;
mod leaders;
mod listener;
mod partition;
mod registry;
mod replicas;
mod secrets;
mod session;
mod storage;
mod workers;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_log::{StateFile, States};
use millstream_metadata::{FeatureRange, Join, Registration};
use millstream_transport::{BindError, Listener};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use background::Background;
use cluster::Cluster;
use cluster::quorum::Quorum;
pub use config::BrokerConfig;
use context::{Context, Front};
use controller::{Controller, ControllerSetup};
use data_dir::{DataDir, DataDirError};
use groups::Groups;
use groups::office::GroupOffice;
use leaders::Leaders;
use listener::Phase;
pub use millstream_runtime::{CompileLimits, Compiler, CompilerProcess};
use registry::Registry;
use replicas::actor::Fault;
use replicas::hosting::Hosting;
use secrets::Secrets;
use storage::LogStore;
use workers::{Deployments, DeploymentsSetup};
use writer::{Writer, WriterCommand, WriterSetup};

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What is on disk cannot be read.
    #[error("cannot load {what}: {reason}")]
    Load {
        /// A log, the metadata or the groups' offsets.
        what: String,
        /// Why.
        reason: String,
    },
    /// The cluster does not take it for one of its brokers.
    #[error("the cluster does not let this broker in: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The operating system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a broker stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// The storage failed. Nothing more was acknowledged; a new start recovers from the log.
    #[error("{0}")]
    Storage(String),
    /// Another process is this broker, or the cluster knows it no more.
    #[error("{0}")]
    Superseded(String),
    /// A part of it has panicked, for a mistake of ours. Nothing was acknowledged that is not so; a new start recovers
    /// from the log.
    #[error("{0}")]
    Panicked(String),
}

/// A running broker. Dropping it stops nothing: call [`Broker::stop`].
pub struct Broker {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    run: JoinHandle<Result<(), StopError>>,
    leaving: Leaving,
}

/// What a broker needs to leave the others.
struct Leaving {
    cluster: Arc<Cluster>,
    partitions: Arc<Registry>,
}

impl Leaving {
    /// Has others lead what this broker leads.
    async fn leave(&self) {
        if !self.cluster.leave().await {
            return;
        }
        let handed_over = self.partitions.none_led_with_others();
        if tokio::time::timeout(config::LEAVE_LIMIT, handed_over)
            .await
            .is_err()
        {
            tracing::warn!("some partitions are not led by others yet");
        }
    }
}

impl Broker {
    /// Opens the data directory, recovers every log and starts to listen.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        let started = Instant::now();
        let data_dir = Arc::new(DataDir::open(&config.data_dir, config.ticket.as_ref())?);
        // Bound first: an address in use is told before logs are recovered.
        let listener = Listener::bind(config.listen, &config.identity, config.transport.clone())?;
        let address = listener.local_addr();

        let (faults, faulty) = mpsc::unbounded_channel();
        let (events, replica_events) = mpsc::unbounded_channel();
        let store = Arc::new(LogStore::new(
            Arc::clone(&data_dir),
            Arc::clone(&config.storage),
            config.tail_cache_bytes,
        ));
        let (states, known, has_forgotten) = open_states(&data_dir, &store)?;
        let (writer, flusher) = Writer::start(WriterSetup {
            me: data_dir.identity().broker_id,
            states,
            faults: faults.clone(),
            events,
            sync_delay: config.sync_delay,
        })?;
        let metadata = |reason: String| StartError::Load {
            what: "the metadata".to_owned(),
            reason,
        };
        let partitions: Arc<Registry> = Arc::default();
        let cluster = Cluster::start(
            &data_dir,
            &config.identity,
            &config.transport,
            config.catch_up_bytes_per_second,
            writer.clone(),
            Arc::clone(&partitions),
        );
        let cluster = cluster.map_err(metadata)?;
        let limits = descriptors::limits();
        let background = Arc::new(Background::new(faults.clone()));
        let quorum = Quorum::start(&data_dir, store.storage(), limits, &cluster).await;
        let quorum = quorum.map_err(metadata)?;
        let office = cluster.begin(
            Arc::clone(&quorum),
            config.ticket.as_ref(),
            &background,
            &faults,
        );
        // Others have to reach it from here on; clients are told to wait.
        let front = Arc::new(Front::new(Arc::clone(&data_dir), Arc::clone(&cluster)));
        let (phase, phases) = watch::channel(Phase::Serving);
        let serving = tokio::spawn(listener::serve(listener, Arc::clone(&front), phases));

        let hosting = Hosting::new(
            Arc::clone(&data_dir),
            store,
            (writer.clone(), flusher),
            Arc::clone(&partitions),
            &known,
            has_forgotten,
        );
        let setup = ControllerSetup {
            cluster: Arc::clone(&cluster),
            quorum,
            office,
            hosting,
            partitions: Arc::clone(&partitions),
            events: replica_events,
            faults,
            registration: registration(&config, &data_dir, address),
            limits,
        };
        let controller = Controller::load(setup, &data_dir, &background).await?;
        let leaders = Arc::new(Leaders {
            cluster: Arc::clone(&cluster),
            controller: Arc::clone(&controller),
            partitions: Arc::clone(&partitions),
        });
        let groups = Groups::new(Arc::clone(&leaders));
        let group_office = Arc::new(GroupOffice {
            groups: Arc::clone(&groups),
            leaders: Arc::clone(&leaders),
        });
        background.spawn("the groups' clerk", Arc::clone(&groups).run());
        if controller.is_alone() {
            groups.started().await;
        }
        let secrets = Secrets::load(data_dir.secrets()).map_err(|error| StartError::Load {
            what: format!("the secrets in {}", data_dir.secrets().display()),
            reason: error.to_string(),
        })?;
        let secrets = Arc::new(secrets);
        let following = (Arc::clone(&cluster), Arc::clone(&controller));
        background.spawn(
            "who shares the secrets",
            Arc::clone(&secrets).follow(following.0, following.1),
        );
        let setup = DeploymentsSetup {
            cluster: Arc::clone(&cluster),
            controller: Arc::clone(&controller),
            group_office: Arc::clone(&group_office),
            leaders: Arc::clone(&leaders),
            partitions: Arc::clone(&partitions),
            secrets: Arc::clone(&secrets),
        };
        let deployments = Deployments::load(&config, &data_dir, setup);
        let leaving = Leaving {
            cluster: Arc::clone(&cluster),
            partitions: Arc::clone(&partitions),
        };
        let context = Arc::new(Context {
            data_dir,
            cluster,
            started,
            connections: front.connections.clone(),
            partitions,
            controller,
            groups,
            group_office,
            leaders,
            deployments,
            secrets,
            uploads: Semaphore::new(config::MAX_UPLOADS),
            state_readers: Semaphore::new(config::MAX_STATE_READERS),
            staged_bytes: Arc::new(Semaphore::new(config::MAX_STAGED_PRODUCE_BYTES)),
        });
        front.open(Arc::clone(&context));
        let run = tokio::spawn(run(serving, context, background, writer, faulty));
        tracing::info!(%address, elapsed_ms = started.elapsed().as_millis() as u64, "ready");
        Ok(Self {
            address,
            phase,
            run,
            leaving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes the requests under way, closes connections and logs.
    pub async fn stop(self) -> Result<(), StopError> {
        self.leaving.leave().await;
        // The broker may have stopped by itself already.
        let _ = self.phase.send(Phase::Draining);
        join(self.run).await
    }

    /// Waits until the broker stops by itself, which it does only when it must.
    pub async fn failed(&mut self) -> StopError {
        match join(&mut self.run).await {
            Err(error) => error,
            Ok(()) => StopError::Storage("the broker stopped".to_owned()),
        }
    }
}

async fn join(
    run: impl Future<Output = Result<Result<(), StopError>, tokio::task::JoinError>>,
) -> Result<(), StopError> {
    run.await
        .unwrap_or_else(|error| Err(StopError::Storage(error.to_string())))
}

async fn run(
    mut serving: JoinHandle<()>,
    context: Arc<Context>,
    background: Arc<Background>,
    writer: Writer,
    mut faulty: mpsc::UnboundedReceiver<Fault>,
) -> Result<(), StopError> {
    let maintenance = tokio::spawn(maintain(writer.clone()));
    let fault = tokio::select! {
        _ = &mut serving => None,
        fault = faulty.recv() => fault,
    };
    maintenance.abort();
    background.stop().await;
    if let Some(fault) = fault {
        serving.abort();
        // Nothing can be acknowledged any more, and nothing may be tried again: recovery reads
        // what the disk really has.
        tracing::error!(%fault, "stopping");
        return Err(stop_error(&fault));
    }
    context.deployments.stop().await;
    context.controller.close().await;
    context.cluster.close().await;
    let (done, stopped) = oneshot::channel();
    if writer.send(WriterCommand::Stop { done }).is_ok() {
        // A writer that ended without an answer has told its fault.
        let _ = stopped.await;
    }
    match faulty.try_recv() {
        Ok(fault) => Err(stop_error(&fault)),
        Err(_) => Ok(()),
    }
}

fn stop_error(fault: &Fault) -> StopError {
    match fault {
        Fault::Superseded(reason) => StopError::Superseded(reason.clone()),
        Fault::Panicked(_) => StopError::Panicked(fault.to_string()),
        Fault::Storage { .. } | Fault::Replicas(_) | Fault::Metadata(_) => {
            StopError::Storage(fault.to_string())
        }
    }
}

/// What a broker says of itself to the cluster.
fn registration(config: &BrokerConfig, data_dir: &DataDir, address: SocketAddr) -> Registration {
    let identity = data_dir.identity();
    Registration {
        broker_id: identity.broker_id,
        directory_id: identity.directory_id,
        incarnation: data_dir.incarnation(),
        lineage: data_dir.lineage(),
        address: config
            .advertise
            .clone()
            .unwrap_or_else(|| address.to_string()),
        rack: config.rack.clone(),
        features: FeatureRange::CURRENT,
        join: config.ticket.as_ref().map(|ticket| Join {
            token: ticket.hash(),
            now_ms: clock::now_ms(),
        }),
    }
}

/// What is known of replicas besides their logs, and whether anything may have been known that is not any more: the
/// file is made at the directory's first start, if that gets so far.
fn open_states(
    data_dir: &DataDir,
    store: &LogStore,
) -> Result<(StateFile, States, bool), StartError> {
    let path = data_dir.replicas();
    let failed = |reason: String| StartError::Load {
        what: format!("what replicas have promised, in {}", path.display()),
        reason,
    };
    let was_made = store
        .has_states()
        .map_err(|error| failed(error.to_string()))?;
    let has_forgotten = data_dir.incarnation() > 1 && !was_made;
    let (states, damaged) = store.states().map_err(|error| failed(error.to_string()))?;
    if damaged {
        return Err(failed("the file is damaged".to_owned()));
    }
    let known = states.states().clone();
    Ok((states, known, has_forgotten))
}

async fn maintain(writer: Writer) {
    let mut ticks = tokio::time::interval(config::MAINTENANCE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if writer.send(WriterCommand::Maintain).is_err() {
            return;
        }
    }
}
