//! A worker's log lines: escaped, cut, counted, and handed to a [`LogSink`].

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::api::plugin::LogLevel;

use crate::mask::Masks;

/// One line, after escaping. What is longer is cut.
pub const MAX_LOG_MESSAGE_BYTES: usize = 4 * 1024;

/// Where a line comes from, after escaping. What is longer is cut.
pub const MAX_LOG_CONTEXT_BYTES: usize = 128;

/// How many of its last lines on standard error a trap tells: a panic message has two or three.
const LAST_WORDS_LINES: usize = 4;

/// What is looked at of a message to mask it, bytes. What is shown is much less.
const MAX_MASKED_BYTES: usize = 64 * 1024;

/// The context of lines that come from the host.
pub const HOST_CONTEXT: &str = "millstream";

/// Marks where a line was cut.
const CUT: &str = "…";

const ONE_SECOND: Duration = Duration::from_secs(1);

/// Takes the log lines of one worker. Called on the worker's thread, in order.
pub trait LogSink: Send + Sync {
    /// Takes one line. Must not block: the guest waits.
    fn write(&self, line: LogLine);
}

/// One line, within the limits and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave.
    pub level: LogLevel,
    /// Where it comes from: the guest's word for it, `stdout`, `stderr`, or `millstream`. At most
    /// [`MAX_LOG_CONTEXT_BYTES`].
    pub context: String,
    /// The line. At most [`MAX_LOG_MESSAGE_BYTES`].
    pub message: String,
}

/// A stream of text that the guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Output,
    Error,
}

/// Everything that a worker logs passes here.
pub(crate) struct Logs {
    sink: Arc<dyn LogSink>,
    lines_per_second: u32,
    window: Window,
    dropped: u64,
    output: Vec<u8>,
    error: Vec<u8>,
    last_words: VecDeque<String>,
    masks: Masks,
}

/// The second that is being counted.
struct Window {
    began: Instant,
    lines: u32,
    dropped: u64,
}

impl Logs {
    pub(crate) fn new(sink: Arc<dyn LogSink>, lines_per_second: u32) -> Self {
        let window = Window {
            began: Instant::now(),
            lines: 0,
            dropped: 0,
        };
        let (output, error, last_words) = (Vec::new(), Vec::new(), VecDeque::new());
        Self {
            sink,
            lines_per_second,
            window,
            dropped: 0,
            output,
            error,
            last_words,
            masks: Masks::default(),
        }
    }

    /// Masks this secret in everything that comes from here on.
    pub(crate) fn mask(&mut self, secret: &str) {
        self.masks.add(secret);
    }

    /// What is masked.
    pub(crate) fn masks(&self) -> &Masks {
        &self.masks
    }

    /// A guest's own words as they may be told: masked, escaped and cut.
    pub(crate) fn told(&self, words: &str, limit: usize) -> String {
        // However long it is, no more of it is looked at than could be shown many times over.
        match words.len() {
            ..=MAX_MASKED_BYTES => escape(&self.masks.text(words), limit),
            _ => {
                let begun = &words[..words.floor_char_boundary(MAX_MASKED_BYTES)];
                escape(&self.masks.beginning(begun), limit)
            }
        }
    }

    /// Begins a call: what was said on standard error before it explains nothing any more.
    pub(crate) fn begin_call(&mut self) {
        self.last_words.clear();
    }

    /// Ends a call: what was written without a line end is a line.
    pub(crate) fn end_call(&mut self, now: Instant) {
        self.flush_line(Standard::Output, now);
        self.flush_line(Standard::Error, now);
        self.roll(now);
    }

    /// Lines dropped since the worker started.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last lines on standard error in this call, joined; empty if there were none.
    pub(crate) fn last_words(&self) -> String {
        self.last_words
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Takes one line.
    pub(crate) fn line(&mut self, level: LogLevel, context: &str, message: &str, now: Instant) {
        self.roll(now);
        if self.window.lines >= self.lines_per_second {
            self.window.dropped += 1;
            self.dropped += 1;
            return;
        }
        self.window.lines += 1;
        let context = self.told(context, MAX_LOG_CONTEXT_BYTES);
        let message = self.told(message, MAX_LOG_MESSAGE_BYTES);
        self.sink.write(LogLine {
            level,
            context,
            message,
        });
    }

    /// Takes a piece of a stream, of any length, and makes lines of it.
    pub(crate) fn text(&mut self, stream: Standard, text: &[u8], now: Instant) {
        let mut pieces = text.split(|byte| *byte == b'\n');
        let Some(first) = pieces.next() else { return };
        self.push(stream, first);
        for piece in pieces {
            self.flush_line(stream, now);
            self.push(stream, piece);
        }
    }

    fn buffer(&mut self, stream: Standard) -> &mut Vec<u8> {
        match stream {
            Standard::Output => &mut self.output,
            Standard::Error => &mut self.error,
        }
    }

    /// Keeps a piece of a line, as much as can be shown and one byte more: it shows that it was cut.
    fn push(&mut self, stream: Standard, piece: &[u8]) {
        let buffer = self.buffer(stream);
        let room = (MAX_LOG_MESSAGE_BYTES + 1).saturating_sub(buffer.len());
        buffer.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn flush_line(&mut self, stream: Standard, now: Instant) {
        let bytes = std::mem::take(self.buffer(stream));
        let line = String::from_utf8_lossy(&bytes);
        let line = if bytes.len() > MAX_LOG_MESSAGE_BYTES {
            // It was cut, perhaps within a character or a secret.
            let whole = line.trim_end_matches(char::REPLACEMENT_CHARACTER);
            self.masks.beginning(whole)
        } else {
            line
        };
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        match stream {
            Standard::Output => self.line(LogLevel::Info, "stdout", line, now),
            Standard::Error => {
                if self.last_words.len() == LAST_WORDS_LINES {
                    self.last_words.pop_front();
                }
                let words = self.told(line, MAX_LOG_CONTEXT_BYTES * 2);
                self.last_words.push_back(words);
                self.line(LogLevel::Warn, "stderr", line, now);
            }
        }
    }

    /// Begins a new second if the last one is over, and tells what was dropped in it.
    fn roll(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window.began) < ONE_SECOND {
            return;
        }
        self.tell_dropped();
        self.window = Window {
            began: now,
            lines: 0,
            dropped: 0,
        };
    }

    fn tell_dropped(&mut self) {
        if self.window.dropped == 0 {
            return;
        }
        let message = format!(
            "{} lines dropped: more than {} in a second",
            self.window.dropped, self.lines_per_second
        );
        self.window.dropped = 0;
        self.sink.write(LogLine {
            level: LogLevel::Warn,
            context: HOST_CONTEXT.into(),
            message,
        });
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.tell_dropped();
    }
}

/// Escapes what could disturb a terminal or a reader, and cuts what is longer than `limit` bytes.
pub(crate) fn escape(text: &str, limit: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let before = escaped.len();
        if disturbs(character) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
        if escaped.len() > limit {
            escaped.truncate(before);
            while escaped.len() + CUT.len() > limit {
                escaped.pop();
            }
            escaped.push_str(CUT);
            break;
        }
    }
    escaped
}

/// Control characters, line separators, and what turns the direction of text around.
pub fn disturbs(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<LogLine>>);

    impl LogSink for Kept {
        fn write(&self, line: LogLine) {
            self.0.lock().unwrap().push(line);
        }
    }

    impl Kept {
        fn messages(&self) -> Vec<String> {
            self.0
                .lock()
                .unwrap()
                .iter()
                .map(|line| line.message.clone())
                .collect()
        }
    }

    fn logs(lines_per_second: u32) -> (Arc<Kept>, Logs, Instant) {
        let kept = Arc::new(Kept::default());
        let logs = Logs::new(kept.clone(), lines_per_second);
        let began = logs.window.began;
        (kept, logs, began)
    }

    #[test]
    fn a_flood_is_dropped_and_told_in_the_next_second() {
        let (kept, mut logs, began) = logs(2);
        for number in 0..10 {
            logs.line(LogLevel::Info, "loop", &number.to_string(), began);
        }
        assert_eq!(kept.messages(), ["0", "1"]);
        assert_eq!(logs.dropped(), 8);
        logs.line(LogLevel::Info, "loop", "later", began + ONE_SECOND);
        assert_eq!(
            kept.messages(),
            [
                "0",
                "1",
                "8 lines dropped: more than 2 in a second",
                "later"
            ]
        );
    }

    #[test]
    fn what_was_dropped_is_told_when_the_worker_ends() {
        let (kept, mut logs, began) = logs(0);
        logs.line(LogLevel::Info, "loop", "never", began);
        drop(logs);
        assert_eq!(
            kept.messages(),
            ["1 lines dropped: more than 0 in a second"]
        );
    }

    #[test]
    fn text_becomes_lines() {
        let (kept, mut logs, began) = logs(100);
        logs.text(Standard::Output, b"one\ntw", began);
        logs.text(Standard::Error, b"\nthread panicked\r\n", began);
        logs.text(Standard::Output, b"o\nthree", began);
        assert_eq!(kept.messages(), ["one", "thread panicked", "two"]);
        logs.end_call(began);
        assert_eq!(kept.messages().last().map(String::as_str), Some("three"));
        assert_eq!(logs.last_words(), "thread panicked");
        logs.begin_call();
        assert_eq!(logs.last_words(), "");
    }

    #[test]
    fn a_long_line_is_cut() {
        let (kept, mut logs, began) = logs(100);
        for _ in 0..10 {
            logs.text(Standard::Output, &[b'x'; 1024], began);
        }
        assert!(logs.output.len() <= MAX_LOG_MESSAGE_BYTES + 1);
        logs.text(Standard::Output, b"\n", began);
        let message = kept.messages().remove(0);
        assert_eq!(message.len(), MAX_LOG_MESSAGE_BYTES);
        assert!(message.ends_with(CUT));
    }

    #[test]
    fn secrets_are_masked_before_a_line_is_cut() {
        let (kept, mut logs, began) = logs(100);
        logs.mask("hunter2");
        logs.line(LogLevel::Info, "hunter2", "it is hunter2", began);
        logs.text(Standard::Error, b"key hun", began);
        logs.text(Standard::Error, b"ter2\n", began);
        let long = "x".repeat(MAX_LOG_MESSAGE_BYTES - 3) + "hunter2";
        logs.line(LogLevel::Info, "loop", &long, began);
        let messages = kept.messages();
        assert_eq!(messages[..2], ["it is ***", "key ***"]);
        assert!(messages[2].ends_with("***"), "no part of it is left over");
        assert_eq!(kept.0.lock().unwrap()[0].context, "***");
        assert_eq!(logs.last_words(), "key ***");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_line_was_cut() {
        let (kept, mut logs, began) = logs(100);
        let secret = "s3cr3t-".repeat(1_000);
        logs.mask(&secret);
        let line = |before: usize| "x".repeat(before) + &secret + "\n";
        for before in [0, 1, MAX_LOG_MESSAGE_BYTES - 2, MAX_LOG_MESSAGE_BYTES] {
            logs.text(Standard::Error, line(before).as_bytes(), began);
        }
        logs.line(LogLevel::Info, "", &line(MAX_MASKED_BYTES - 5), began);
        logs.text(
            Standard::Output,
            "é".repeat(MAX_LOG_MESSAGE_BYTES).as_bytes(),
            began,
        );
        logs.end_call(began);
        let messages = kept.messages();
        assert_eq!(
            messages.len(),
            5,
            "the line that was all secret says nothing"
        );
        assert!(messages.iter().all(|it| !it.contains("s3")), "{messages:?}");
        assert!(!logs.last_words().contains("s3"));
        assert!(messages[4].ends_with('é'), "no character is cut");
    }

    #[test]
    fn what_disturbs_is_escaped() {
        assert_eq!(
            escape("a\nb\x1b[2J\u{202e}é", 100),
            "a\\nb\\u{1b}[2J\\u{202e}é"
        );
        assert_eq!(escape("abcdef", 6), "abcdef");
        assert_eq!(escape("abcdefg", 6), "abc…");
        assert_eq!(escape("\u{1b}\u{1b}", 6), "\\u{…");
    }
}
