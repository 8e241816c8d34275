//! Records as messages of `wasi:messaging`, and back.

use std::str;

use crate::bindings::typed::exports::millstream::plugin::record_handler::{
    HeaderResult, InputRecord, OutputRecord,
};

/// The metadata that stands for a record's key.
const KEY: &str = "millstream-key";

/// The header, in any case, that says what a value is.
const CONTENT_TYPE: &str = "content-type";

/// A connection, of which there is nothing to know.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Client;

/// A message that a guest holds.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Message {
    pub(crate) topic: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Vec<u8>,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Message {
    /// The message that a record is.
    pub(crate) fn of(topic: &str, record: &InputRecord<'_>) -> Self {
        let mut message = Self {
            topic: Some(topic.to_owned()),
            content_type: None,
            data: record.value.unwrap_or_default().to_vec(),
            metadata: Vec::new(),
        };
        for header in record.headers {
            let Some(Ok(value)) = header.value.map(str::from_utf8) else {
                continue;
            };
            if header.name.eq_ignore_ascii_case(CONTENT_TYPE) {
                message.content_type = Some(value.to_owned());
            } else {
                message.add(header.name.to_owned(), value.to_owned());
            }
        }
        if let Some(Ok(key)) = record.key.map(str::from_utf8) {
            message.add(KEY.to_owned(), key.to_owned());
        }
        message
    }

    /// The record that a message becomes.
    pub(crate) fn into_record(self, output: u32) -> OutputRecord {
        let mut key = None;
        let mut headers = Vec::with_capacity(self.metadata.len() + 1);
        if let Some(content_type) = self.content_type {
            headers.push(header(CONTENT_TYPE.to_owned(), content_type));
        }
        for (name, value) in self.metadata {
            if name == KEY {
                key = Some(value.into_bytes());
            } else {
                headers.push(header(name, value));
            }
        }
        OutputRecord {
            output,
            timestamp_ms: None,
            key,
            value: Some(self.data),
            headers,
        }
    }

    pub(crate) fn add(&mut self, name: String, value: String) {
        self.remove(&name);
        self.metadata.push((name, value));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.metadata.retain(|(known, _)| known != name);
    }

    /// Roughly the memory behind it, bytes.
    pub(crate) fn bytes(&self) -> usize {
        /// What a name and its value take besides their text.
        const ENTRY_BYTES: usize = 64;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let entries = self.metadata.iter();
        let metadata: usize = entries
            .map(|(name, value)| ENTRY_BYTES + name.len() + value.len())
            .sum();
        ENTRY_BYTES + text(&self.topic) + text(&self.content_type) + self.data.len() + metadata
    }
}

fn header(name: String, value: String) -> HeaderResult {
    HeaderResult {
        name,
        value: Some(value.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::typed::exports::millstream::plugin::record_handler::HeaderParam;

    #[test]
    fn a_record_becomes_a_message_and_a_message_a_record() {
        let header = |name, value| HeaderParam {
            name,
            value: Some(value),
        };
        let headers = [
            header("Content-Type", &b"text/plain"[..]),
            header("trace", b"1"),
            header("trace", b"2"),
            header("binary", b"\xff"),
        ];
        let record = InputRecord {
            offset: 7,
            timestamp_ms: 9,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &headers,
        };
        let message = Message::of("orders", &record);
        assert_eq!(message.topic.as_deref(), Some("orders"));
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(message.metadata, [pair("trace", "2"), pair(KEY, "k")]);

        let back = message.into_record(1);
        assert_eq!((back.output, back.timestamp_ms), (1, None));
        assert_eq!(back.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(back.value.as_deref(), Some(&b"v"[..]));
        let names: Vec<_> = back.headers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, [CONTENT_TYPE, "trace"]);
    }
}
