//! The guest's log lines, on standard error.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_protocol::{Offset, TimestampMs};
use millstream_runtime::{LogLine, LogSink};

use crate::output::{Output, plain};
use crate::plugin::logs::level;

/// What the guest is being called with: a line that it logs belongs there.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<At>);

/// Where in its work the guest is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum At {
    /// It is being started.
    #[default]
    Init,
    /// It is being called with records of these offsets.
    Records { first: Offset, last: Offset },
    /// It is being called with timers that were set for these times.
    Timers {
        first_ms: TimestampMs,
        last_ms: TimestampMs,
    },
}

impl Place {
    pub(super) fn set(&self, at: At) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn get(&self) -> At {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `offset 7`, `offsets 0 to 999`, `the timers of 5 to 9`.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Init => f.write_str("init"),
            Self::Records { first, last } if first == last => write!(f, "offset {first}"),
            Self::Records { first, last } => write!(f, "offsets {first} to {last}"),
            Self::Timers { first_ms, last_ms } if first_ms == last_ms => {
                write!(f, "the timers of {first_ms}")
            }
            Self::Timers { first_ms, last_ms } => {
                write!(f, "the timers of {first_ms} to {last_ms}")
            }
        }
    }
}

/// Writes log lines as they come.
pub(super) struct LogPrinter {
    pub(super) output: Output,
    pub(super) place: Arc<Place>,
}

impl LogSink for LogPrinter {
    fn write(&self, line: LogLine) {
        self.output.say(text(&line, &self.place));
    }
}

fn text(line: &LogLine, place: &Place) -> String {
    let context = if line.context.is_empty() {
        String::new()
    } else {
        format!("{}: ", plain(&line.context))
    };
    format!(
        "log {} {context}{} ({})",
        level(line.level),
        plain(&line.message),
        place.get()
    )
}

#[cfg(test)]
mod tests {
    use millstream::LogLevel;

    use super::*;

    #[test]
    fn a_line_says_where_it_belongs() {
        let line = |context: &str| LogLine {
            level: LogLevel::Warn,
            context: context.to_owned(),
            message: "no magnitude".to_owned(),
        };
        let place = Place::default();
        assert_eq!(text(&line(""), &place), "log warn no magnitude (init)");
        place.set(At::Records { first: 7, last: 7 });
        assert_eq!(
            text(&line("q"), &place),
            "log warn q: no magnitude (offset 7)"
        );
        place.set(At::Records {
            first: 0,
            last: 999,
        });
        assert_eq!(
            text(&line("q"), &place),
            "log warn q: no magnitude (offsets 0 to 999)"
        );
        place.set(At::Timers {
            first_ms: 5,
            last_ms: 9,
        });
        assert_eq!(
            text(&line(""), &place),
            "log warn no magnitude (the timers of 5 to 9)"
        );
    }
}
