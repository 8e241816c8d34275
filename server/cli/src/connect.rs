//! From the profile to a client.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use millstream::{Client, Error};
use millstream_transport::Profile;
use millstream_transport::address::Address;

/// The heading of options that every command takes, in its help.
pub(crate) const GLOBAL: &str = "Global options";

/// The name this program gives itself in the broker's logs and listings.
const CLIENT_NAME: &str = "millstream-cli";

/// Which broker to talk to.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConnectArgs {
    /// The client profile: the brokers' addresses and the identity to connect with [default:
    /// $MILLSTREAM_PROFILE, or the one that `millstream dev` has written]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    profile: Option<PathBuf>,

    /// A broker's address, in place of the profile's
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        help_heading = GLOBAL
    )]
    address: Option<Address>,
}

impl ConnectArgs {
    /// The profile that these arguments mean.
    pub(crate) fn profile(&self) -> millstream::Result<Profile> {
        let mut profile = match &self.profile {
            Some(path) => Profile::load(path)?,
            None => Profile::discover()?,
        };
        if let Some(address) = &self.address {
            profile.addresses = vec![address.to_string()];
        }
        Ok(profile)
    }

    /// The same arguments, with this profile unless they name one.
    pub(crate) fn or_by(&self, profile: &Path) -> Self {
        let named = self.profile.clone();
        Self {
            profile: Some(named.unwrap_or_else(|| profile.to_owned())),
            address: self.address.clone(),
        }
    }

    /// Connects.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let profile = self.profile()?;
        let builder = Client::builder()
            .profile(&profile)?
            .client_name(CLIENT_NAME);
        builder.connect().await.map_err(|error| match error {
            // Alone among the ways to fail, it does not name the address.
            Error::Timeout { .. } => {
                let addresses = profile.addresses.join(" or ");
                anyhow!(error).context(format!("no answer from {addresses}"))
            }
            error => error.into(),
        })
    }
}
