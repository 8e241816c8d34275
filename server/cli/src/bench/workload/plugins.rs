//! The plugins of the worker's rows: `plugins/quake-alert`, and one that does as little as possible.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quakes::{MIN_MAGNITUDE, strong};

/// What a plugin does with each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::bench) enum Work {
    /// Nothing.
    Drop,
    /// It reads JSON, and emits what is strong: `quake-alert`.
    Json,
    /// It emits it.
    Copy,
    /// It reads a key of its state.
    Get,
    /// It writes a key of its state.
    Put,
    /// It writes to its state what stays there: [`REMEMBERED_BYTES`] for each.
    Remember,
    /// It is never done with it.
    Spin,
}

/// What `remember` keeps of each record, bytes.
pub(in crate::bench) const REMEMBERED_BYTES: u64 = 1024;

impl Work {
    /// The configuration of its deployment.
    pub(in crate::bench) fn config(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Drop => &[("do", "drop")],
            Self::Json => &[("min-mag", MIN_MAGNITUDE)],
            Self::Copy => &[("do", "copy")],
            Self::Get => &[("do", "get")],
            Self::Put => &[("do", "put")],
            Self::Spin => &[("do", "spin")],
            Self::Remember => &[
                ("do", "put"),
                ("keys", "1000000000"),
                ("value-bytes", "1024"),
            ],
        }
    }

    /// What the plugin calls its output.
    pub(in crate::bench) fn output(self) -> &'static str {
        match self {
            Self::Json => "alerts",
            Self::Drop | Self::Copy | Self::Get | Self::Put | Self::Remember | Self::Spin => "out",
        }
    }

    /// How many come out of the first `records` earthquakes.
    pub(in crate::bench) fn outputs(self, records: u64) -> u64 {
        match self {
            Self::Json => strong(records),
            Self::Copy => records,
            Self::Drop | Self::Get | Self::Put | Self::Remember | Self::Spin => 0,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Json => "json",
            Self::Copy => "copy",
            Self::Get => "state/get",
            Self::Put => "state/put",
            Self::Remember => "state/remember",
            Self::Spin => "spin",
        })
    }
}
