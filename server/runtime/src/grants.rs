//! What a worker may use beyond what every one may.

use std::fmt;
use std::sync::Arc;

use millstream_protocol::api::grants::Grants;

use crate::fit::{RefusedError, split_version};

/// What a deployment does not have that its component needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The grant of a secret.
    Secret,
    /// A table.
    Table,
    /// The grant of a host, to send requests to.
    Host,
}

/// The end of a sentence about a deployment.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "is granted no secret",
            Self::Table => "names no table",
            Self::Host => "is granted no host",
        })
    }
}

/// Reads secrets. Called on the worker's thread.
pub trait SecretReader: Send + Sync {
    /// The value of the secret of this name, as it is now.
    fn read(&self, name: &str) -> Option<String>;
}

/// What one worker is granted, and where it comes from.
#[derive(Clone, Default)]
pub struct WorkerGrants {
    /// What is granted.
    pub grants: Grants,
    /// Where the secrets are, if any is granted.
    pub secrets: Option<Arc<dyn SecretReader>>,
}

impl WorkerGrants {
    /// The value of a secret, if it is granted.
    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        if !self.grants.secrets.iter().any(|granted| granted == name) {
            return None;
        }
        self.secrets.as_ref()?.read(name)
    }
}

/// Refuses a component that imports what is served to those alone who are granted something of it, or
/// have a table.
pub(crate) fn check(
    imports: &[String],
    grants: &Grants,
    tables: usize,
) -> Result<(), RefusedError> {
    for import in imports {
        let lack = match split_version(import).0 {
            "millstream:plugin/secrets" if grants.secrets.is_empty() => Lack::Secret,
            "millstream:plugin/tables" if tables == 0 => Lack::Table,
            "wasi:http/outgoing-handler" | "wasi:http/types" if grants.http.is_empty() => {
                Lack::Host
            }
            _ => continue,
        };
        return Err(RefusedError::Settings {
            import: import.clone(),
            lack,
        });
    }
    Ok(())
}
