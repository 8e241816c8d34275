//! Deployed components on disk, by digest: written once, read at the start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use millstream_protocol::limits::MAX_COMPONENT_BYTES;

/// Why an artefact cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtefactError {
    /// The operating system says no.
    #[error("component {digest}: {source}")]
    Io { digest: String, source: io::Error },
    /// What is on disk is not what was stored.
    #[error("component {digest} is damaged on disk")]
    Damaged { digest: String },
}

/// The folder of components.
pub(crate) struct Artefacts {
    folder: PathBuf,
}

impl Artefacts {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keeps a component, durably. The same one again changes nothing. Blocks on the disk.
    pub(crate) fn store(&self, digest: &str, component: &[u8]) -> Result<(), ArtefactError> {
        let write = || -> io::Result<()> {
            let path = self.path(digest);
            if path.exists() {
                return Ok(());
            }
            let draft = path.with_extension("draft");
            let mut file = File::create(&draft)?;
            file.write_all(component)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| ArtefactError::Io {
            digest: digest.to_owned(),
            source,
        })
    }

    /// Reads a component back and checks that it is the one. Blocks on the disk.
    pub(crate) fn load(&self, digest: &str) -> Result<Vec<u8>, ArtefactError> {
        let io = |source| ArtefactError::Io {
            digest: digest.to_owned(),
            source,
        };
        let path = self.path(digest);
        let damaged = || ArtefactError::Damaged {
            digest: digest.to_owned(),
        };
        if fs::metadata(&path).map_err(io)?.len() > MAX_COMPONENT_BYTES as u64 {
            return Err(damaged());
        }
        let component = fs::read(&path).map_err(io)?;
        if millstream_runtime::digest(&component) != digest {
            return Err(damaged());
        }
        Ok(component)
    }

    /// Forgets a component that no deployment uses.
    pub(crate) fn remove(&self, digest: &str) {
        if let Err(error) = fs::remove_file(self.path(digest)) {
            tracing::warn!(digest, %error, "an unused component remains on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path().to_owned());
        let digest = millstream_runtime::digest(b"component");
        artefacts.store(&digest, b"component").unwrap();
        artefacts.store(&digest, b"component").unwrap();
        assert_eq!(artefacts.load(&digest).unwrap(), b"component");
        artefacts.remove(&digest);
        assert!(matches!(
            artefacts.load(&digest),
            Err(ArtefactError::Io { .. })
        ));
    }

    #[test]
    fn a_changed_component_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::new(folder.path().to_owned());
        let digest = millstream_runtime::digest(b"component");
        artefacts.store(&digest, b"component").unwrap();
        fs::write(artefacts.path(&digest), b"another").unwrap();
        assert!(matches!(
            artefacts.load(&digest),
            Err(ArtefactError::Damaged { .. })
        ));
    }
}
