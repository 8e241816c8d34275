//! What is read of an earthquake.

use std::borrow::Cow;

use millstream_plugin::{Failure, Record};
use serde::Deserialize;

use crate::windows::MAX_NET_BYTES;

/// An event. Its time is that of its record.
#[derive(Deserialize)]
pub(crate) struct Event<'a> {
    /// The seismic network that reported it.
    #[serde(borrow)]
    pub(crate) net: Cow<'a, str>,
    /// The magnitude, where there is one.
    pub(crate) mag: Option<f64>,
}

impl<'a> Event<'a> {
    /// Reads the value of a record.
    ///
    /// # Errors
    ///
    /// It is no such event, and is to be rejected.
    pub(crate) fn read(record: &Record<'a>) -> Result<Self, Failure> {
        let value = record
            .value()
            .ok_or_else(|| Failure::reject("the record has no value"))?;
        let event: Self = serde_json::from_slice(value)?;
        if event.net.len() > MAX_NET_BYTES {
            let len = event.net.len();
            return Err(Failure::reject(format_args!(
                "`net` has {len} bytes, more than {MAX_NET_BYTES}"
            )));
        }
        Ok(event)
    }
}
