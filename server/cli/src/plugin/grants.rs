//! What a deployment is granted, as options or a file say it.

use clap::Args;
use millstream::Grants;
use serde::Deserialize;

/// The words of `--grant`, as [`Grants::words`] has them.
const CLOCKS: &str = "clocks";
const RANDOMNESS: &str = "randomness";
const SECRET: &str = "secret=";

#[derive(Args, Clone, Debug, Default)]
pub(super) struct GrantArgs {
    /// What the plugin may use beyond what every one may: `clocks`, the time that it is in place of the
    /// record's; `randomness` that nobody can foretell; `secret=NAME`, a secret of the broker's. May
    /// be given again
    #[arg(long = "grant", value_parser = parse_grant, value_name = "GRANT")]
    given: Vec<Grant>,
}

/// One thing that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Clocks,
    Randomness,
    Secret(String),
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    match (text, text.strip_prefix(SECRET)) {
        (CLOCKS, _) => Ok(Grant::Clocks),
        (RANDOMNESS, _) => Ok(Grant::Randomness),
        (_, Some(name)) if !name.is_empty() => Ok(Grant::Secret(name.to_owned())),
        _ => Err(format!("not `{CLOCKS}`, `{RANDOMNESS}` or `{SECRET}NAME`")),
    }
}

/// `[grants]` of a deployment file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct GrantsSection {
    clocks: bool,
    randomness: bool,
    secrets: Vec<String>,
}

impl From<GrantsSection> for GrantArgs {
    fn from(section: GrantsSection) -> Self {
        let clocks = section.clocks.then_some(Grant::Clocks);
        let randomness = section.randomness.then_some(Grant::Randomness);
        let secrets = section.secrets.into_iter().map(Grant::Secret);
        let given = clocks.into_iter().chain(randomness).chain(secrets);
        Self {
            given: given.collect(),
        }
    }
}

impl GrantArgs {
    pub(super) fn grants(&self) -> Grants {
        let mut grants = Grants::default();
        for grant in &self.given {
            match grant {
                Grant::Clocks => grants.real_clocks = true,
                Grant::Randomness => grants.real_randomness = true,
                Grant::Secret(name) => grants.secrets.push(name.clone()),
            }
        }
        // Their order says nothing, nor does a repetition.
        grants.secrets.sort_unstable();
        grants.secrets.dedup();
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(words: &[&str]) -> Result<Grants, String> {
        let given = words.iter().map(|word| parse_grant(word));
        let given = given.collect::<Result<_, _>>()?;
        Ok(GrantArgs { given }.grants())
    }

    #[test]
    fn words_become_grants_and_grants_words() {
        let all = granted(&["secret=b", "randomness", "secret=a", "clocks", "secret=b"]).unwrap();
        assert_eq!(
            all.words(),
            ["clocks", "randomness", "secret=a", "secret=b"]
        );
        assert_eq!(granted(&[]).unwrap(), Grants::default());
        for word in ["secret=", "secret", "network"] {
            assert!(granted(&[word]).is_err(), "{word}");
        }
    }

    #[test]
    fn a_file_says_the_same() {
        let text = "randomness = true\nsecrets = [\"b\", \"a\"]";
        let section: GrantsSection = toml::from_str(text).unwrap();
        let expected = granted(&["randomness", "secret=a", "secret=b"]).unwrap();
        assert_eq!(GrantArgs::from(section).grants(), expected);
        assert!(toml::from_str::<GrantsSection>("network = true").is_err());
    }
}
