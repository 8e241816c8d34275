//! A record to produce.

use bytes::Bytes;
use millstream_protocol::batch::Header;
use millstream_protocol::{PartitionIndex, TimestampMs};

/// Bytes to send: borrowed, or owned in whatever shape the application has them.
///
/// A record is encoded into its batch before `send` returns, so borrowing is enough.
#[derive(Clone, Debug)]
pub struct Payload<'a>(Repr<'a>);

#[derive(Clone, Debug)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Owned(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self(Repr::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        Self(Repr::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Owned(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Repr::Owned(bytes.into()))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self(Repr::Owned(text.into()))
    }
}

/// A record to produce: a value and, if wanted, a key, headers, a timestamp and a partition.
///
/// ```
/// use millstream::ProduceRecord;
///
/// let order = ProduceRecord::new(r#"{"total": 12}"#).key("customer-7").header("trace", "4bf92f");
/// let closed = ProduceRecord::tombstone("customer-7");
/// assert!(order.value().is_some() && closed.value().is_none());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a record does nothing until it is sent"]
pub struct ProduceRecord<'a> {
    key: Option<Payload<'a>>,
    value: Option<Payload<'a>>,
    headers: Vec<Header>,
    timestamp_ms: Option<TimestampMs>,
    partition: Option<PartitionIndex>,
}

impl<'a> ProduceRecord<'a> {
    /// A record with this value and no key.
    pub fn new(value: impl Into<Payload<'a>>) -> Self {
        Self {
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp_ms: None,
            partition: None,
        }
    }

    /// A record with this key and no value. In a compacted topic it deletes the key.
    pub fn tombstone(key: impl Into<Payload<'a>>) -> Self {
        Self {
            key: Some(key.into()),
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
            partition: None,
        }
    }

    /// The key: it decides the partition, and what compaction keeps the last record of.
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header. Names may repeat; their order is kept.
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: Some(value.into()),
        });
        self
    }

    /// Adds these headers behind those already there.
    pub fn headers(mut self, headers: impl IntoIterator<Item = Header>) -> Self {
        self.headers.extend(headers);
        self
    }

    /// When the record was made, milliseconds since the Unix epoch. Unless given: when it is sent.
    pub fn timestamp_ms(mut self, timestamp_ms: TimestampMs) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Sends the record to this partition, whatever the partitioner says.
    pub fn partition(mut self, partition: PartitionIndex) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The key's bytes.
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.key.as_ref().map(Payload::as_bytes)
    }

    /// The value's bytes; `None` for a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(Payload::as_bytes)
    }

    /// When the record was made, milliseconds since the Unix epoch, if that was given.
    pub fn explicit_timestamp_ms(&self) -> Option<TimestampMs> {
        self.timestamp_ms
    }

    pub(super) fn header_list(&self) -> &[Header] {
        &self.headers
    }

    pub(super) fn explicit_partition(&self) -> Option<PartitionIndex> {
        self.partition
    }

    /// Bytes the record takes at most in a batch.
    pub(super) fn encoded_bytes_bound(&self) -> usize {
        // Length, attributes, both deltas, the lengths of key and value, the count of headers.
        const FIXED: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        // The lengths of a header's name and value.
        const PER_HEADER: usize = 5 + 5;
        let headers: usize = self
            .headers
            .iter()
            .map(|header| {
                PER_HEADER + header.name.len() + header.value.as_ref().map_or(0, Bytes::len)
            })
            .sum();
        FIXED
            + self.key_bytes().map_or(0, <[u8]>::len)
            + self.value().map_or(0, <[u8]>::len)
            + headers
    }
}
