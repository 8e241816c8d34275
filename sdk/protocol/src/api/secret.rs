//! Secrets: set, list, remove. No answer ever holds a value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::TimestampMs;

/// Keeps a secret for the deployments that are granted it, or sets it anew: their workers find the new
/// value when they ask next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSecret {
    /// The secret's name.
    pub name: String,
    /// Its value, at most [`MAX_SECRET_BYTES`](crate::limits::MAX_SECRET_BYTES).
    pub value: SecretValue,
}

/// A secret's value. It is not shown where the struct around it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue(pub String);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Asks for the names of all secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSecrets {}

/// The answer to [`ListSecrets`], in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSecretsResponse {
    /// The secrets.
    pub secrets: Vec<SecretDescription>,
}

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDescription {
    /// Its name.
    pub name: String,
    /// When it was set last.
    pub set_at_ms: TimestampMs,
    /// The deployments that are granted it, in name order.
    pub deployments: Vec<String>,
}

/// Forgets a secret. Deployments that are granted it no longer find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveSecret {
    /// Which secret.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_shown() {
        let set = SetSecret {
            name: "api-key".to_owned(),
            value: SecretValue("hunter2".to_owned()),
        };
        assert!(!format!("{set:?} {set:#?}").contains("hunter2"));
    }
}
