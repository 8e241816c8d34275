//! Numbers as people read them.

use std::time::Duration;

use jiff::Timestamp;
use millstream_protocol::TimestampMs;

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1536` is `1.5 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // What would be rounded up to 1024.0 belongs to the next unit.
    while amount >= 1023.95 {
        let Some(next) = units.next() else { break };
        amount /= 1024.0;
        unit = Some(next);
    }
    format!("{amount:.1} {}", unit.unwrap_or(&"B"))
}

/// `1707` is `1,707`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `1,707 records`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(number))
}

/// A setting in its largest whole unit, as it can be typed again: `604800000` is `7d`.
pub(crate) fn duration_ms(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    let whole = UNITS
        .iter()
        .find(|(size, _)| ms >= *size && ms.is_multiple_of(*size));
    match whole {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// A measured time below a minute: `180 µs`, `1.2 ms`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A measured time, three digits of it.
pub(crate) fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if time < Duration::from_secs(1) {
        format!("{:.0} ms", seconds * 1000.0)
    } else if time < Duration::from_secs(60) {
        format!("{seconds:.1} s")
    } else if time < Duration::from_secs(60 * 60) {
        format!("{}m {}s", time.as_secs() / 60, time.as_secs() % 60)
    } else if time < Duration::from_secs(24 * 60 * 60) {
        format!("{}h {}m", time.as_secs() / 3600, time.as_secs() / 60 % 60)
    } else {
        format!(
            "{}d {}h",
            time.as_secs() / 86_400,
            time.as_secs() / 3600 % 24
        )
    }
}

/// A point in time (RFC 3339, UTC), or the number itself when no calendar reaches that far.
pub(crate) fn time_ms(ms: TimestampMs) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_their_unit() {
        let check = |number, text| assert_eq!(bytes(number), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536, "1.5 KiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(64 << 20, "64.0 MiB");
        check(u64::MAX, "16384.0 PiB");
    }

    #[test]
    fn thousands_apart() {
        let check = |number, text| assert_eq!(count(number), text);
        check(0, "0");
        check(999, "999");
        check(1707, "1,707");
        check(12_345_678, "12,345,678");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(1_707, "record"), "1,707 records");
    }

    #[test]
    fn settings_can_be_typed_again() {
        let check = |ms, text| assert_eq!(duration_ms(ms), text);
        check(0, "0ms");
        check(1_500, "1500ms");
        check(90_000, "90s");
        check(3_600_000, "1h");
        check(604_800_000, "7d");
    }

    #[test]
    fn times_and_durations() {
        assert_eq!(time_ms(1_517_270_400_123), "2018-01-30T00:00:00.123Z");
        assert_eq!(time_ms(i64::MAX), "9223372036854775807 ms");
        let check =
            |seconds: f64, text| assert_eq!(elapsed(Duration::from_secs_f64(seconds)), text);
        check(0.25, "250 ms");
        check(12.34, "12.3 s");
        check(125.0, "2m 5s");
        check(7_500.0, "2h 5m");
        check(200_000.0, "2d 7h");
    }
}
