//! The client's profile: which brokers to connect to, and with which identity.
//!
//! A small TOML file. Paths in it are relative to the file itself, so that a folder with a profile
//! and its certificates can be moved:
//!
//! ```toml
//! address = "broker.example:9092"
//! server_name = "broker.example"
//! ca = "ca.pem"
//! certificate = "alice.pem"
//! key = "alice.key"
//! ```
//!
//! The address may be a list, of brokers of one cluster. One is enough, as long as its broker runs when a
//! client starts.
//!
//! A profile is looked for in the user's own places only, never in the working directory: a folder
//! that somebody was handed must not decide which broker gets their records.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::address::{Address, AddressError};
use crate::identity::{Identity, IdentityError};
use crate::private_file::{self, Readable};

/// The environment variable that names the profile's file.
pub const PROFILE_VARIABLE: &str = "MILLSTREAM_PROFILE";

/// The largest profile that is read, bytes.
pub const MAX_PROFILE_BYTES: u64 = 64 * 1024;

/// Which brokers to connect to, and with which identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where brokers of the cluster listen, as [`Address`] reads it: at least one. In the file it is
    /// `address`, a string or a list of strings.
    #[serde(rename = "address", with = "one_or_several")]
    pub addresses: Vec<String>,
    /// The name that the certificates of all brokers must be issued for. If it is the host of the first
    /// address, it is that broker's own, and each of the others must have one for its own host.
    pub server_name: String,
    /// The file of the authority's certificate, PEM.
    pub ca: PathBuf,
    /// The file of the client's certificate, PEM.
    pub certificate: PathBuf,
    /// The file of the client's private key, PEM.
    pub key: PathBuf,
}

/// Why there is no usable profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none in any of the user's places.
    #[error(
        "no client profile: ${PROFILE_VARIABLE} is not set and there is no {}; `millstream dev` \
         writes one, or set ${PROFILE_VARIABLE} to yours",
        either_of(.looked_for)
    )]
    NotFound {
        /// The files that were looked for.
        looked_for: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("cannot read the client profile {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the client profile {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a profile.
    #[error("{} is not a client profile: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn either_of(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if paths.is_empty() {
        "home directory".to_owned()
    } else {
        paths.join(" or ")
    }
}

impl Profile {
    /// Reads a profile. Its relative paths become relative to the working directory, that is,
    /// usable as they are.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let invalid = |reason: String| ProfileError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let content =
            private_file::read(path, MAX_PROFILE_BYTES).map_err(|source| ProfileError::Read {
                path: path.to_owned(),
                source,
            })?;
        let text = std::str::from_utf8(&content).map_err(|error| invalid(error.to_string()))?;
        let mut profile: Self =
            toml::from_str(text).map_err(|error| invalid(error.to_string().trim().to_owned()))?;
        if profile.addresses.is_empty() {
            return Err(invalid("the list of addresses is empty".to_owned()));
        }
        for address in &profile.addresses {
            let parsed = address.parse::<Address>();
            parsed.map_err(|error: AddressError| invalid(error.to_string()))?;
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        for file in [&mut profile.ca, &mut profile.certificate, &mut profile.key] {
            *file = directory.join(&*file);
        }
        Ok(profile)
    }

    /// Finds and reads the user's profile: the file named by `MILLSTREAM_PROFILE`, or else
    /// `$XDG_CONFIG_HOME/millstream/profile.toml`, or else
    /// `$HOME/.config/millstream/profile.toml`.
    pub fn discover() -> Result<Self, ProfileError> {
        Self::discover_in(|variable| std::env::var_os(variable))
    }

    /// [`Profile::discover`] in an environment of the caller's.
    pub fn discover_in(
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ProfileError> {
        if let Some(path) = non_empty(&environment, PROFILE_VARIABLE) {
            return Self::load(&path);
        }
        let looked_for = user_places(&environment);
        for path in &looked_for {
            match Self::load(path) {
                Err(ProfileError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(ProfileError::NotFound { looked_for })
    }

    /// Where a new profile belongs so that [`Profile::discover`] finds it; `None` without a home
    /// directory.
    pub fn default_path() -> Option<PathBuf> {
        Self::default_path_in(|variable| std::env::var_os(variable))
    }

    /// [`Profile::default_path`] in an environment of the caller's.
    pub fn default_path_in(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        non_empty(&environment, PROFILE_VARIABLE)
            .or_else(|| user_places(&environment).into_iter().next())
    }

    /// Writes the profile, and makes its directory where needed. Paths below the profile's
    /// directory are written relative to it.
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        let write = || {
            let path = std::path::absolute(path)?;
            let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
            let mut written = self.clone();
            for file in [&mut written.ca, &mut written.certificate, &mut written.key] {
                let absolute = std::path::absolute(&*file)?;
                *file = match absolute.strip_prefix(directory) {
                    Ok(relative) => relative.to_owned(),
                    Err(_) => absolute,
                };
            }
            let text = toml::to_string(&written).map_err(io::Error::other)?;
            std::fs::create_dir_all(directory)?;
            private_file::write(&path, text.as_bytes(), Readable::ByAll)
        };
        write().map_err(|source| ProfileError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Loads the identity that the profile names.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.certificate, &self.key, &self.ca)
    }
}

fn user_places(environment: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let configured = non_empty(environment, "XDG_CONFIG_HOME");
    let home = non_empty(environment, "HOME").map(|home| home.join(".config"));
    let places = [configured, home].into_iter().flatten();
    places
        .map(|place| place.join("millstream").join("profile.toml"))
        .collect()
}

fn non_empty(environment: &impl Fn(&str) -> Option<OsString>, variable: &str) -> Option<PathBuf> {
    environment(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// A string, or a list of strings.
mod one_or_several {
    use std::fmt;

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(texts: &[String], to: S) -> Result<S::Ok, S::Error> {
        match texts {
            [one] => one.serialize(to),
            several => several.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_any(OneOrSeveral)
    }

    struct OneOrSeveral;

    impl<'de> Visitor<'de> for OneOrSeveral {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut several: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = several.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
}
