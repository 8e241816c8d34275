//! A length of time, as it is configured: `500ms`, `90s`, `1h30m`, `7d`.
//!
//! ```
//! use millstream_plugin::duration;
//!
//! assert_eq!(duration::parse_ms("1h30m"), Ok(5_400_000));
//! let error = duration::parse_ms("soon").unwrap_err();
//! assert_eq!(
//!     format!("window {error}"),
//!     "window must be a duration, for example 90s, 1h30m or 7d, not `soon`"
//! );
//! ```

use std::fmt;

/// The units, and milliseconds of each.
const UNITS: [(&str, i64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// The longest, milliseconds: a hundred years.
pub const MAX_MS: i64 = 36_525 * 86_400_000;

/// Reads one or more numbers with their units (`ms`, `s`, `m`, `h`, `d`); their sum, milliseconds.
///
/// # Errors
///
/// It is something else, nothing at all, or more than [`MAX_MS`].
pub fn parse_ms(text: &str) -> Result<i64, InvalidDuration> {
    sum_ms(text)
        .filter(|sum_ms| (1..=MAX_MS).contains(sum_ms))
        .ok_or_else(|| InvalidDuration {
            text: text.to_owned(),
        })
}

/// The sum of all numbers with their units.
fn sum_ms(text: &str) -> Option<i64> {
    let mut sum_ms = 0_i64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part_ms = number.parse::<i64>().ok()?.checked_mul(*unit_ms)?;
        sum_ms = sum_ms.checked_add(part_ms)?;
        rest = behind.trim_start();
    }
    Some(sum_ms)
}

/// The text is no duration. It is told as the end of a sentence about what was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration {
    text: String,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "must be a duration, for example 90s, 1h30m or 7d, not `{}`",
            self.text
        )
    }
}

impl std::error::Error for InvalidDuration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        let check = |text, expect| assert_eq!(parse_ms(text), Ok(expect), "{text}");
        check("1ms", 1);
        check("90s", 90_000);
        check("1h30m", 5_400_000);
        check(" 1h 30m ", 5_400_000);
        check("36525d", MAX_MS);
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "0s",
            "24",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "1H",
            "1h,30m",
            "36526d",
            "106751991168d",
            "99999999999999999999ms",
        ] {
            let expect = InvalidDuration { text: text.into() };
            assert_eq!(parse_ms(text), Err(expect), "{text}");
        }
    }
}
