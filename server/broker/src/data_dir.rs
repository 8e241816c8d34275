//! The data directory: whose it is, which version it has, and that one process alone uses it.
//!
//! ```text
//! broker.toml                        format version, cluster, broker and directory id
//! starts                             how often a broker has started on this directory, and what it knows of that
//! boot                               in which start of the machine a broker has last run
//! lock                               held while a broker runs; contains its process id
//! replicas                           what the replicas here have promised
//! metadata/                          the metadata quorum's log and image
//! topics/<topic id>/<partition>/     one partition's log
//! state/<topic id>/<partition>.redb  a worker's state, by its journal: made again when it is gone
//! tables/<topic id>/<partition>.redb what workers look up, by its topic: made again when it is gone
//! secrets.toml                       what deployments are granted by name, for nobody else's eyes
//! compiled/                          components as machine code, which can be made again
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream_protocol::api::peer::{Lineage, RegisteredStart, UNNOTED_STARTS};
use millstream_protocol::{TopicId, TopicPartition};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cluster::ticket::Ticket;

/// The version of the layout this broker writes and the only one that it reads.
pub const FORMAT_VERSION: u32 = 8;

const IDENTITY_FILE: &str = "broker.toml";
const STARTS_FILE: &str = "starts";
const LOCK_FILE: &str = "lock";
const REPLICAS_FILE: &str = "replicas";
const BOOT_FILE: &str = "boot";

/// Where Linux says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How long another process may still have the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

const LOCK_TRIED_EVERY: Duration = Duration::from_millis(10);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("data directory {} is in use by process {holder}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What the other process wrote into the lock file.
        holder: String,
    },
    /// It was written by another version.
    #[error(
        "data directory {} has format version {found}, this broker reads version {FORMAT_VERSION}",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Its identity file cannot be understood.
    #[error("{} is not a broker's identity: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// How often it was started on cannot be told.
    #[error(
        "{} does not hold the number of starts on this data directory: {reason}", path.display()
    )]
    Starts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another cluster, or of another broker, than the ticket is for.
    #[error(
        "data directory {} is that of broker {broker_id} of cluster {cluster_id}, and the ticket lets in \
         broker {wanted} of cluster {wanted_cluster}: name an empty directory, or no ticket",
        path.display()
    )]
    OtherBroker {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        broker_id: u32,
        /// And of which cluster.
        cluster_id: Uuid,
        /// Whom the ticket lets in.
        wanted: u32,
        /// And into which cluster.
        wanted_cluster: Uuid,
    },
    /// It holds something, but not a broker's data.
    #[error("directory {} is not empty and holds no broker's data", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot use data directory {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Who this broker is; made with the directory and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerIdentity {
    format_version: u32,
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The broker's number in the cluster.
    pub broker_id: u32,
    /// This directory's own identity: another one after the disk was replaced.
    pub directory_id: Uuid,
    /// How the broker has come to its cluster.
    pub origin: Origin,
}

/// How a broker has come to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The cluster began with it.
    Founder,
    /// It was let in.
    Joined,
}

/// What a directory knows of the starts on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Starts {
    /// How many there were.
    incarnation: u64,
    /// What those after `registered` have drawn, the oldest first.
    runs: Vec<Uuid>,
    /// The last that is known to be registered.
    registered: Option<RegisteredStart>,
}

/// A data directory, held by this process alone until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: BrokerIdentity,
    incarnation: u64,
    lineage: Lineage,
    was_rebooted: bool,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, making it if it is not there, and takes its lock. This is a start: it
    /// is counted, durably, before anything else is done.
    ///
    /// An empty directory becomes that of the first broker of a new cluster, or of the broker that the
    /// ticket lets in. A ticket that has served its purpose is of no account.
    pub fn open(root: &Path, ticket: Option<&Ticket>) -> Result<Self, DataDirError> {
        fs::create_dir_all(root).map_err(at(root))?;
        let lock = take_lock(root)?;
        let path = root.join(IDENTITY_FILE);
        let identity = match fs::read_to_string(&path) {
            Ok(text) => parse_identity(root, &path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_identity(root, &path, ticket)?
            }
            Err(error) => return Err(at(&path)(error)),
        };
        check_ticket(root, &identity, ticket)?;
        let (incarnation, lineage) = count_start(root)?;
        for folder in ["topics", "state", "tables"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        let was_rebooted = note_boot(root)?;
        sync_dir(root)?;
        Ok(Self {
            root: root.to_owned(),
            identity,
            incarnation,
            lineage,
            was_rebooted,
            _lock: lock,
        })
    }

    /// Who this broker is.
    pub fn identity(&self) -> &BrokerIdentity {
        &self.identity
    }

    /// Which start on this directory this is: 1 for the first, and more with every further one.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Which starts this directory knows to be its own.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }

    /// Notes that this start is registered: from here on a copy that was made before is known for one. It blocks.
    pub fn note_registered(&self) -> Result<(), DataDirError> {
        let incarnation = self.incarnation;
        let registered = RegisteredStart {
            incarnation,
            run: self.lineage.run,
        };
        let starts = Starts {
            incarnation,
            runs: Vec::new(),
            registered: Some(registered),
        };
        write_starts(&self.root, &starts)
    }

    /// Whether the machine may have lost its power since a broker has last run here: it was started again,
    /// or it does not say.
    pub fn was_rebooted(&self) -> bool {
        self.was_rebooted
    }

    /// Where all topics live.
    pub fn topics(&self) -> PathBuf {
        self.root.join("topics")
    }

    /// Where one topic lives.
    pub fn topic(&self, topic_id: TopicId) -> PathBuf {
        self.topics().join(topic_id.to_string())
    }

    /// Where one partition's log lives.
    pub fn partition(&self, id: TopicPartition) -> PathBuf {
        self.topic(id.topic_id).join(id.partition.to_string())
    }

    /// Where it stands what the replicas here have promised.
    pub fn replicas(&self) -> PathBuf {
        self.root.join(REPLICAS_FILE)
    }

    /// Where this node of the metadata quorum keeps its log and image.
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }

    /// Where the state of workers lives. What is there can be made again from their journals.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where the tables of deployments live. What is there can be made again from their topics.
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// Where secrets are kept.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets.toml")
    }

    /// Where they are kept as machine code. Made by who keeps it there, for nobody else.
    pub fn compiled(&self) -> PathBuf {
        self.root.join("compiled")
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    |source| DataDirError::Io { path, source }
}

fn sync_dir(path: &Path) -> Result<(), DataDirError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(at(path))
}

/// Takes the lock, in a moment if need be: of a process that was killed, the system keeps it until all that it had
/// is given back.
fn locked(lock: &File) -> bool {
    let began = Instant::now();
    loop {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if began.elapsed() >= LOCK_PATIENCE {
            return false;
        }
        std::thread::sleep(LOCK_TRIED_EVERY);
    }
}

/// Whether the machine was started since a broker was here last. Notes which start this is, before
/// anything is written that could be lost with it.
fn note_boot(root: &Path) -> Result<bool, DataDirError> {
    let path = root.join(BOOT_FILE);
    let now = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let before = fs::read_to_string(&path).unwrap_or_default();
    if !now.is_empty() && now == before {
        return Ok(false);
    }
    replace(&path, &now)?;
    Ok(true)
}

/// Counts this start. A directory has the count before it has an identity, so that one without the
/// other is damaged.
fn count_start(root: &Path) -> Result<(u64, Lineage), DataDirError> {
    let path = root.join(STARTS_FILE);
    let malformed = |reason: String| DataDirError::Starts {
        path: path.clone(),
        reason,
    };
    let text = fs::read_to_string(&path).map_err(|error| malformed(error.to_string()))?;
    let mut starts: Starts =
        toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
    let last = starts.incarnation;
    starts.incarnation = last
        .checked_add(1)
        .ok_or_else(|| malformed(format!("{last} is the last of all")))?;
    // Where there is no place left the last is drawn by several starts: the directory's own is never forgotten.
    if starts.runs.len() <= UNNOTED_STARTS {
        starts.runs.push(Uuid::new_v4());
    }
    write_starts(root, &starts)?;
    let mut unnoted = starts.runs.into_iter();
    let run = unnoted.next_back().unwrap_or_default();
    let mut lineage = Lineage {
        registered: starts.registered,
        ..Lineage::new(run)
    };
    for (place, run) in lineage.unnoted.iter_mut().zip(unnoted) {
        *place = run;
    }
    Ok((starts.incarnation, lineage))
}

fn write_starts(root: &Path, starts: &Starts) -> Result<(), DataDirError> {
    let path = root.join(STARTS_FILE);
    let text = toml::to_string(starts).map_err(|error| DataDirError::Starts {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    replace(&path, &text)?;
    sync_dir(root)
}

/// Writes a file anew: whoever looks finds the old or the new text, whole.
fn replace(path: &Path, text: &str) -> Result<(), DataDirError> {
    let draft = path.with_extension("draft");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(at(path))
}

fn take_lock(root: &Path) -> Result<File, DataDirError> {
    let path = root.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let mut lock = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    if !locked(&lock) {
        let mut holder = String::new();
        // The holder is named when it can be; the refusal does not depend on it.
        let _ = (&mut lock).take(32).read_to_string(&mut holder);
        return Err(DataDirError::InUse {
            path: root.to_owned(),
            holder: holder.trim().to_owned(),
        });
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .map_err(at(&path))?;
    writeln!(lock, "{}", std::process::id()).map_err(at(&path))?;
    Ok(lock)
}

fn parse_identity(root: &Path, path: &Path, text: &str) -> Result<BrokerIdentity, DataDirError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let malformed = |error: toml::de::Error| DataDirError::Malformed {
        path: path.to_owned(),
        reason: error.message().to_owned(),
    };
    // The version is read alone first: a newer identity may have other fields.
    let Version {
        format_version: found,
    } = toml::from_str(text).map_err(malformed)?;
    if found != FORMAT_VERSION {
        return Err(DataDirError::Version {
            path: root.to_owned(),
            found,
        });
    }
    toml::from_str(text).map_err(malformed)
}

fn create_identity(
    root: &Path,
    path: &Path,
    ticket: Option<&Ticket>,
) -> Result<BrokerIdentity, DataDirError> {
    // Topics without an identity are a damaged directory, not a new one.
    if root.join("topics").exists() {
        return Err(DataDirError::Foreign {
            path: root.to_owned(),
        });
    }
    let identity = BrokerIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: ticket.map_or_else(Uuid::new_v4, |it| it.cluster_id),
        broker_id: ticket.map_or(1, |it| it.broker_id),
        directory_id: Uuid::new_v4(),
        origin: ticket.map_or(Origin::Founder, |_| Origin::Joined),
    };
    let text = toml::to_string(&identity).map_err(|error| DataDirError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let starts = Starts {
        incarnation: 0,
        runs: Vec::new(),
        registered: None,
    };
    write_starts(root, &starts)?;
    replace(path, &text)?;
    Ok(identity)
}

fn check_ticket(
    root: &Path,
    identity: &BrokerIdentity,
    ticket: Option<&Ticket>,
) -> Result<(), DataDirError> {
    let BrokerIdentity {
        cluster_id,
        broker_id,
        ..
    } = *identity;
    match ticket {
        Some(ticket) if (ticket.cluster_id, ticket.broker_id) != (cluster_id, broker_id) => {
            Err(DataDirError::OtherBroker {
                path: root.to_owned(),
                broker_id,
                cluster_id,
                wanted: ticket.broker_id,
                wanted_cluster: ticket.cluster_id,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), None).unwrap().identity().clone();
        let second = DataDir::open(dir.path(), None).unwrap().identity().clone();
        assert_eq!(first, second);
    }

    #[test]
    fn every_start_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        for expected in 1..=3 {
            assert_eq!(
                DataDir::open(dir.path(), None).unwrap().incarnation(),
                expected
            );
            let written = fs::read_to_string(dir.path().join(STARTS_FILE)).unwrap();
            let counted = format!("incarnation = {expected}\n");
            assert!(
                written.starts_with(&counted),
                "before it is used: {written}"
            );
        }
        // What a crash left of a start that was not counted is of no account.
        fs::write(dir.path().join("starts.draft"), "incarnation = 9").unwrap();
        assert_eq!(DataDir::open(dir.path(), None).unwrap().incarnation(), 4);
    }

    #[test]
    fn a_directory_knows_which_of_its_starts_may_be_registered() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DataDir::open(dir.path(), None).unwrap();
        let start = |of: &DataDir| RegisteredStart {
            incarnation: of.incarnation(),
            run: of.lineage().run,
        };
        let first = start(&open());
        let second = open();
        assert!(second.lineage().may_have(first));
        let known = start(&second);
        drop(second);
        // A copy that is made now has another future.
        let copy = tempfile::tempdir().unwrap();
        for file in [IDENTITY_FILE, STARTS_FILE] {
            fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
        }
        let third = open();
        third.note_registered().unwrap();
        let copied = DataDir::open(copy.path(), None).unwrap();
        assert!(copied.lineage().may_have(known));
        assert!(!copied.lineage().may_have(start(&third)));
        // To note it again does no harm.
        third.note_registered().unwrap();
        let registered = start(&third);
        drop(third);
        let fourth = open();
        assert_eq!(fourth.lineage().registered, Some(registered));
        assert!(fourth.lineage().may_have(registered));
    }

    #[test]
    fn many_starts_without_a_cluster_forget_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        for _ in 0..2 * UNNOTED_STARTS {
            let start = DataDir::open(dir.path(), None).unwrap();
            let (incarnation, run) = (start.incarnation(), start.lineage().run);
            all.push(RegisteredStart { incarnation, run });
        }
        let last = DataDir::open(dir.path(), None).unwrap().lineage();
        assert!(all.iter().all(|start| last.may_have(*start)));
    }

    #[test]
    fn another_start_of_the_machine_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DataDir::open(dir.path(), None).unwrap().was_rebooted());
        let says_which = Path::new(BOOT_ID).exists();
        let again = DataDir::open(dir.path(), None).unwrap().was_rebooted();
        assert_eq!(again, !says_which);
        fs::write(dir.path().join(BOOT_FILE), "an earlier one").unwrap();
        assert!(DataDir::open(dir.path(), None).unwrap().was_rebooted());
        let again = DataDir::open(dir.path(), None).unwrap().was_rebooted();
        assert_eq!(again, !says_which);
    }

    #[test]
    fn a_start_that_cannot_be_counted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path(), None).unwrap();
        let file = dir.path().join(STARTS_FILE);
        let sound = fs::read_to_string(&file).unwrap();
        let last = sound.replacen("incarnation = 1", "incarnation = 18446744073709551615", 1);
        for text in ["", "many", &last] {
            fs::write(&file, text).unwrap();
            let refused = DataDir::open(dir.path(), None);
            assert!(
                matches!(refused, Err(DataDirError::Starts { .. })),
                "{text:?}: {refused:?}"
            );
        }
        fs::remove_file(&file).unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), None),
            Err(DataDirError::Starts { .. })
        ));
    }

    #[test]
    fn second_opener_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DataDir::open(dir.path(), None).unwrap();
        match DataDir::open(dir.path(), None) {
            Err(DataDirError::InUse { holder, .. }) => {
                assert_eq!(holder, std::process::id().to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_versions_are_refused_whatever_else_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join(IDENTITY_FILE),
            "format_version = 9\nshape = \"unknown\"\n",
        )
        .unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), None),
            Err(DataDirError::Version { found: 9, .. })
        ));
    }

    #[test]
    fn topics_without_an_identity_are_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("topics")).unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), None),
            Err(DataDirError::Foreign { .. })
        ));
    }
}
