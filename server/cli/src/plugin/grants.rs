//! What a deployment is granted, as options or a file say it.

use std::fmt;

use clap::Args;
use millstream::{Grants, HttpHost};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The words of `--grant`, as [`Grants::words`] has them.
const CLOCKS: &str = "clocks";
const RANDOMNESS: &str = "randomness";
const SECRET: &str = "secret=";
const HTTP: &str = "http=";

#[derive(Args, Clone, Debug, Default)]
pub(super) struct GrantArgs {
    /// What the plugin may use beyond what every one may: `clocks`, the time that it is in place of the
    /// record's; `randomness` that nobody can foretell; `secret=NAME`, a secret of the broker's;
    /// `http=HOST`, requests to that host: by https unless it says `http://HOST`, at another port
    /// as `HOST:PORT`. May be given again
    #[arg(long = "grant", value_parser = parse_grant, value_name = "GRANT")]
    given: Vec<Grant>,
}

/// One thing that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Clocks,
    Randomness,
    Secret(String),
    Http(HttpHost),
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    if let Some(host) = text.strip_prefix(HTTP) {
        let host: Result<HttpHost, _> = host.parse();
        return host.map(Grant::Http).map_err(|error| error.to_string());
    }
    match (text, text.strip_prefix(SECRET)) {
        (CLOCKS, _) => Ok(Grant::Clocks),
        (RANDOMNESS, _) => Ok(Grant::Randomness),
        (_, Some(name)) if !name.is_empty() => Ok(Grant::Secret(name.to_owned())),
        _ => Err(format!(
            "not `{CLOCKS}`, `{RANDOMNESS}`, `{SECRET}NAME` or `{HTTP}HOST`"
        )),
    }
}

/// `[grants]` of a deployment file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct GrantsSection {
    clocks: bool,
    randomness: bool,
    #[serde(deserialize_with = "names")]
    secrets: Vec<String>,
    #[serde(deserialize_with = "hosts")]
    http: Vec<HttpHost>,
}

/// Reads the section; what is none, a list for example, is told what one looks like.
pub(super) fn section<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<GrantsSection, D::Error> {
    struct Section;

    impl<'de> Visitor<'de> for Section {
        type Value = GrantsSection;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "a section `[grants]` with `clocks = true`, `randomness = true`, \
                 `secrets = [\"NAME\"]` and `http = [\"HOST\"]`, as many of them as are granted",
            )
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GrantsSection, A::Error> {
            GrantsSection::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Section)
}

/// Reads a list; a single name is told how it becomes one.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names, each in quotes between `[` and `]`")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }

    deserializer.deserialize_seq(Names)
}

fn hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HttpHost>, D::Error> {
    let given = names(deserializer)?;
    let hosts = given.iter().map(|host| host.parse());
    hosts.collect::<Result<_, _>>().map_err(D::Error::custom)
}

impl From<GrantsSection> for GrantArgs {
    fn from(section: GrantsSection) -> Self {
        let clocks = section.clocks.then_some(Grant::Clocks);
        let randomness = section.randomness.then_some(Grant::Randomness);
        let secrets = section.secrets.into_iter().map(Grant::Secret);
        let http = section.http.into_iter().map(Grant::Http);
        let given = clocks.into_iter().chain(randomness);
        let given = given.chain(secrets).chain(http);
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
                Grant::Http(host) => grants.http.push(host.clone()),
            }
        }
        // Their order says nothing, nor does a repetition.
        grants.secrets.sort_unstable();
        grants.secrets.dedup();
        grants.http.sort_unstable();
        grants.http.dedup();
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
        let given = [
            "secret=b",
            "http=http://b.test:81",
            "randomness",
            "http=a.test",
            "secret=a",
            "clocks",
            "secret=b",
            "http=https://A.test:443/",
        ];
        assert_eq!(
            granted(&given).unwrap().words(),
            [
                "clocks",
                "randomness",
                "secret=a",
                "secret=b",
                "http=https://a.test",
                "http=http://b.test:81"
            ]
        );
        assert_eq!(granted(&[]).unwrap(), Grants::default());
        for word in [
            "secret=",
            "secret",
            "network",
            "http",
            "http=",
            "http=*.test",
        ] {
            assert!(granted(&[word]).is_err(), "{word}");
        }
    }

    #[test]
    fn a_file_says_the_same() {
        let text =
            "randomness = true\nsecrets = [\"b\", \"a\"]\nhttp = [\"b.test\", \"http://a.test\"]";
        let section: GrantsSection = toml::from_str(text).unwrap();
        let expected = granted(&[
            "randomness",
            "secret=a",
            "secret=b",
            "http=http://a.test",
            "http=b.test",
        ]);
        let expected = expected.unwrap();
        assert_eq!(GrantArgs::from(section).grants(), expected);
        assert!(toml::from_str::<GrantsSection>("network = true").is_err());
        let wrong = toml::from_str::<GrantsSection>("http = [\"https://a.test/v1\"]");
        let wrong = wrong.unwrap_err().to_string();
        assert!(
            wrong.contains("\"https://a.test/v1\" is no host"),
            "{wrong}"
        );
    }
}
