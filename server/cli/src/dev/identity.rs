//! The certificates of a development broker, made on first use and renewed before they expire.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use millstream_transport::Identity;
use millstream_transport::identity::{Authority, IdentityError};
use millstream_transport::principal::Role;

use crate::errors::{Exit, Problem};

/// The name that clients ask the server's certificate for, whatever address they use.
pub(super) const SERVER_NAME: &str = "localhost";

/// What the server's certificate is valid for.
const SERVER_HOSTS: [&str; 3] = [SERVER_NAME, "127.0.0.1", "::1"];

const CLUSTER: &str = "dev";

/// A certificate that expires sooner than this is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where the parts lie. The names tell a development profile from others ([`super::profile`]).
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) authority: PathBuf,
    pub(super) authority_key: PathBuf,
    pub(super) client_certificate: PathBuf,
    pub(super) client_key: PathBuf,
    server_certificate: PathBuf,
    server_key: PathBuf,
    lock: PathBuf,
}

impl Files {
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            authority: folder.join("authority.pem"),
            authority_key: folder.join("authority.key"),
            client_certificate: folder.join("client.pem"),
            client_key: folder.join("client.key"),
            server_certificate: folder.join("server.pem"),
            server_key: folder.join("server.key"),
            lock: folder.join("lock"),
        }
    }
}

/// The server's identity, and the files of the client's.
pub(super) struct DevIdentity {
    pub(super) server: Identity,
    pub(super) files: Files,
}

/// Whether an authority was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Its certificates may be in use.
    Old,
    /// Nothing that lies around is its own.
    New,
}

impl DevIdentity {
    /// Loads the identities in `folder`; makes those that are missing, unusable or about to expire.
    pub(super) fn prepare(folder: &Path) -> anyhow::Result<Self> {
        super::make_private_dir(folder)?;
        let files = Files::of(folder);
        // Two brokers that start at the same time must not each make an authority.
        let lock = File::create(&files.lock)
            .with_context(|| format!("cannot write {}", files.lock.display()))?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", files.lock.display()))?;
        let (authority, age) = authority(&files).map_err(|error| {
            let problem = Problem::new(Exit::Failure, "the development authority cannot be used");
            anyhow::Error::from(error)
                .context(problem.advise(format!("remove {}: it is made anew", folder.display())))
        })?;

        let server = Holder {
            role: Role::Server,
            name: "dev",
            hosts: &SERVER_HOSTS,
        };
        let client = Holder {
            role: Role::Client,
            name: "dev",
            hosts: &[],
        };
        let server = server.prepare(
            &authority,
            age,
            &files.server_certificate,
            &files.server_key,
            &files.authority,
        )?;
        client.prepare(
            &authority,
            age,
            &files.client_certificate,
            &files.client_key,
            &files.authority,
        )?;
        Ok(Self { server, files })
    }
}

fn authority(files: &Files) -> Result<(Authority, Age), IdentityError> {
    // The certificate is written last: without it, nothing was issued yet.
    if files.authority.exists() {
        return Ok((
            Authority::load(&files.authority, &files.authority_key)?,
            Age::Old,
        ));
    }
    let invalid = |reason: String| IdentityError::Invalid {
        path: files.authority.clone(),
        reason,
    };
    let authority = Authority::create(CLUSTER).map_err(|error| invalid(error.to_string()))?;
    authority.save(&files.authority, &files.authority_key)?;
    Ok((authority, Age::New))
}

/// Who a certificate is for.
struct Holder<'a> {
    role: Role,
    name: &'a str,
    hosts: &'a [&'a str],
}

impl Holder<'_> {
    fn prepare(
        &self,
        authority: &Authority,
        age: Age,
        certificate: &Path,
        key: &Path,
        ca: &Path,
    ) -> anyhow::Result<Identity> {
        let usable = |identity: &Identity| !is_due(identity.expires_at(), SystemTime::now());
        if age == Age::Old
            && let Some(identity) = Identity::load(certificate, key, ca).ok().filter(usable)
        {
            return Ok(identity);
        }
        tracing::info!(certificate = %certificate.display(), "making a certificate");
        let issued = authority.issue(self.role, self.name, self.hosts)?;
        issued.save(certificate, key, ca)?;
        Ok(Identity::load(certificate, key, ca)?)
    }
}

/// Is a certificate to be made anew?
fn is_due(expires_at: SystemTime, now: SystemTime) -> bool {
    expires_at.duration_since(now).unwrap_or_default() < RENEW_BEFORE
}

/// Does this folder hold a development authority and what it has issued, or nothing any more?
pub(super) fn is_dev_folder(folder: &Path) -> bool {
    Files::of(folder).authority_key.exists() || fs::symlink_metadata(folder).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn identities_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        DevIdentity::prepare(folder.path()).unwrap();
        let first = contents(folder.path());
        DevIdentity::prepare(folder.path()).unwrap();
        assert_eq!(contents(folder.path()), first);
    }

    #[test]
    fn what_is_missing_or_unusable_is_made_anew_by_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let files = DevIdentity::prepare(folder.path()).unwrap().files;
        let authority = fs::read(&files.authority).unwrap();
        fs::remove_file(&files.client_key).unwrap();
        // As a crash between the key and its certificate leaves it.
        fs::copy(&files.authority_key, &files.server_key).unwrap();
        DevIdentity::prepare(folder.path()).unwrap();
        assert_eq!(fs::read(&files.authority).unwrap(), authority);
        Identity::load(
            &files.client_certificate,
            &files.client_key,
            &files.authority,
        )
        .unwrap();
    }

    #[test]
    fn a_new_authority_leaves_no_old_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let files = DevIdentity::prepare(folder.path()).unwrap().files;
        let old = fs::read(&files.client_certificate).unwrap();
        fs::remove_file(&files.authority).unwrap();
        DevIdentity::prepare(folder.path()).unwrap();
        assert_ne!(fs::read(&files.client_certificate).unwrap(), old);
    }

    #[test]
    fn an_unusable_authority_is_not_replaced_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let files = DevIdentity::prepare(folder.path()).unwrap().files;
        fs::write(&files.authority, "nonsense").unwrap();
        let error = DevIdentity::prepare(folder.path()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the development authority cannot be used"
        );
    }

    #[test]
    fn certificates_are_renewed_in_time() {
        let now = SystemTime::now();
        assert!(is_due(now - DAY, now));
        assert!(is_due(now + 29 * DAY, now));
        assert!(!is_due(now + 31 * DAY, now));
    }
}
