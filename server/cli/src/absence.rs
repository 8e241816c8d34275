//! A broker that is away while a command goes on.

use millstream::Client;

use crate::output::Output;

/// Tells once that the broker is away, and once that it is back.
pub(crate) struct Absence {
    output: Output,
    is_told: bool,
}

impl Absence {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            is_told: false,
        }
    }

    /// Whether the last that was told is that it is away.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    pub(crate) fn begins(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.output
                .say("the broker is away: waiting for it (Ctrl-C ends this)");
        }
    }

    pub(crate) fn ends(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.output.say("the broker is back: going on");
        }
    }

    /// Looks at the connection that the command lives on.
    pub(crate) fn look(&mut self, client: &Client) {
        match client.is_connected() {
            true => self.ends(),
            false => self.begins(),
        }
    }
}
