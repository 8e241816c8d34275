//! Which replicas this broker keeps: opened at its start, begun, appointed and removed as the
//! cluster's image has them.
//!
//! One task looks at the image, whenever it has changed, and makes what is here agree with it. It acts
//! on no image in which this start of this broker, on this data directory, is not registered: what an
//! older one says may be about a disk that is no longer there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use millstream_log::{Log, Recovery, States};
use millstream_metadata::{Image, Partition as Placed, Topic};
use millstream_protocol::api::topic::{self, TopicConfig};
use millstream_protocol::{TopicId, TopicPartition};
use millstream_replication::{Appointment, DirectoryId, Durability, Durable, ReplicaSet};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::state::State;
use crate::config::REPLICAS_PER_TURN;
use crate::data_dir::DataDir;
use crate::flusher::Flusher;
use crate::partition::{Closed, LogStatus, Partition, ReplicaState, Shared, Standing, Visible};
use crate::registry::Registry;
use crate::storage::LogStore;
use crate::writer::{Writer, WriterCommand};

/// Logs opened at the same time.
const MAX_PARALLEL_OPENS: usize = 8;

/// A replica that could not be opened, begun or removed. The broker cannot go on without knowing
/// what is on its disk.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub(crate) struct HostingError {
    what: String,
    reason: String,
}

/// What is known of a replica here.
enum Hosted {
    /// It is open.
    Open {
        directory: DirectoryId,
        /// The version of the partition that it was told last.
        version: u64,
    },
    /// It has lost something, and waits for another directory's number.
    Lost { directory: DirectoryId },
}

impl Hosted {
    fn directory(&self) -> DirectoryId {
        match self {
            Self::Open { directory, .. } | Self::Lost { directory } => *directory,
        }
    }
}

/// The replicas of this broker.
pub(crate) struct Hosting {
    data_dir: Arc<DataDir>,
    store: Arc<LogStore>,
    writer: Writer,
    flusher: Flusher,
    partitions: Arc<Registry>,
    /// What was on the disk at the start about replicas that were not looked at yet.
    found: HashMap<TopicPartition, State>,
    hosted: BTreeMap<TopicPartition, Hosted>,
    /// The settings that each topic's partitions were given last.
    settings: HashMap<TopicId, TopicConfig>,
    /// An image was followed in which this start is registered.
    is_registered: bool,
    /// What was known of all replicas may be gone: those that the first image names are not new.
    has_forgotten: bool,
}

/// A replica of this broker, as the image has it.
#[derive(Clone)]
struct Assigned {
    id: TopicPartition,
    topic: Arc<str>,
    config: TopicConfig,
    directory: DirectoryId,
    /// What it begins with, if there is nothing here.
    begins_with: Durable,
    is_alone: bool,
}

/// What the image says of the topic of a partition, and of the partition.
fn assigned(topic: &Topic, id: TopicPartition, placed: &Placed, me: u32) -> Option<Assigned> {
    let member = placed.member(me)?;
    let directory = DirectoryId(member.directory.0);
    // A leader-to-be promises its epoch when it is appointed in it, and only then seals it.
    let is_to_lead = placed.leader == me && placed.leader_directory == member.directory;
    let epoch = placed.leader_epoch - u32::from(is_to_lead);
    let begins_with = match member.trusted {
        true => Durable::assigned(directory, epoch),
        false => Durable::registered(directory, epoch),
    };
    Some(Assigned {
        id,
        topic: topic.name.as_str().into(),
        config: topic.config.clone(),
        directory,
        begins_with,
        is_alone: placed.members().count() == 1,
    })
}

/// The directory of the own replica with which the partition goes on, if an operator has said so: it is
/// trusted, whatever it says of itself.
fn accepted(placed: &Placed, me: u32) -> Option<DirectoryId> {
    placed.accepted_loss.as_ref()?;
    let own = placed.member(me).filter(|it| it.trusted)?;
    Some(DirectoryId(own.directory.0))
}

fn appointment(topic: &Topic, placed: &Placed, me: u32) -> Option<Appointment> {
    let ids = |replicas: &[millstream_metadata::Replica]| -> Vec<u32> {
        replicas.iter().map(|it| it.broker_id).collect()
    };
    let current = ReplicaSet::new(&ids(&placed.replicas))?;
    let replicas = match placed.is_changing() {
        true => ReplicaSet::changing(current.current(), &ids(&placed.next))?,
        false => current,
    };
    let directories = placed.members();
    Some(Appointment {
        version: placed.version,
        epoch: placed.leader_epoch,
        leader: placed.leader,
        replicas,
        directories: directories
            .map(|it| (it.broker_id, DirectoryId(it.directory.0)))
            .collect(),
        durability: match topic.config.durability {
            topic::Durability::Sync => Durability::Sync,
            topic::Durability::Relaxed => Durability::Relaxed,
        },
        accepted: accepted(placed, me),
    })
}

impl Hosting {
    /// With what was on the disk at the start. Nothing is opened yet.
    pub(crate) fn new(
        data_dir: Arc<DataDir>,
        store: Arc<LogStore>,
        (writer, flusher): (Writer, Flusher),
        partitions: Arc<Registry>,
        states: &States,
        has_forgotten: bool,
    ) -> Self {
        let found = states
            .iter()
            .filter_map(|(id, bytes)| State::from_bytes(bytes).map(|state| (*id, state)));
        Self {
            found: found.collect(),
            data_dir,
            store,
            writer,
            flusher,
            partitions,
            hosted: BTreeMap::new(),
            settings: HashMap::new(),
            is_registered: false,
            has_forgotten,
        }
    }

    /// The replicas that wait for another directory's number, as the image has it.
    pub(crate) fn lost<'a>(
        &'a self,
        image: &'a Image,
    ) -> impl Iterator<Item = TopicPartition> + 'a {
        // The cluster does not listen to a start that it does not know.
        let hosted = self.hosted.iter().filter(|_| self.is_registered);
        hosted.filter_map(|(id, hosted)| match hosted {
            Hosted::Lost { directory } => self.has_directory(image, *id, *directory).then_some(*id),
            Hosted::Open { .. } => None,
        })
    }

    /// The replicas that count again, as their disks say, and as the image does not say yet.
    pub(crate) fn trusted_again<'a>(
        &'a self,
        image: &'a Image,
    ) -> impl Iterator<Item = (TopicPartition, DirectoryId)> + 'a {
        let hosted = self.hosted.iter().filter(|_| self.is_registered);
        hosted.filter_map(|(id, hosted)| match hosted {
            Hosted::Open { directory, .. } => {
                let member = image.partition(*id)?.member(self.me())?;
                let is_news = !member.trusted && member.directory.0 == directory.0;
                let counts = || {
                    let partition = self.partitions.get(*id);
                    partition.is_some_and(|it| it.visible().replica == ReplicaState::Trusted)
                };
                (is_news && counts()).then_some((*id, *directory))
            }
            Hosted::Lost { .. } => None,
        })
    }

    fn has_directory(&self, image: &Image, id: TopicPartition, directory: DirectoryId) -> bool {
        let placed = image.partition(id);
        let member = placed.and_then(|it| it.member(self.me()));
        member.is_some_and(|it| it.directory.0 == directory.0)
    }

    /// Where logs are.
    pub(crate) fn store(&self) -> Arc<LogStore> {
        Arc::clone(&self.store)
    }

    /// The way to the writer.
    pub(crate) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// This broker.
    pub(crate) fn me(&self) -> u32 {
        self.data_dir.identity().broker_id
    }

    /// Whether this start of this broker is registered in the image.
    fn is_registered(&self, image: &Image) -> bool {
        image.broker(self.me()).is_some_and(|known| {
            known.directory_id == self.data_dir.identity().directory_id
                && known.incarnation == self.data_dir.incarnation()
                && known.run == self.data_dir.lineage().run
        })
    }

    /// Makes what is here agree with the image, as far as that is done in one turn, and returns whether it does. What
    /// was decided about replicas that are here comes first.
    ///
    /// # Errors
    ///
    /// The disk or the writer fails: the broker is to stop.
    pub(crate) async fn follow(&mut self, image: &Image) -> Result<bool, HostingError> {
        if !self.is_registered(image) {
            self.open_known(image).await?;
            return Ok(true);
        }
        if !self.is_registered {
            self.is_registered = true;
            self.remove_strangers(image);
        }
        self.appoint_all(image)?;
        let mut gone = self.gone(image);
        let is_whole = gone.len() <= REPLICAS_PER_TURN;
        gone.truncate(REPLICAS_PER_TURN);
        self.forsake(gone).await?;
        if !is_whole {
            return Ok(false);
        }
        let mut to_open = self.to_open(image);
        let is_whole = to_open.len() <= REPLICAS_PER_TURN;
        to_open.truncate(REPLICAS_PER_TURN);
        self.open_all(to_open).await?;
        self.appoint_all(image)?;
        self.has_forgotten &= !is_whole;
        Ok(is_whole)
    }

    /// Tells the replicas that are here what was decided about them.
    fn appoint_all(&mut self, image: &Image) -> Result<(), HostingError> {
        for topic in image.topics() {
            self.configure(topic);
            for (number, placed) in (0..).zip(&topic.partitions) {
                self.appoint(topic, topic.at(number), placed)?;
            }
        }
        Ok(())
    }

    /// What is here and is to go: replicas that are none of this broker's any more, and those that begin anew.
    fn gone(&self, image: &Image) -> Vec<(TopicPartition, Closed)> {
        let me = self.me();
        let why = |id: TopicPartition| match image.partition(id) {
            None => Some(Closed::Deleted),
            Some(placed) => match (placed.member(me), self.hosted.get(&id)) {
                (None, _) => Some(Closed::Left),
                (Some(member), Some(here)) if here.directory().0 < member.directory.0 => {
                    Some(Closed::Left)
                }
                (Some(_), _) => None,
            },
        };
        let found = self
            .found
            .keys()
            .filter(|id| !self.hosted.contains_key(*id));
        let here = self.hosted.keys().chain(found);
        here.filter_map(|id| Some((*id, why(*id)?))).collect()
    }

    /// What is to be here and is not.
    fn to_open(&self, image: &Image) -> Vec<Assigned> {
        let me = self.me();
        let assigned = image.topics().flat_map(|topic| {
            let partitions = (0..).zip(&topic.partitions);
            let missing =
                partitions.filter(|(number, _)| !self.hosted.contains_key(&topic.at(*number)));
            missing
                .filter_map(move |(number, placed)| assigned(topic, topic.at(number), placed, me))
        });
        assigned.collect()
    }

    /// Opens what is here and in the image, which may be an old one: what is committed of it can be read.
    /// It begins nothing and takes part in nothing before the cluster knows of this start.
    async fn open_known(&mut self, image: &Image) -> Result<(), HostingError> {
        let me = self.me();
        let mut to_open = Vec::new();
        for topic in image.topics() {
            for (number, placed) in (0..).zip(&topic.partitions) {
                let id = topic.at(number);
                let assigned = assigned(topic, id, placed, me);
                to_open.extend(assigned.filter(|it| {
                    let found = self.found.get(&id);
                    matches!(found, Some(State::Replica(durable)) if durable.directory == it.directory)
                }));
            }
        }
        self.open_all(to_open).await
    }

    /// Tells a replica what was decided, if that is news.
    fn appoint(
        &mut self,
        topic: &Topic,
        id: TopicPartition,
        placed: &Placed,
    ) -> Result<(), HostingError> {
        let me = self.me();
        let Some(Hosted::Open { version, .. }) = self.hosted.get_mut(&id) else {
            return Ok(());
        };
        if *version >= placed.version {
            return Ok(());
        }
        *version = placed.version;
        let Some(appointment) = appointment(topic, placed, me) else {
            let reason = "its replicas are no set".to_owned();
            return Err(self.failed(&topic.name, id, reason));
        };
        let partition = id;
        self.send(WriterCommand::Appoint {
            partition,
            appointment,
        })
    }

    /// Gives open partitions their topic's settings, if they have changed.
    fn configure(&mut self, topic: &Topic) {
        let known = self.settings.get(&topic.topic_id);
        if known == Some(&topic.config) {
            return;
        }
        let is_first = known.is_none();
        self.settings.insert(topic.topic_id, topic.config.clone());
        // Its partitions were opened with what was there first.
        if is_first {
            return;
        }
        for number in 0..topic.partitions.len() as u32 {
            let partition = topic.at(number);
            let config = Box::new(topic.config.clone());
            // A writer that has stopped has told its fault.
            let _ = self
                .writer
                .send(WriterCommand::Configure { partition, config });
        }
    }

    /// A replica that is open is damaged: it does not count any more. If there are others it begins
    /// anew, once the metadata quorum has given it another directory's number.
    pub(crate) async fn damaged(
        &mut self,
        id: TopicPartition,
        directory: DirectoryId,
    ) -> Result<(), HostingError> {
        let Some(Hosted::Open {
            directory: known, ..
        }) = self.hosted.get(&id)
        else {
            return Ok(());
        };
        if *known != directory {
            return Ok(());
        }
        self.lose(id, directory).await
    }

    /// Notes on the disk that a directory does not count any more, before anybody else hears of it.
    async fn lose(
        &mut self,
        id: TopicPartition,
        directory: DirectoryId,
    ) -> Result<(), HostingError> {
        self.store_states(vec![(id, Some(State::Lost(directory)))])
            .await?;
        self.hosted.insert(id, Hosted::Lost { directory });
        Ok(())
    }

    /// Keeps replicas no longer: their files go, and what is known of them.
    async fn forsake(&mut self, gone: Vec<(TopicPartition, Closed)>) -> Result<(), HostingError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut removals = Vec::new();
        for &(id, why) in &gone {
            self.found.remove(&id);
            self.partitions.remove(id);
            if self.hosted.remove(&id).is_some() {
                let (done, removed) = oneshot::channel();
                self.send(WriterCommand::Remove {
                    partition: id,
                    why,
                    done,
                })?;
                removals.push(removed);
            }
        }
        for removed in removals {
            // A writer that ends meanwhile has told its fault.
            let _ = removed.await;
        }
        // A replica without a state is none, so that this comes before its files go.
        let states = gone.iter().map(|(id, _)| (*id, None));
        self.store_states(states.collect()).await?;
        let (store, ids) = (Arc::clone(&self.store), gone.clone());
        let removed = millstream_offload::run(move || {
            for (id, _) in ids {
                if let Err(error) = store.remove(id) {
                    tracing::warn!(partition = %id, %error, "files of a removed replica remain");
                }
            }
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "files of removed replicas remain");
        }
        for (id, why) in gone {
            let is_last = || !self.hosted.keys().any(|it| it.topic_id == id.topic_id);
            if why == Closed::Deleted && is_last() {
                self.settings.remove(&id.topic_id);
                self.remove_folder(&id.topic_id.to_string());
            }
        }
        Ok(())
    }

    async fn open_all(&mut self, to_open: Vec<Assigned>) -> Result<(), HostingError> {
        let begun = self.begin_all(&to_open).await?;
        let mut waiting = to_open.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < MAX_PARALLEL_OPENS
                && let Some(assigned) = waiting.next()
            {
                let store = Arc::clone(&self.store);
                running.spawn(millstream_offload::run(move || {
                    let opened = store.open(assigned.id, &assigned.config);
                    (assigned, opened.map_err(|error| error.to_string()))
                }));
            }
            let Some(joined) = running.join_next().await else {
                return Ok(());
            };
            let opened = joined.map_err(|error| error.to_string());
            match opened.and_then(|it| it.map_err(|error| error.to_string())) {
                Ok((assigned, Ok((log, recovery)))) => {
                    let is_new = begun.contains(&assigned.id);
                    self.opened(assigned, (log, recovery), is_new).await?;
                }
                Ok((assigned, Err(reason))) => {
                    return Err(self.failed(&assigned.topic, assigned.id, reason));
                }
                Err(reason) => {
                    let what = "cannot open a log".to_owned();
                    return Err(HostingError { what, reason });
                }
            }
        }
    }

    /// Takes note of replicas of which there is a log and nothing else, or may have been: what they have promised is
    /// lost. One that others have as well begins anew, and counts no more until it has everything; one that nobody else
    /// has goes on with its records.
    async fn find_forgotten(&mut self, to_open: &[Assigned]) -> Result<(), HostingError> {
        let unknown = to_open.iter().filter(|it| !self.found.contains_key(&it.id));
        let unknown: Vec<TopicPartition> = unknown.map(|it| it.id).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (store, has_forgotten) = (Arc::clone(&self.store), self.has_forgotten);
        let found = millstream_offload::run(move || -> std::io::Result<BTreeSet<_>> {
            let mut found = BTreeSet::new();
            for id in unknown {
                if has_forgotten || store.has_files(id)? {
                    found.insert(id);
                }
            }
            Ok(found)
        });
        let failed = |reason: String| HostingError {
            what: "cannot look for logs".to_owned(),
            reason,
        };
        let found = found.await.map_err(|error| failed(error.to_string()))?;
        let found = found.map_err(|error| failed(error.to_string()))?;
        let mut states = Vec::new();
        for it in to_open.iter().filter(|it| found.contains(&it.id)) {
            tracing::error!(
                partition = format!("{}-{}", it.topic, it.id.partition),
                "nothing is known of what its replica has promised"
            );
            let state = match it.is_alone {
                true => State::Replica(it.begins_with),
                false => State::Lost(it.directory),
            };
            self.found.insert(it.id, state);
            states.push((it.id, Some(state)));
        }
        match states.is_empty() {
            true => Ok(()),
            false => self.store_states(states).await,
        }
    }

    /// Begins those of which nothing is known here: an empty log first, then their states with one
    /// sync, so that a state without a log is damage.
    async fn begin_all(
        &mut self,
        to_open: &[Assigned],
    ) -> Result<BTreeSet<TopicPartition>, HostingError> {
        self.find_forgotten(to_open).await?;
        let is_new = |it: &&Assigned| {
            let found = self.found.get(&it.id);
            found.is_none_or(|found| found.directory() < it.directory)
        };
        let new: Vec<Assigned> = to_open.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return Ok(BTreeSet::new());
        }
        let (store, making) = (Arc::clone(&self.store), new.clone());
        let made = millstream_offload::run(move || {
            making.iter().try_for_each(|it| {
                let made = store.make(it.id, &it.config);
                made.map_err(|error| (Arc::clone(&it.topic), it.id, error.to_string()))
            })
        });
        match made.await {
            Ok(Ok(())) => {}
            Ok(Err((topic, id, reason))) => return Err(self.failed(&topic, id, reason)),
            Err(error) => {
                return Err(HostingError {
                    what: "cannot make a log".to_owned(),
                    reason: error.to_string(),
                });
            }
        }
        let states = new
            .iter()
            .map(|it| (it.id, Some(State::Replica(it.begins_with))));
        self.store_states(states.collect()).await?;
        for it in &new {
            self.found.insert(it.id, State::Replica(it.begins_with));
        }
        Ok(new.iter().map(|it| it.id).collect())
    }

    /// A log is open: its replica goes on with what it has promised, or has lost something.
    async fn opened(
        &mut self,
        assigned: Assigned,
        (log, recovery): (Log, Recovery),
        is_new: bool,
    ) -> Result<(), HostingError> {
        let Assigned {
            id,
            directory,
            is_alone,
            ..
        } = assigned;
        let name = format!("{}-{}", assigned.topic, id.partition);
        for damage in &recovery.damage {
            tracing::error!(partition = name, %damage, "damaged");
        }
        if recovery.created && !is_new {
            tracing::error!(
                partition = name,
                "its files are gone: it begins anew, without its records"
            );
        }
        if recovery.cut_bytes > 0 {
            tracing::warn!(
                partition = name,
                bytes = recovery.cut_bytes,
                "cut a tail that was not whole: the last writes before the broker was killed"
            );
        }
        let state = self.found.remove(&id);
        // A relaxed log has acknowledged what only the machine's memory had.
        let may_lack = assigned.config.durability == topic::Durability::Relaxed
            && self.data_dir.was_rebooted()
            && !recovery.clean_stop
            && !is_alone;
        if may_lack && !is_new {
            tracing::warn!(
                partition = name,
                "the machine was started again without a clean stop: its relaxed log begins anew"
            );
        }
        // A disk may lose what it has said to have, and a spoilt end looks like one that was never whole.
        let known = match state {
            Some(State::Replica(durable)) => durable.committed.max(durable.deleted),
            Some(State::Lost(_)) | None => 0,
        };
        let end = log.log_end_offset();
        if end < known && !recovery.created {
            tracing::error!(
                partition = name,
                end,
                known,
                "its log ends before what it knows to be committed"
            );
        }
        let is_whole = end >= known || is_alone;
        let is_sound =
            recovery.damage.is_empty() && (is_new || !recovery.created && !may_lack && is_whole);
        let durable = match state {
            Some(State::Replica(durable)) if is_sound => Some(durable),
            // With nobody else to have its records from, what is left of them is kept and read.
            Some(State::Replica(durable)) if is_alone && recovery.created => Some(durable),
            Some(State::Replica(_)) if is_alone => None,
            // An old image may not say that nobody else has it: what it says decides nothing here.
            Some(State::Replica(durable)) if !self.is_registered => {
                self.found.insert(id, State::Replica(durable));
                return Ok(());
            }
            Some(State::Replica(Durable { directory, .. }) | State::Lost(directory)) => {
                drop(log);
                return self.lose(id, directory).await;
            }
            None => {
                let reason = "nothing is known of its replica".to_owned();
                return Err(self.failed(&assigned.topic, id, reason));
            }
        };
        self.adopt(assigned, log, durable).await?;
        let version = 0;
        self.hosted.insert(id, Hosted::Open { directory, version });
        Ok(())
    }

    /// Hands an open log to the writer.
    async fn adopt(
        &self,
        assigned: Assigned,
        log: Log,
        durable: Option<Durable>,
    ) -> Result<(), HostingError> {
        let Assigned {
            id,
            topic,
            config,
            is_alone,
            ..
        } = assigned;
        let visible = Visible {
            high_watermark: 0,
            log_start_offset: log.log_start_offset(),
            standing: Standing::Following,
            replica: ReplicaState::Untrusted,
            is_alone,
            closed: None,
        };
        let partition = Partition {
            shared: Arc::new(Shared {
                id,
                topic,
                reader: log.reader(),
                rewritten: Default::default(),
                visible: watch::channel(visible).0,
                status: Mutex::new(LogStatus::default()),
                config: Mutex::new(config),
                writer: self.writer.clone(),
            }),
        };
        let (done, adopted) = oneshot::channel();
        self.send(WriterCommand::Adopt {
            log: Box::new(log),
            durable,
            is_alone,
            partition: partition.clone(),
            done,
        })?;
        adopted.await.map_err(|_| stopped())?;
        self.partitions.insert(partition);
        Ok(())
    }

    async fn store_states(
        &self,
        states: Vec<(TopicPartition, Option<State>)>,
    ) -> Result<(), HostingError> {
        let stored = self.flusher.store(states).await;
        stored.map_err(|reason| HostingError {
            what: "cannot store what is known of replicas".to_owned(),
            reason,
        })
    }

    fn send(&self, command: WriterCommand) -> Result<(), HostingError> {
        self.writer.send(command).map_err(|_| stopped())
    }

    fn failed(&self, topic: &str, id: TopicPartition, reason: String) -> HostingError {
        HostingError {
            what: format!("cannot open {topic}-{}", id.partition),
            reason,
        }
    }

    /// Deletes what replicas left behind that the image does not list: their removal was cut short.
    fn remove_strangers(&self, image: &Image) {
        let Ok(folders) = self.store.topic_folders() else {
            return;
        };
        let known: BTreeSet<String> = image.topics().map(|it| it.topic_id.to_string()).collect();
        for folder in folders.iter().filter(|it| !known.contains(*it)) {
            tracing::info!(folder, "removing what a deleted topic left behind");
            self.remove_folder(folder);
        }
    }

    fn remove_folder(&self, folder: &str) {
        if let Err(error) = self.store.remove_folder(folder) {
            tracing::warn!(folder, %error, "files of a removed topic remain");
        }
    }
}

fn stopped() -> HostingError {
    HostingError {
        what: "cannot go on".to_owned(),
        reason: "the writer has stopped".to_owned(),
    }
}
