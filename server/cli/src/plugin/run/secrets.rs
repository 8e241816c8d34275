//! The secrets of a run: from a file, or the environment.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fmt, fs};

use anyhow::Context as _;
use millstream_runtime::SecretReader;

use crate::errors::Problem;

/// What the variable of a secret begins with.
const VARIABLE: &str = "MILLSTREAM_SECRET_";

/// Names and values.
#[derive(Clone, Default)]
pub(super) struct Secrets(BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// The values of these.
    pub(super) fn read(names: &[String], file: Option<&Path>) -> anyhow::Result<Self> {
        let from_file = file.map(read_file).transpose()?.unwrap_or_default();
        let mut values = BTreeMap::new();
        for name in names {
            let value = from_file.get(name).cloned();
            let value = value.or_else(|| env::var(variable(name)).ok());
            values.insert(name.clone(), value.ok_or_else(|| missing(name))?);
        }
        Ok(Self(values))
    }
}

impl SecretReader for Secrets {
    fn read(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

fn variable(name: &str) -> String {
    let upper = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    };
    VARIABLE.chars().chain(name.chars().map(upper)).collect()
}

fn missing(name: &str) -> Problem {
    Problem::usage(format!("the secret {name} has no value")).advise(format!(
        "name a file that has it with `--secrets`, or set ${}",
        variable(name)
    ))
}

fn read_file(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the secrets in {}", path.display()))?;
    // The parser's own message would show the line, and with it a value.
    toml::from_str(&text).map_err(|_| {
        Problem::usage(format!("{} is no file of secrets", path.display()))
            .advise("it has a line `NAME = \"VALUE\"` for each")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_file_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.toml");
        fs::write(&path, "api-key = \"hunter2\"\nother = \"x\"\n").unwrap();
        let secrets = Secrets::read(&["api-key".to_owned()], Some(&path)).unwrap();
        assert_eq!(SecretReader::read(&secrets, "api-key").unwrap(), "hunter2");
        assert_eq!(SecretReader::read(&secrets, "other"), None);
        assert!(!format!("{secrets:?}").contains("hunter2"));

        fs::write(&path, "api-key = \"hunter2").unwrap();
        let error = Secrets::read(&[], Some(&path)).unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }

    #[test]
    fn what_has_no_value_is_named() {
        assert_eq!(variable("api-key.2"), "MILLSTREAM_SECRET_API_KEY_2");
        let error = Secrets::read(&["nobody-sets-this".to_owned()], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the secret nobody-sets-this has no value"
        );
    }
}
