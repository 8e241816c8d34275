//! What a worker may use beyond what every one may.

use std::sync::Arc;

use millstream_protocol::api::grants::Grants;

use crate::fit::{RefusedError, split_version};

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
        let problem = match split_version(import).0 {
            "millstream:plugin/secrets" if grants.secrets.is_empty() => {
                "but the deployment is granted no secret"
            }
            "millstream:plugin/tables" if tables == 0 => "but the deployment names no table",
            "wasi:http/outgoing-handler" | "wasi:http/types" if grants.http.is_empty() => {
                "but the deployment is granted no host: grant one, as `http=https://api.example.com`"
            }
            _ => continue,
        };
        return Err(RefusedError::Import {
            import: import.clone(),
            problem: problem.to_owned(),
        });
    }
    Ok(())
}
