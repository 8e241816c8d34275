//! A place in a topic, as it is typed.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use millstream::Position;
use millstream_protocol::{Offset, TimestampMs};

use super::quantity::parse_duration;

/// A place in a topic: `earliest`, `latest`, `offset:N`, `time:T` or a duration back from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PositionArg {
    /// The first record still there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record of this time or later.
    Time(TimestampMs),
    /// The first record of this long ago or later.
    Ago(Duration),
}

impl PositionArg {
    /// The position, seen at `now_ms`.
    pub(crate) fn at(self, now_ms: TimestampMs) -> Position {
        match self {
            Self::Earliest => Position::Earliest,
            Self::Latest => Position::Latest,
            Self::Offset(offset) => Position::Offset(offset),
            Self::Time(time_ms) => Position::Time(time_ms),
            Self::Ago(back) => {
                let back_ms = TimestampMs::try_from(back.as_millis()).unwrap_or(TimestampMs::MAX);
                Position::Time(now_ms.saturating_sub(back_ms))
            }
        }
    }
}

impl FromStr for PositionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(offset) = text.strip_prefix("offset:") {
            return offset
                .parse()
                .map(Self::Offset)
                .map_err(|_| "an offset is a number from 0".to_owned());
        }
        if let Some(time) = text.strip_prefix("time:") {
            return parse_time(time).map(Self::Time);
        }
        let back = text.strip_suffix("ago").unwrap_or(text);
        parse_duration(back).map(Self::Ago).map_err(|_| {
            "expected earliest, latest, offset:N, time:T (RFC 3339 or milliseconds since 1970) or a duration back from \
             now, for example 15m"
                .to_owned()
        })
    }
}

fn parse_time(text: &str) -> Result<TimestampMs, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time: Timestamp = text.parse().map_err(|_| {
        "expected a time like 2018-01-30T12:00:00Z or 2018-01-30T12:00:00+01:00, or milliseconds since 1970".to_owned()
    })?;
    Ok(time.as_millisecond())
}

impl fmt::Display for PositionArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "offset:{offset}"),
            Self::Time(time_ms) => write!(f, "time:{time_ms}"),
            Self::Ago(back) => write!(f, "{}ms", back.as_millis()),
        }
    }
}

/// The clock, milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> TimestampMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let check = |text: &str, expected: Position| {
            assert_eq!(
                text.parse::<PositionArg>().unwrap().at(1_000_000),
                expected,
                "{text}"
            );
        };
        check("earliest", Position::Earliest);
        check("latest", Position::Latest);
        check("offset:42", Position::Offset(42));
        check("time:1517270400000", Position::Time(1_517_270_400_000));
        check("time:-5", Position::Time(-5));
        check(
            "time:2018-01-30T00:00:00Z",
            Position::Time(1_517_270_400_000),
        );
        check(
            "time:2018-01-30T01:00:00+01:00",
            Position::Time(1_517_270_400_000),
        );
        check("15m", Position::Time(100_000));
        check("10s ago", Position::Time(990_000));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "first",
            "offset:",
            "offset:-1",
            "time:",
            "time:yesterday",
            "2018-01-30",
            "42",
        ] {
            assert!(text.parse::<PositionArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for text in ["earliest", "latest", "offset:7", "time:9", "1500ms"] {
            let position: PositionArg = text.parse().unwrap();
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }
}
