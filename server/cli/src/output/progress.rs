//! Progress on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const REDRAWS_PER_SECOND: u8 = 10;

/// A line on standard error that says how far something is; nothing at all when nobody looks.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn visible() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND))
    }

    pub(super) fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// Something whose size is known, in bytes.
    pub(crate) fn bytes(self, total: u64) -> Self {
        self.0.set_length(total);
        self.styled("{bar:32} {bytes}/{total_bytes} {msg}")
    }

    /// Something whose end is not known.
    pub(crate) fn endless(self) -> Self {
        self.0
            .enable_steady_tick(Duration::from_millis(1000 / u64::from(REDRAWS_PER_SECOND)));
        self.styled("{spinner} {msg}")
    }

    fn styled(self, template: &str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self
    }

    pub(crate) fn position(&self, position: u64) {
        self.0.set_position(position);
    }

    pub(crate) fn message(&self, message: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(message());
        }
    }

    /// Says something while the line is out of the way.
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        self.0.suspend(say);
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
