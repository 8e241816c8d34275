//! Durations and sizes.

use std::str::FromStr;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Reads a duration: `500ms`, `30s`, `1h 30m`, `7d`, `2 weeks`. A day has 24 hours.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || "expected a duration, for example 500ms, 30s, 1h30m or 7d".to_owned();
    let span: Span = text.trim().parse().map_err(|_| refused())?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| refused())?;
    Duration::try_from(duration).map_err(|_| "a duration cannot be negative".to_owned())
}

const UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
];

/// Reads a size in bytes: `1048576`, `64MiB`, `10 GB`. The units with an `i` are powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => number
            .checked_mul(factor)
            .ok_or_else(|| format!("{text} is too large")),
        _ => Err("expected a size in bytes, for example 1048576, 64MiB or 10GB".to_owned()),
    }
}

/// A bound, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    /// `none`.
    None,
    /// At most this.
    At(T),
}

impl<T> Limit<T> {
    pub(crate) fn into_option(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::At(bound) => Some(bound),
        }
    }

    fn parse(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        parse(text)
            .map(Self::At)
            .map_err(|error| format!("{error}, or none"))
    }
}

impl FromStr for Limit<Duration> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, parse_duration)
    }
}

impl FromStr for Limit<u64> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, parse_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, ms| {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            )
        };
        check("500ms", 500);
        check("30s", 30_000);
        check("1h30m", 5_400_000);
        check("1h 30m", 5_400_000);
        check("7d", 604_800_000);
        check("2 weeks", 1_209_600_000);
        for text in [
            "",
            "7",
            "abc",
            "-5s",
            "5s ago",
            "1 month",
            "99999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let check = |text, bytes| assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        check("0", 0);
        check("1048576", 1 << 20);
        check("64MiB", 64 << 20);
        check("64 mib", 64 << 20);
        check("10GB", 10_000_000_000);
        for text in [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "5M",
            "20000PiB",
            "99999999999999999999",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_may_be_lifted() {
        assert_eq!("none".parse(), Ok(Limit::<u64>::None));
        assert_eq!("1KiB".parse(), Ok(Limit::At(1024_u64)));
        assert_eq!("1s".parse(), Ok(Limit::At(Duration::from_secs(1))));
        assert!("never".parse::<Limit<Duration>>().is_err());
    }
}
