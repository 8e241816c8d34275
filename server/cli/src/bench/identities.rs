//! The identities of a run: made for it, gone with it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use millstream::Identity;
use millstream_transport::identity::Authority;
use millstream_transport::principal::Role;

/// The name that the servers' certificate is issued for.
pub(super) const SERVER_NAME: &str = "localhost";

/// A folder with the authority's certificate, a server's identity and a client's.
#[derive(Clone, Debug)]
pub(super) struct Identities {
    folder: PathBuf,
}

impl Identities {
    /// Makes an authority and has it issue both identities into `folder`.
    pub(super) fn create(folder: &Path) -> anyhow::Result<Self> {
        let identities = Self::at(folder);
        let authority = Authority::create("bench").context("cannot make an authority")?;
        for (role, name, hosts) in [
            (Role::Server, "bench-server", &[SERVER_NAME][..]),
            (Role::Client, "bench-client", &[]),
        ] {
            let [certificate, key, ca] = identities.files(role);
            authority
                .issue(role, name, hosts)?
                .save(&certificate, &key, &ca)?;
        }
        Ok(identities)
    }

    /// Those that were made in `folder`.
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Where they lie.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the broker and the QUIC server show.
    pub(super) fn server(&self) -> anyhow::Result<Identity> {
        self.load(Role::Server)
    }

    /// What clients show.
    pub(super) fn client(&self) -> anyhow::Result<Identity> {
        self.load(Role::Client)
    }

    fn load(&self, role: Role) -> anyhow::Result<Identity> {
        let [certificate, key, ca] = self.files(role);
        Ok(Identity::load(&certificate, &key, &ca)?)
    }

    fn files(&self, role: Role) -> [PathBuf; 3] {
        [
            self.folder.join(format!("{role}.pem")),
            self.folder.join(format!("{role}.key")),
            self.folder.join("ca.pem"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_find_what_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let made = Identities::create(folder.path()).unwrap();
        let found = Identities::at(made.folder());
        assert!(found.server().unwrap().principal().role.accepts());
        assert!(found.client().unwrap().principal().role.connects());
    }
}
