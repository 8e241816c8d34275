//! The guest's log lines, on standard error.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_protocol::Offset;
use millstream_runtime::{LogLine, LogSink};

use crate::output::{Output, plain};
use crate::plugin::logs::level;

/// What the guest is being called with: a line that it logs belongs there.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<At>);

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Init,
    Records {
        first: Offset,
        last: Offset,
    },
}

impl Place {
    /// It is being started.
    pub(super) fn init(&self) {
        self.set(At::Init);
    }

    /// It is being called with these records.
    pub(super) fn records(&self, first: Offset, last: Offset) {
        self.set(At::Records { first, last });
    }

    fn set(&self, at: At) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn name(&self) -> String {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            At::Init => "init".to_owned(),
            At::Records { first, last } => offsets(first, last),
        }
    }
}

/// `offset 7`, `offsets 0 to 999`.
pub(super) fn offsets(first: Offset, last: Offset) -> String {
    if first == last {
        format!("offset {first}")
    } else {
        format!("offsets {first} to {last}")
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
        place.name()
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
        place.records(7, 7);
        assert_eq!(
            text(&line("q"), &place),
            "log warn q: no magnitude (offset 7)"
        );
        place.records(0, 999);
        assert_eq!(
            text(&line("q"), &place),
            "log warn q: no magnitude (offsets 0 to 999)"
        );
    }
}
