//! What is logged of records that failed: a topic full of them must not drive everything else out of the log.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::Offset;
use millstream_protocol::api::plugin::LogLevel;
use parking_lot::Mutex;

use crate::partition::Partition;
use crate::workers::deployment::Shared;

/// Lines of one worker in a span that are written one by one. The rest of the span is one line.
const LINES_PER_SPAN: u32 = 5;

/// What is summed up together.
const SPAN: Duration = Duration::from_secs(1);

/// A record, or a timer, that failed, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// Of a timer, the first record that had not been handled.
    pub(crate) offset: Offset,
    /// All of it, as it is logged.
    pub(crate) line: String,
}

/// One worker's log of those that the same became of.
#[derive(Debug)]
pub(crate) struct FailureLog {
    /// What became of them, in words.
    became: &'static str,
    span: Mutex<Option<Span>>,
}

/// What came in a span.
#[derive(Debug, Default)]
struct Span {
    written: u32,
    more: u64,
    first: Offset,
    last: String,
}

impl Span {
    /// The line to be written for it, unless it is only counted.
    fn take(&mut self, failed: Failed) -> Option<String> {
        if self.written < LINES_PER_SPAN {
            self.written += 1;
            return Some(failed.line);
        }
        if self.more == 0 {
            self.first = failed.offset;
        }
        self.more += 1;
        self.last = failed.line;
        None
    }

    /// The one line of those that were only counted.
    fn sum(self, became: &str) -> Option<String> {
        let Self {
            more, first, last, ..
        } = self;
        let records = if more == 1 { "record" } else { "records" };
        (more > 0).then(|| {
            format!("{more} more {records} {became} within a second, from offset {first} on; the last: {last}")
        })
    }
}

impl FailureLog {
    pub(crate) fn new(became: &'static str) -> Arc<Self> {
        let span = Mutex::new(None);
        Arc::new(Self { became, span })
    }

    /// Logs one, or counts it for the line at the end of the second.
    pub(crate) fn tell(self: &Arc<Self>, shared: &Arc<Shared>, input: &Partition, failed: Failed) {
        let mut span = self.span.lock();
        if span.is_none() {
            let (log, shared, input) = (Arc::clone(self), Arc::clone(shared), input.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SPAN).await;
                let over = log.span.lock().take();
                if let Some(line) = over.and_then(|span| span.sum(log.became)) {
                    shared.log(&input, LogLevel::Warn, line);
                }
            });
        }
        let line = span.get_or_insert_default().take(failed);
        drop(span);
        if let Some(line) = line {
            shared.log(input, LogLevel::Warn, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_told_one_by_one_and_the_rest_at_once() {
        let mut span = Span::default();
        let failed = |offset| Failed {
            offset,
            line: format!("offset {offset}: skipped"),
        };
        let lines: Vec<_> = (10..1_010).filter_map(|it| span.take(failed(it))).collect();
        assert_eq!(lines.len(), LINES_PER_SPAN as usize);
        assert_eq!(lines[0], "offset 10: skipped");
        assert_eq!(
            span.sum("given up").as_deref(),
            Some(
                "995 more records given up within a second, from offset 15 on; the last: offset 1009: skipped"
            )
        );
        let mut quiet = Span::default();
        quiet.take(failed(1));
        assert_eq!(quiet.sum("given up"), None);
    }
}
