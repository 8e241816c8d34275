//! Earthquakes as records of 100 bytes, for the plugin `quake-alert`.

/// Bytes of one record.
pub(in crate::bench) const QUAKE_BYTES: usize = 100;

/// The least magnitude that is alerted about.
pub(in crate::bench) const MIN_MAGNITUDE: &str = "4.5";

/// One earthquake in so many is that strong, about as in a real feed of all of them.
const STRONG_ONE_IN: u64 = 16;

/// The record of this number, as JSON.
pub(in crate::bench) fn quake(index: u64) -> String {
    let magnitude = if is_strong(index) { "5.3" } else { "1.2" };
    let id = index % 100_000_000;
    let time = 1_517_364_031_800 + index % 1_000_000_000;
    let mut json = format!(
        r#"{{"id":"us{id:08}","time":{time},"mag":{magnitude},"net":"us","lon":-112.5,"lat":44.8,"depth_km":9}}"#
    );
    // JSON may be followed by blanks.
    json.extend(std::iter::repeat_n(
        ' ',
        QUAKE_BYTES.saturating_sub(json.len()),
    ));
    json
}

/// How many of the first `records` are alerted about.
pub(in crate::bench) fn strong(records: u64) -> u64 {
    records.div_ceil(STRONG_ONE_IN)
}

fn is_strong(index: u64) -> bool {
    index.is_multiple_of(STRONG_ONE_IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_json_of_its_size() {
        for index in [0, 1, 15, 16, 99_999_999, 123_456_789_012] {
            let json = quake(index);
            assert_eq!(json.len(), QUAKE_BYTES, "{json}");
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            for field in ["id", "time", "net", "lon", "lat", "depth_km"] {
                assert!(!value[field].is_null(), "{field}");
            }
            let minimum: f64 = MIN_MAGNITUDE.parse().unwrap();
            assert_eq!(value["mag"].as_f64().unwrap() >= minimum, is_strong(index));
        }
    }

    #[test]
    fn the_strong_are_counted() {
        for records in [0, 1, 15, 16, 17, 1_000] {
            assert_eq!(
                strong(records),
                (0..records).filter(|index| is_strong(*index)).count() as u64,
                "{records}"
            );
        }
    }
}
