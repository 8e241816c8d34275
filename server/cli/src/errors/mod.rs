//! How the program fails: what it prints, what it advises and the code it ends with.
//!
//! Errors travel as [`anyhow::Error`] and are printed in one place, [`report`]. What a person can do
//! about an error is decided by its class ([`explain`]); a command that knows better says so with a
//! [`Problem`].

mod exit;
mod explain;
mod report;

use std::borrow::Cow;

pub(crate) use exit::{EXIT_CODES, Exit};
pub(crate) use explain::LOOK_AT_INIT;
pub(crate) use report::{report, report_usage};

/// An error of the program's own, with its exit code and what to try next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    exit: Exit,
    message: String,
    advice: Option<Cow<'static, str>>,
}

impl Problem {
    /// The code that the program ends with.
    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What to try next.
    #[cfg(test)]
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// `message` is a lower-case fragment that names the thing.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: None,
        }
    }

    /// What was typed makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Says where it is, before what it is.
    pub(crate) fn within(mut self, place: impl std::fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Adds what to try next.
    pub(crate) fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
