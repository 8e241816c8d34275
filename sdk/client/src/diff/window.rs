//! Which live outputs came of the part of history that was replayed, by the times of its records.
//!
//! An output has the time of the record that it came of. Where records outside of the part have such times as
//! well, nobody can tell.

use millstream_protocol::TimestampMs;
use millstream_protocol::api::replay::Replay;

use super::reading::Reading;
use crate::client::Client;
use crate::error::Result;

/// The times of the records of a part, and of those outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The earliest and the latest record of the part.
    part: (TimestampMs, TimestampMs),
    /// The latest record before it, and the earliest behind it.
    outside: (TimestampMs, TimestampMs),
}

impl Default for Window {
    /// All of history.
    fn default() -> Self {
        Self {
            part: (TimestampMs::MIN, TimestampMs::MAX),
            outside: (TimestampMs::MIN, TimestampMs::MAX),
        }
    }
}

impl Window {
    /// That of a replay. Reads its inputs if it is one of a part of history.
    pub(super) async fn of(client: &Client, replay: &Replay) -> Result<Self> {
        let admin = client.admin();
        let mut inputs = Vec::with_capacity(replay.inputs.len());
        let mut is_part = replay.before_ms.is_some();
        for input in &replay.inputs {
            let topic = admin.describe_topic(input.topic.clone()).await?;
            for (at, range) in topic.partitions.iter().zip(&input.partitions) {
                is_part |= range.from > at.known_log()?.log_start_offset;
            }
            inputs.push((topic, input));
        }
        if !is_part {
            return Ok(Self::default());
        }
        let mut window = Self {
            part: (TimestampMs::MAX, TimestampMs::MIN),
            ..Self::default()
        };
        for (topic, input) in &inputs {
            for (at, range) in topic.partitions.iter().zip(&input.partitions) {
                let log = at.known_log()?;
                let whole = (at.partition, log.log_start_offset, log.high_watermark);
                let mut reading = Reading::open(client, &input.topic, Some(whole)).await?;
                while let Some(open) = &mut reading {
                    for (_, record) in open.next().await? {
                        let is_before = record.offset < range.from;
                        let is_behind = record.offset >= range.until;
                        window.note(record.timestamp_ms, is_before, is_behind);
                    }
                    if open.is_done() {
                        reading = None;
                    }
                }
            }
        }
        Ok(window)
    }

    fn note(&mut self, time: TimestampMs, is_before: bool, is_behind: bool) {
        if is_before {
            self.outside.0 = self.outside.0.max(time);
        } else if is_behind {
            self.outside.1 = self.outside.1.min(time);
        } else {
            self.part.0 = self.part.0.min(time);
            self.part.1 = self.part.1.max(time);
        }
    }

    /// Whether an output of this time may have come of the part.
    pub(super) fn may_have(&self, time: TimestampMs) -> bool {
        self.part.0 <= time && time <= self.part.1
    }

    /// Whether it came of the part, and of nothing else.
    pub(super) fn has(&self, time: TimestampMs) -> bool {
        let (before, behind) = self.outside;
        let is_alone = (before == TimestampMs::MIN || before < time)
            && (behind == TimestampMs::MAX || time < behind);
        self.may_have(time) && is_alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_come_of_others_is_not_sure() {
        let mut window = Window {
            part: (TimestampMs::MAX, TimestampMs::MIN),
            ..Window::default()
        };
        for time in [1, 2, 3] {
            window.note(time, true, false);
        }
        for time in [3, 4, 5, 6] {
            window.note(time, false, false);
        }
        for time in [6, 7] {
            window.note(time, false, true);
        }
        let sure: Vec<_> = (0..9).filter(|time| window.has(*time)).collect();
        let possible: Vec<_> = (0..9).filter(|time| window.may_have(*time)).collect();
        assert_eq!((sure, possible), (vec![4, 5], vec![3, 4, 5, 6]));
        let whole = Window::default();
        assert!(whole.has(TimestampMs::MIN) && whole.has(0) && whole.has(TimestampMs::MAX));
    }
}
