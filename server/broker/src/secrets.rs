//! The secrets: what an operator gives to plugins, by name. In memory, and in one file that nobody else
//! may read.
//!
//! Values go in by `SetSecret` and out to workers that are granted them, and nowhere else: no other
//! API, no log line and no metadata holds one.

use std::collections::BTreeMap;
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

/// Who may do what with the file, apart from its owner: nobody, nothing.
const OTHERS: u32 = 0o077;

/// All secrets of this broker.
pub(crate) struct Secrets {
    path: PathBuf,
    secrets: Arc<RwLock<BTreeMap<String, Secret>>>,
    /// Held while one is set or removed, whether or not anybody waits for that.
    change: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Secret {
    value: String,
    set_at_ms: TimestampMs,
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

    /// Keeps a secret, durably.
    pub(crate) async fn set(
        &self,
        request: SetSecret,
        now_ms: TimestampMs,
    ) -> Result<(), WireError> {
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
            if secrets.len() >= MAX_SECRETS && !secrets.contains_key(&name) {
                return Err(invalid(format!("there are {MAX_SECRETS} secrets already")));
            }
            let secret = Secret {
                value: value.0,
                set_at_ms: now_ms,
            };
            secrets.insert(name, secret);
            Ok(())
        })
        .await
    }

    /// Forgets a secret, durably, unless a deployment is granted it.
    pub(crate) async fn remove(&self, name: &str, image: &Image) -> Result<(), WireError> {
        self.change(|secrets| {
            if secrets.remove(name).is_none() {
                return Err(errors::unknown_secret(name));
            }
            match granted_to(name, image).next() {
                Some(deployment) => Err(WireError::new(
                    ErrorCode::SecretInUse,
                    format!("the secret {name} is granted to deployment {deployment}"),
                )),
                None => Ok(()),
            }
        })
        .await
    }

    /// Changes a copy, writes it, and only then shows it.
    async fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Secret>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let changing = Arc::clone(&self.change).lock_owned().await;
        let mut secrets = self.secrets.read().clone();
        change(&mut secrets)?;
        let (path, shown) = (self.path.clone(), Arc::clone(&self.secrets));
        let writing = tokio::task::spawn_blocking(move || {
            // The client may be gone: it is written and shown all the same, before the next change.
            let _changing = changing;
            write(&path, &secrets).map(|()| *shown.write() = secrets)
        });
        let written = writing.await.map_err(errors::from_join)?;
        written.map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::StorageFull => ErrorCode::StorageFull,
                _ => ErrorCode::StorageFailed,
            };
            WireError::new(code, format!("cannot write the secrets: {error}"))
        })
    }

    /// What may be told: names, and which deployments are granted each.
    pub(crate) fn list(&self, image: &Image) -> Vec<SecretDescription> {
        let secrets = self.secrets.read();
        let described = secrets.iter().map(|(name, secret)| SecretDescription {
            name: name.clone(),
            set_at_ms: secret.set_at_ms,
            deployments: granted_to(name, image).map(str::to_owned).collect(),
        });
        described.collect()
    }

    /// Refuses names of secrets that are not there.
    pub(crate) fn check(&self, names: &[String]) -> Result<(), WireError> {
        let secrets = self.secrets.read();
        match names.iter().find(|name| !secrets.contains_key(*name)) {
            Some(missing) => Err(errors::unknown_secret(missing)),
            None => Ok(()),
        }
    }
}

impl SecretReader for Secrets {
    fn read(&self, name: &str) -> Option<String> {
        let secrets = self.secrets.read();
        secrets.get(name).map(|secret| secret.value.clone())
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
        secrets.set(set("token", "second"), 3).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let draft = path.with_extension("draft");
        fs::write(&draft, "half of a file").unwrap();
        let again = Secrets::load(path.clone()).unwrap();
        assert!(!draft.exists());
        let read = |name| again.read(name);
        assert_eq!(read("api-key").unwrap(), key);
        assert_eq!(read("token").unwrap(), "second");
        assert_eq!(read("another"), None);
        again.remove("token", &Image::default()).await.unwrap();
        assert_eq!(again.read("token"), None);
        let error = again.remove("token", &Image::default()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownSecret);

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
