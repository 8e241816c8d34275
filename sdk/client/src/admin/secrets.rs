//! Secrets of plugins: set, list, remove.

use millstream_protocol::ErrorCode;
use millstream_protocol::api::secret::{
    ListSecrets, RemoveSecret, SecretDescription, SecretValue, SetSecret,
};

use super::Admin;
use super::topics::gone;
use crate::error::Result;

impl Admin {
    /// Keeps a secret for the deployments that are granted it, or sets it anew: their workers find the
    /// new value when they ask next. Nobody else gets it back.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidRequest`] for a name or a value that cannot be one.
    pub async fn set_secret(
        &self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<()> {
        let (name, value) = (name.into(), SecretValue(value.into()));
        self.client.call(SetSecret { name, value }).await
    }

    /// The names of all secrets.
    pub async fn list_secrets(&self) -> Result<Vec<SecretDescription>> {
        Ok(self.client.call(ListSecrets {}).await?.secrets)
    }

    /// Forgets a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownSecret`]; [`ErrorCode::SecretInUse`] while a deployment is granted it.
    pub async fn remove_secret(&self, name: impl Into<String>) -> Result<()> {
        let request = RemoveSecret { name: name.into() };
        let timeout = self.client.request_timeout();
        let (outcome, earlier) = self.client.call_with(request, None, timeout).await;
        gone(outcome, earlier, ErrorCode::UnknownSecret)
    }
}
