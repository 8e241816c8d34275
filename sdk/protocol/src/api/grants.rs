//! What a deployment's workers may use beyond what every worker may.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_HOST_BYTES;

/// What workers may use beyond records, state, logs and metrics. By default, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// `wasi:clocks` tell the time that it is, in place of the record's.
    pub real_clocks: bool,
    /// `wasi:random` gives what nobody can foretell, in place of what the position decides.
    pub real_randomness: bool,
    /// The names of the secrets that `millstream:plugin/secrets` tells.
    pub secrets: Vec<String>,
    /// The hosts to which `wasi:http` sends requests.
    pub http: Vec<HttpHost>,
}

impl Grants {
    /// What is granted, a word for each: `clocks`, `randomness`, `secret=NAME`, `http=HOST`.
    pub fn words(&self) -> Vec<String> {
        let clocks = self.real_clocks.then(|| "clocks".to_owned());
        let randomness = self.real_randomness.then(|| "randomness".to_owned());
        let secrets = self.secrets.iter().map(|name| format!("secret={name}"));
        let http = self.http.iter().map(|host| format!("http={host}"));
        clocks
            .into_iter()
            .chain(randomness)
            .chain(secrets)
            .chain(http)
            .collect()
    }
}

/// Whether requests are encrypted, and the host shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HttpScheme {
    /// By TLS.
    Https,
    /// Neither.
    Http,
}

impl HttpScheme {
    /// As an address begins: `https`, `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// The port of an address that names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// A host to which requests may be sent: scheme, name and port, and nothing but these.
///
/// It is written as an address begins, `https://api.example.com:8443`. Without a scheme it is one of
/// `https`, and without a port that of the scheme.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HttpHost {
    /// The scheme.
    pub scheme: HttpScheme,
    /// A name, an IPv4 address, or an IPv6 address in brackets; in lower case.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What is no [`HttpHost`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no host for requests: {problem}; try `{instead}`")]
pub struct HttpHostError {
    /// What was given, as far as it is told.
    pub given: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What was perhaps meant: the host that is named in it, or an example.
    pub instead: String,
}

impl HttpHostError {
    fn new(given: &str, problem: &'static str) -> Self {
        let meant = meant(given).map(|host| host.to_string());
        Self {
            given: given.chars().take(MAX_HOST_BYTES).collect(),
            problem,
            instead: meant.unwrap_or_else(|| EXAMPLE.to_owned()),
        }
    }
}

/// A host, for one who has named none.
const EXAMPLE: &str = "https://api.example.com";

/// The host that a whole address names: without what does not belong to a host.
fn meant(address: &str) -> Option<HttpHost> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (HttpScheme::Http, rest),
        Some((_, rest)) => (HttpScheme::Https, rest),
        None => (HttpScheme::Https, address),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = split_port(host);
    let port = port.and_then(|port| port.parse().ok().filter(|port| *port != 0));
    host_problem(host).is_none().then(|| HttpHost {
        scheme,
        host: host.to_ascii_lowercase(),
        port: port.unwrap_or(scheme.default_port()),
    })
}

/// A host and what stands behind its colon. The colons of an IPv6 address lie within its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

impl HttpHost {
    /// Checks one that was not parsed here.
    ///
    /// # Errors
    ///
    /// It is not as it would be written.
    pub fn check(&self) -> Result<(), HttpHostError> {
        if self.host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(HttpHostError::new(&self.host, "it is not in lower case"));
        }
        let problem = host_problem(&self.host).or((self.port == 0).then_some("no port is 0"));
        problem.map_or(Ok(()), |problem| {
            Err(HttpHostError::new(&self.host, problem))
        })
    }

    /// Whether the authority of an address with this scheme, as a request has it, is this host.
    pub fn is(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        scheme.eq_ignore_ascii_case(self.scheme.as_str())
            && host.eq_ignore_ascii_case(&self.host)
            && port.unwrap_or(self.scheme.default_port()) == self.port
    }
}

impl FromStr for HttpHost {
    type Err = HttpHostError;

    fn from_str(given: &str) -> Result<Self, HttpHostError> {
        let refused = |problem| HttpHostError::new(given, problem);
        let (scheme, rest) = match given.split_once("://") {
            None => (HttpScheme::Https, given),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                (HttpScheme::Https, rest)
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (HttpScheme::Http, rest),
            Some(_) => return Err(refused("its scheme is neither `https` nor `http`")),
        };
        // An address copied from elsewhere ends so, and says no more by it.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(refused(
                match rest[at..].trim_start_matches('/').chars().next() {
                    Some('?') => "a whole host is granted, without a query",
                    Some('#') => "a whole host is granted, without a fragment",
                    _ => "a whole host is granted, not a path of it",
                },
            ));
        }
        if rest.contains('@') {
            return Err(refused("a user's name and password are no part of it"));
        }
        let (host, port) = split_port(rest);
        let port = match port {
            None => scheme.default_port(),
            Some(digits) if !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()) => {
                digits.parse().unwrap_or(0)
            }
            Some(_) => return Err(refused("its port is no number")),
        };
        if port == 0 {
            return Err(refused("a port is a number from 1 to 65535"));
        }
        match host_problem(host) {
            Some(problem) => Err(refused(problem)),
            None => Ok(Self {
                scheme,
                host: host.to_ascii_lowercase(),
                port,
            }),
        }
    }
}

/// What is wrong with the name of a host, if anything.
fn host_problem(host: &str) -> Option<&'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(Ipv6Addr::from_str);
        return (!matches!(address, Some(Ok(_)))).then_some("it is no IPv6 address");
    }
    if host.is_empty() {
        return Some("it has no name");
    }
    if host.len() > MAX_HOST_BYTES {
        return Some("its name is too long");
    }
    if host.contains('*') {
        return Some("each host is granted by its own name, without wildcards");
    }
    // What has but digits and dots is an address to those who look it up, whatever it lacks of one.
    let digits = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if host.rsplit('.').next().is_some_and(digits) {
        return host
            .parse::<Ipv4Addr>()
            .is_err()
            .then_some("it is no IPv4 address");
    }
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (!host.split('.').all(label_is_right))
        .then_some("its name has other characters than letters, digits, `-` and `_` between dots")
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_and_written_as_an_address_begins() {
        for (given, written) in [
            ("api.example.com", "https://api.example.com"),
            ("API.example.com:443", "https://api.example.com"),
            (
                "https://api.example.com:8443/",
                "https://api.example.com:8443",
            ),
            ("HTTP://enricher", "http://enricher"),
            ("http://enricher:80", "http://enricher"),
            ("http://enricher:443", "http://enricher:443"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("[::1]", "https://[::1]"),
            ("http://[2001:DB8::1]:81", "http://[2001:db8::1]:81"),
            ("a_b.internal", "https://a_b.internal"),
        ] {
            let host: HttpHost = given.parse().unwrap();
            assert_eq!(host.to_string(), written, "{given}");
            assert_eq!(written.parse(), Ok(host.clone()), "{given}");
            assert_eq!(host.check(), Ok(()), "{given}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_is_wrong() {
        for (given, problem) in [
            ("", "no name"),
            ("https://", "no name"),
            ("*.example.com", "without wildcards"),
            ("https://me:pw@example.com", "password"),
            ("https://example.com/v1", "not a path"),
            ("https://example.com?q", "without a query"),
            ("https://example.com/?q", "without a query"),
            ("https://example.com/v1?q", "not a path"),
            ("https://example.com#top", "without a fragment"),
            ("ftp://example.com", "neither `https` nor `http`"),
            ("example.com:0", "from 1 to 65535"),
            ("example.com:65536", "from 1 to 65535"),
            ("example.com:", "no number"),
            ("example.com:+80", "no number"),
            ("example.com:80:80", "between dots"),
            ("exa mple.com", "between dots"),
            ("example..com", "between dots"),
            ("-example.com", "between dots"),
            ("bücher.example", "between dots"),
            ("1.2.3", "no IPv4 address"),
            ("2130706433", "no IPv4 address"),
            ("0x7f.1", "no IPv4 address"),
            ("::1", "between dots"),
            ("[::1", "no IPv6 address"),
            ("[1.2.3.4]", "no IPv6 address"),
        ] {
            let error = given.parse::<HttpHost>().unwrap_err().to_string();
            assert!(error.contains(problem), "{given}: {error}");
        }
        let long = format!("{}.example.com", "a".repeat(300));
        assert!(long.parse::<HttpHost>().is_err());
        let mut host: HttpHost = "example.com".parse().unwrap();
        host.host = "Example.com".to_owned();
        assert!(host.check().is_err());
    }

    #[test]
    fn the_host_that_was_perhaps_meant_is_named() {
        for (given, instead) in [
            ("https://Geo.test/v1?key=1", "https://geo.test"),
            ("http://geo.test:8080/v1", "http://geo.test:8080"),
            ("geo.test?key=1", "https://geo.test"),
            ("geo.test:0", "https://geo.test"),
            ("ftp://geo.test", "https://geo.test"),
            ("https://me:pw@geo.test", "https://geo.test"),
            ("http://[::1]:81/v1", "http://[::1]:81"),
            // Nothing that could be one.
            ("", "https://api.example.com"),
            ("*.geo.test", "https://api.example.com"),
            ("geo test", "https://api.example.com"),
        ] {
            let error = given.parse::<HttpHost>().unwrap_err();
            assert_eq!(error.instead, instead, "{given}");
            assert!(instead.parse::<HttpHost>().is_ok());
            assert!(error.to_string().ends_with(&format!("try `{instead}`")));
        }
    }

    #[test]
    fn a_request_is_for_a_host_if_scheme_name_and_port_are_its() {
        let host: HttpHost = "https://api.example.com".parse().unwrap();
        assert!(host.is("https", "api.example.com", None));
        assert!(host.is("https", "API.example.COM", Some(443)));
        assert!(!host.is("http", "api.example.com", Some(443)));
        assert!(!host.is("https", "api.example.com", Some(80)));
        assert!(!host.is("https", "example.com", None));
        assert!(!host.is("https", "api.example.com.", None));
        assert!(!host.is("https", "xapi.example.com", None));
        let plain: HttpHost = "http://api.example.com:8080".parse().unwrap();
        assert!(plain.is("http", "api.example.com", Some(8080)));
        assert!(!plain.is("http", "api.example.com", None));
    }
}
