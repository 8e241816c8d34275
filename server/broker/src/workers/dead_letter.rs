//! What becomes of a record, or a timer, that cannot be handled: a dead letter, which says where it
//! came from.

use bytes::{Bytes, BytesMut};
use millstream_protocol::api::plugin::TimerClock;
use millstream_protocol::batch::{self, AppendError, BatchBuilder, Compression, Header, Record};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_HEADERS_PER_RECORD, MAX_RECORD_BYTES};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs};
use millstream_worker::{CommitError, ParkedRecord, Timer};

use crate::workers::input::{only_record, parked, set_aside_bytes};
use crate::workers::outlets::Target;

/// What the names of a dead letter's own headers begin with.
const PREFIX: &str = "millstream.dead-letter.";

/// Why a record, or a timer, became a dead letter, and whose.
pub(crate) struct Origin<'a> {
    pub(crate) deployment: &'a str,
    /// The component's digest.
    pub(crate) plugin: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: PartitionIndex,
    /// Of a timer, the first record that had not been handled.
    pub(crate) offset: Offset,
    /// Of a timer, its clock and its time.
    pub(crate) timer: Option<(TimerClock, TimestampMs)>,
    pub(crate) attempts: u32,
    pub(crate) reason: &'a str,
}

impl Origin<'_> {
    /// The headers of the dead letter of `record`: its own, and where it came from. A record that
    /// has no room for them loses its own headers, or its value: it is still where it came from.
    fn letter(&self, record: &Record) -> (Option<Bytes>, Vec<Header>) {
        let mut origin: Vec<Header> = [
            ("deployment", self.deployment.to_owned()),
            ("plugin", self.plugin.to_owned()),
            ("topic", self.topic.to_owned()),
            ("partition", self.partition.to_string()),
            ("offset", self.offset.to_string()),
            ("attempts", self.attempts.to_string()),
            ("reason", self.reason.to_owned()),
        ]
        .into_iter()
        .chain(self.timer.map(|timer| ("timer", timer_text(timer))))
        .map(|(name, value)| Header {
            name: Bytes::from(format!("{PREFIX}{name}")),
            value: Some(value.into()),
        })
        .collect();
        let own = record
            .headers
            .iter()
            .filter(|header| !header.name.starts_with(PREFIX.as_bytes()));
        let mut headers: Vec<Header> = own.cloned().collect();
        let key_bytes = record.key.as_ref().map_or(0, Bytes::len);
        let fits = |headers: &[Header], value: &Option<Bytes>, origin: &[Header]| {
            let bytes: usize = headers.iter().chain(origin).map(header_bytes).sum();
            let value_bytes = value.as_ref().map_or(0, Bytes::len);
            headers.len() + origin.len() <= MAX_HEADERS_PER_RECORD
                && key_bytes + value_bytes + bytes <= MAX_RECORD_BYTES
        };
        let mut value = record.value.clone();
        if !fits(&headers, &value, &origin) {
            headers.clear();
            origin.push(omitted("headers"));
        }
        if !fits(&headers, &value, &origin) {
            value = None;
            origin.push(omitted("value"));
        }
        headers.append(&mut origin);
        (value, headers)
    }
}

/// Dead letters on their way into batches.
pub(crate) struct Letters<'a> {
    target: Option<&'a Target>,
    batches: Vec<BatchBuilder>,
}

impl<'a> Letters<'a> {
    /// None yet, for the one of `targets` that lies beside an input partition.
    pub(crate) fn new(targets: &'a [Target], input_partition: PartitionIndex) -> Self {
        let number = input_partition as usize % targets.len().max(1);
        Self {
            target: targets.get(number),
            batches: Vec::new(),
        }
    }

    /// Adds the letter of a record. Of one that is gone from its topic there is the origin.
    pub(crate) fn add(
        &mut self,
        origin: &Origin<'_>,
        failed: &ParkedRecord,
    ) -> Result<(), CommitError> {
        let record =
            only_record(failed.batch.clone()).map_err(|error| unwritable(error.message))?;
        let (record, value, headers) = match record {
            Some(record) => {
                let (value, headers) = origin.letter(&record);
                (record, value, headers)
            }
            None => {
                let record = Record {
                    key: failed.key.clone(),
                    ..Record::default()
                };
                let (_, mut headers) = origin.letter(&record);
                headers.push(omitted("value"));
                (record, None, headers)
            }
        };
        let letter = Record {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value,
            headers,
        };
        self.append(&letter)
    }

    /// Adds the letter of a timer: its key, at its time.
    pub(crate) fn add_timer(
        &mut self,
        origin: &Origin<'_>,
        timer: &Timer,
    ) -> Result<(), CommitError> {
        let record = Record {
            timestamp_ms: timer.at_ms,
            key: Some(timer.key.clone()),
            ..Record::default()
        };
        let (_, headers) = origin.letter(&record);
        self.append(&Record { headers, ..record })
    }

    fn append(&mut self, letter: &Record) -> Result<(), CommitError> {
        loop {
            if let Some(open) = self.batches.last_mut() {
                let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
                match open.append(letter.timestamp_ms, key, value, &letter.headers) {
                    Ok(_) => return Ok(()),
                    Err(AppendError::Full) if !open.is_empty() => {}
                    Err(error) => return Err(unwritable(error.to_string())),
                }
            }
            let next = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
            self.batches.push(next);
        }
    }

    /// The batches, and where they go.
    pub(crate) fn finish(self) -> impl Iterator<Item = (Target, BatchBuilder)> {
        let target = self.target.cloned();
        self.batches
            .into_iter()
            .filter_map(move |batch| Some((target.clone()?, batch)))
    }
}

/// Where a dead letter came from, and what it was there.
pub(crate) struct Returned {
    pub(crate) topic: String,
    pub(crate) partition: PartitionIndex,
    pub(crate) was: Was,
}

/// What a dead letter was.
pub(crate) enum Was {
    Record(ParkedRecord),
    Timer(Timer),
}

impl Returned {
    /// What it takes to hand it back, bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.was {
            Was::Record(record) => set_aside_bytes(record),
            Was::Timer(timer) => timer.key.len(),
        }
    }

    /// Reads a dead letter of a deployment; `None` when it is none.
    pub(crate) fn read(deployment: &str, letter: &Record) -> Option<Self> {
        let says = |name: &str| {
            let name = format!("{PREFIX}{name}");
            let mut headers = letter.headers.iter();
            let header = headers.find(|header| header.name == name.as_bytes())?;
            str::from_utf8(header.value.as_ref()?).ok()
        };
        if says("deployment")? != deployment {
            return None;
        }
        let offset = says("offset")?.parse().ok()?;
        let (topic, partition) = (says("topic")?.to_owned(), says("partition")?.parse().ok()?);
        if let Some(timer) = says("timer") {
            let (clock, at_ms) = read_timer(timer)?;
            let was = Was::Timer(Timer::new(clock, letter.key.clone()?, at_ms));
            return Some(Self {
                topic,
                partition,
                was,
            });
        }
        let own = letter.headers.iter();
        let own = own.filter(|header| !header.name.starts_with(PREFIX.as_bytes()));
        let headers: Vec<Header> = own.cloned().collect();
        // Without all of it the record is read where it came from.
        let batch = match says("omitted") {
            Some(_) => Bytes::new(),
            None => alone(offset, letter, &headers)?,
        };
        Some(Self {
            topic,
            partition,
            was: Was::Record(parked(offset, letter.key.clone(), batch)),
        })
    }
}

const RECORD_TIME: &str = "record-time";
const WALL_TIME: &str = "wall-time";

/// A timer's clock and time, as the header has them.
fn timer_text((clock, at_ms): (TimerClock, TimestampMs)) -> String {
    let clock = match clock {
        TimerClock::RecordTime => RECORD_TIME,
        TimerClock::WallTime => WALL_TIME,
    };
    format!("{clock} {at_ms}")
}

fn read_timer(text: &str) -> Option<(TimerClock, TimestampMs)> {
    let (clock, at_ms) = text.split_once(' ')?;
    let clock = match clock {
        RECORD_TIME => TimerClock::RecordTime,
        WALL_TIME => TimerClock::WallTime,
        _ => return None,
    };
    Some((clock, at_ms.parse().ok()?))
}

fn unwritable(error: String) -> CommitError {
    CommitError::Unwritable(format!("a dead letter: {error}"))
}

/// A record alone in a batch, at an offset.
fn alone(offset: Offset, record: &Record, headers: &[Header]) -> Option<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    builder
        .append(record.timestamp_ms, key, value, headers)
        .ok()?;
    let mut batch = BytesMut::from(builder.finish(None).ok()?);
    batch::assign(&mut batch, offset, 0).ok()?;
    // It may wait for long: without what the builder has reserved.
    Some(Bytes::copy_from_slice(&batch))
}

fn omitted(what: &'static str) -> Header {
    Header {
        name: Bytes::from(format!("{PREFIX}omitted")),
        value: Some(Bytes::from_static(what.as_bytes())),
    }
}

fn header_bytes(header: &Header) -> usize {
    header.name.len() + header.value.as_ref().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: usize, headers: usize) -> Record {
        let header = Header {
            name: Bytes::from_static(b"own"),
            value: None,
        };
        Record {
            timestamp_ms: 5,
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from(vec![b'v'; value])),
            headers: vec![header; headers],
        }
    }

    const ORIGIN: Origin<'static> = Origin {
        deployment: "alert",
        plugin: "abc",
        topic: "quakes",
        partition: 3,
        offset: 17,
        timer: None,
        attempts: 5,
        reason: "no JSON",
    };

    fn header(headers: &[Header], name: &str) -> Option<String> {
        let name = format!("{PREFIX}{name}");
        let found = headers.iter().find(|it| it.name == name.as_bytes())?;
        String::from_utf8(found.value.clone()?.to_vec()).ok()
    }

    #[test]
    fn a_letter_says_where_it_came_from_and_keeps_what_it_was() {
        let (value, headers) = ORIGIN.letter(&record(9, 2));
        assert_eq!(value.map(|it| it.len()), Some(9));
        assert_eq!(headers.len(), 9);
        assert_eq!(header(&headers, "offset").as_deref(), Some("17"));
        assert_eq!(header(&headers, "reason").as_deref(), Some("no JSON"));
        assert_eq!(header(&headers, "omitted"), None);
    }

    #[test]
    fn what_has_no_room_is_left_out_and_told() {
        let (value, headers) = ORIGIN.letter(&record(9, MAX_HEADERS_PER_RECORD));
        assert!(value.is_some());
        assert_eq!(header(&headers, "omitted").as_deref(), Some("headers"));
        let (value, headers) = ORIGIN.letter(&record(MAX_RECORD_BYTES - 3, 0));
        assert!(value.is_none());
        assert_eq!(header(&headers, "offset").as_deref(), Some("17"));
    }

    #[test]
    fn a_letter_is_read_back_as_the_record_that_it_was() {
        let first = record(9, 2);
        let (value, headers) = ORIGIN.letter(&first);
        let letter = Record {
            value,
            headers,
            ..first.clone()
        };
        let returned = Returned::read("alert", &letter).expect("a dead letter");
        let at = (returned.topic.as_str(), returned.partition);
        let Was::Record(returned) = returned.was else {
            panic!("a timer");
        };
        assert_eq!((at, returned.offset), (("quakes", 3), 17));
        let again = only_record(returned.batch).expect("a batch");
        assert_eq!(again.as_ref(), Some(&first));
        assert!(Returned::read("other", &letter).is_none());
        assert!(Returned::read("alert", &first).is_none());
    }

    #[test]
    fn the_letter_of_a_timer_is_read_back() {
        let clocks = [TimerClock::RecordTime, TimerClock::WallTime];
        for (clock, at_ms) in clocks.into_iter().zip([-5, i64::MAX]) {
            let origin = Origin {
                timer: Some((clock, at_ms)),
                ..ORIGIN
            };
            let record = record(0, 0);
            let (_, headers) = origin.letter(&record);
            let letter = Record { headers, ..record };
            let returned = Returned::read("alert", &letter).expect("a dead letter");
            let Was::Timer(timer) = returned.was else {
                panic!("a record");
            };
            assert_eq!(timer, Timer::new(clock, Bytes::from_static(b"key"), at_ms));
        }
    }

    #[test]
    fn a_letter_of_a_letter_has_one_origin() {
        let first = record(1, 0);
        let (value, headers) = ORIGIN.letter(&first);
        let again = Record {
            value,
            headers,
            ..first
        };
        let (_, headers) = ORIGIN.letter(&again);
        assert_eq!(headers.len(), 7);
    }
}
