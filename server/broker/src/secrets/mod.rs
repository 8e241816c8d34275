//! The secrets: what an operator gives to plugins, by name. In memory, and in one file that nobody else
//! may read.
//!
//! Values go in by `SetSecret` and out to workers that are granted them, and to the other brokers of the
//! cluster, which have workers too; and nowhere else: no other API, no log line and no metadata holds one.
//! One that was removed is kept as such, without its value, so that nobody who was away brings it back.

mod share;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_metadata::Image;
use millstream_metadata::names::check_name;
use millstream_protocol::api::secret::{SecretDescription, SetSecret};
use millstream_protocol::limits::{MAX_SECRET_BYTES, MAX_SECRETS};
use millstream_protocol::{ErrorCode, TimestampMs, WireError};
use millstream_runtime::{MIN_SECRET_BYTES, SecretReader};
use parking_lot::RwLock;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::errors;

/// The largest file that is read, bytes: text in it may be escaped.
const MAX_FILE_BYTES: u64 = (MAX_SECRETS * (8 * MAX_SECRET_BYTES)) as u64;

/// Secrets that are kept, with as many removed ones.
const MAX_KEPT: usize = 2 * MAX_SECRETS;

/// Secrets that one answer to another broker has.
const SECRETS_TOLD_AT_ONCE: usize = 64;

/// Who may do what with the file, apart from its owner: nobody, nothing.
const OTHERS: u32 = 0o077;

/// All secrets of this broker.
pub(crate) struct Secrets {
    path: PathBuf,
    secrets: Arc<RwLock<BTreeMap<String, Secret>>>,
    /// Held while one is set or removed, whether or not anybody waits for that.
    change: Arc<tokio::sync::Mutex<()>>,
}

/// A secret, or that there is none any more.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// Empty: it was removed.
    value: String,
    /// When it was set or removed. What is later counts.
    set_at_ms: TimestampMs,
}

impl Secret {
    fn is_there(&self) -> bool {
        !self.value.is_empty()
    }
}

impl fmt::Debug for Secret {
    /// Without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("set_at_ms", &self.set_at_ms)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// Reads the file, if there is one. What was left of one that was not written to its end goes.
    ///
    /// # Errors
    ///
    /// It cannot be understood, or others than its owner may read it.
    pub(crate) fn load(path: PathBuf) -> io::Result<Self> {
        remove(&draft(&path))?;
        let secrets = match File::open(&path) {
            Ok(file) => read(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            secrets: Arc::new(RwLock::new(secrets)),
            change: Arc::default(),
        })
    }

    /// Keeps a secret, durably, and gives what is now kept under its name.
    pub(crate) async fn set(
        &self,
        request: SetSecret,
        now_ms: TimestampMs,
    ) -> Result<(String, Secret), WireError> {
        let SetSecret { name, value } = request;
        let invalid = |message| WireError::new(ErrorCode::InvalidRequest, message);
        check_name("secret", &name).map_err(|error| invalid(error.to_string()))?;
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&value.0.len()) {
            return Err(invalid(format!(
                "the value of the secret {name} has {} bytes; a secret has at least {MIN_SECRET_BYTES} \
                 and at most {MAX_SECRET_BYTES}",
                value.0.len()
            )));
        }
        self.change(|secrets| {
            let is_there = secrets.get(&name).is_some_and(Secret::is_there);
            let count = secrets.values().filter(|it| it.is_there()).count();
            if count >= MAX_SECRETS && !is_there {
                return Err(invalid(format!("there are {MAX_SECRETS} secrets already")));
            }
            let secret = Secret {
                value: value.0,
                set_at_ms: later(now_ms, secrets.get(&name)),
            };
            secrets.insert(name.clone(), secret.clone());
            Ok((name, secret))
        })
        .await
    }

    /// Forgets a secret, durably, unless a deployment is granted it. Gives what is now kept under its name.
    pub(crate) async fn remove(
        &self,
        name: &str,
        image: &Image,
        now_ms: TimestampMs,
    ) -> Result<(String, Secret), WireError> {
        self.change(|secrets| {
            let known = secrets.get(name).filter(|it| it.is_there());
            let known = known.ok_or_else(|| errors::unknown_secret(name))?;
            if let Some(deployment) = granted_to(name, image).next() {
                return Err(WireError::new(
                    ErrorCode::SecretInUse,
                    format!("the secret {name} is granted to deployment {deployment}"),
                ));
            }
            let removed = Secret {
                value: String::new(),
                set_at_ms: later(now_ms, Some(known)),
            };
            secrets.insert(name.to_owned(), removed.clone());
            forget_oldest_removed(secrets);
            Ok((name.to_owned(), removed))
        })
        .await
    }

    /// Takes over what another broker has, where that is later.
    pub(crate) async fn merge(&self, others: Vec<(String, Secret)>) -> Result<(), WireError> {
        let is_later = |secrets: &BTreeMap<String, Secret>, name: &str, other: &Secret| {
            let known = secrets.get(name);
            known.is_none_or(|known| known.set_at_ms < other.set_at_ms)
        };
        let any = {
            let secrets = self.secrets.read();
            others.iter().any(|(name, it)| is_later(&secrets, name, it))
        };
        if !any {
            return Ok(());
        }
        self.change(|secrets| {
            for (name, other) in others {
                let fits = check_name("secret", &name).is_ok()
                    && other.value.len() <= MAX_SECRET_BYTES
                    && (secrets.len() < MAX_KEPT || secrets.contains_key(&name));
                if fits && is_later(secrets, &name, &other) {
                    secrets.insert(name, other);
                }
            }
            forget_oldest_removed(secrets);
            Ok(())
        })
        .await
    }

    /// Some of what is kept, behind a name.
    pub(crate) fn some(&self, after: Option<&str>) -> Vec<(String, Secret)> {
        let secrets = self.secrets.read();
        let behind = secrets
            .iter()
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let some = behind.take(SECRETS_TOLD_AT_ONCE);
        some.map(|(name, secret)| (name.clone(), secret.clone()))
            .collect()
    }

    /// Changes a copy, writes it, and only then shows it.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Secret>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        let changing = Arc::clone(&self.change).lock_owned().await;
        let mut secrets = self.secrets.read().clone();
        let changed = change(&mut secrets)?;
        let (path, shown) = (self.path.clone(), Arc::clone(&self.secrets));
        let writing = millstream_offload::run(move || {
            // The client may be gone: it is written and shown all the same, before the next change.
            let _changing = changing;
            write(&path, &secrets).map(|()| *shown.write() = secrets)
        });
        let written = writing.await.map_err(errors::unfinished)?;
        written.map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull => ErrorCode::StorageFull,
                _ => ErrorCode::StorageFailed,
            };
            WireError::new(code, format!("cannot write the secrets: {error}"))
        })?;
        Ok(changed)
    }

    /// What may be told: names, and which deployments are granted each.
    pub(crate) fn list(&self, image: &Image) -> Vec<SecretDescription> {
        let secrets = self.secrets.read();
        let there = secrets.iter().filter(|(_, secret)| secret.is_there());
        let described = there.map(|(name, secret)| SecretDescription {
            name: name.clone(),
            set_at_ms: secret.set_at_ms,
            deployments: granted_to(name, image).map(str::to_owned).collect(),
        });
        described.collect()
    }

    /// Refuses names of secrets that are not there.
    pub(crate) fn check(&self, names: &[String]) -> Result<(), WireError> {
        let secrets = self.secrets.read();
        match names
            .iter()
            .find(|name| !secrets.get(*name).is_some_and(Secret::is_there))
        {
            Some(missing) => Err(errors::unknown_secret(missing)),
            None => Ok(()),
        }
    }
}

impl SecretReader for Secrets {
    fn read(&self, name: &str) -> Option<String> {
        let secrets = self.secrets.read();
        let secret = secrets.get(name).filter(|it| it.is_there());
        secret.map(|secret| secret.value.clone())
    }
}

/// When something is set that takes the place of what is known: later than that, whatever the clock says.
fn later(now_ms: TimestampMs, known: Option<&Secret>) -> TimestampMs {
    known.map_or(now_ms, |known| {
        now_ms.max(known.set_at_ms.saturating_add(1))
    })
}

/// Forgets removed ones beyond what is kept of them.
fn forget_oldest_removed(secrets: &mut BTreeMap<String, Secret>) {
    let removed = secrets.iter().filter(|(_, it)| !it.is_there());
    let mut removed: Vec<_> = removed
        .map(|(name, it)| (it.set_at_ms, name.clone()))
        .collect();
    removed.sort_unstable();
    let surplus = removed.len().saturating_sub(MAX_SECRETS);
    for (_, name) in removed.drain(..surplus) {
        secrets.remove(&name);
    }
}

/// The deployments that are granted a secret.
fn granted_to<'a>(name: &'a str, image: &'a Image) -> impl Iterator<Item = &'a str> {
    let granted = image.deployments().map(|deployment| &deployment.spec);
    granted
        .filter(move |spec| spec.grants.secrets.iter().any(|granted| granted == name))
        .map(|spec| spec.name.as_str())
}

fn read(file: File) -> io::Result<BTreeMap<String, Secret>> {
    let found = file.metadata()?;
    if found.uid() != geteuid().as_raw() || found.mode() & OTHERS != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others may read it: it should be the broker's alone (mode 0600)",
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    // The parser's own message would show the line, and with it a value.
    toml::from_str(&text).map_err(|_| io::Error::other("it is not a file of secrets"))
}

/// Where the file is written before it takes its place.
fn draft(path: &Path) -> PathBuf {
    path.with_extension("draft")
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, secrets: &BTreeMap<String, Secret>) -> io::Result<()> {
    let text = toml::to_string(secrets).map_err(|_| io::Error::other("they are no text"))?;
    let draft = draft(path);
    remove(&draft)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use millstream_protocol::api::secret::SecretValue;

    use super::*;

    fn set(name: &str, value: &str) -> SetSecret {
        SetSecret {
            name: name.to_owned(),
            value: SecretValue(value.to_owned()),
        }
    }

    #[tokio::test]
    async fn secrets_outlive_the_broker_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.toml");
        let secrets = Secrets::load(path.clone()).unwrap();
        let key = "-----BEGIN-----\n\"quoted\"\n";
        secrets.set(set("api-key", key), 1).await.unwrap();
        secrets.set(set("token", "first"), 2).await.unwrap();
        let (_, stale) = secrets.set(set("token", "second"), 3).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let draft = path.with_extension("draft");
        fs::write(&draft, "half of a file").unwrap();
        let again = Secrets::load(path.clone()).unwrap();
        assert!(!draft.exists());
        let read = |name| again.read(name);
        assert_eq!(read("api-key").unwrap(), key);
        assert_eq!(read("token").unwrap(), "second");
        assert_eq!(read("another"), None);
        again.remove("token", &Image::default(), 4).await.unwrap();
        assert_eq!(again.read("token"), None);
        let error = again
            .remove("token", &Image::default(), 5)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownSecret);

        // A broker that was away knows the older one still, and one that is new knows none.
        secrets.merge(again.some(None)).await.unwrap();
        assert_eq!(secrets.read("token"), None);
        again
            .merge(vec![("token".to_owned(), stale)])
            .await
            .unwrap();
        assert_eq!(again.read("token"), None);
        let third = Secrets::load(folder.path().join("third.toml")).unwrap();
        third.merge(again.some(None)).await.unwrap();
        assert_eq!(third.read("api-key").unwrap(), key);
        assert!(third.some(Some("token")).is_empty());
        again.set(set("token", "third"), 0).await.unwrap();
        third.merge(again.some(None)).await.unwrap();
        assert_eq!(third.read("token").unwrap(), "third");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Secrets::load(path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn what_cannot_be_a_secret_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::load(folder.path().join("secrets.toml")).unwrap();
        let long = "x".repeat(MAX_SECRET_BYTES + 1);
        for (name, value) in [("a/b", "hunter2"), ("short", "hun"), ("long", &long)] {
            let error = secrets.set(set(name, value), 1).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{name}");
            assert!(!error.message.contains(value), "{error}");
        }
        assert!(!folder.path().join("secrets.toml").exists());
        fs::write(&secrets.path, "api-key = \"hunter2").unwrap();
        fs::set_permissions(&secrets.path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Secrets::load(secrets.path).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
