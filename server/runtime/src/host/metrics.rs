//! `millstream:plugin/metrics`: what the guest measures goes into the worker's table.

use std::time::Instant;

use millstream_protocol::api::plugin::LogLevel;

use super::HostState;
use crate::bindings::millstream::plugin::metrics;
use crate::logs::HOST_CONTEXT;
use crate::metrics::Dropped;

impl HostState {
    /// Tells of the first measurement that is dropped: it is the author's mistake, and the rest are
    /// counted.
    fn tell_dropped(&mut self, name: &str, measured: Result<(), Dropped>) {
        if let Err(why) = measured
            && self.metrics.dropped() == 1
        {
            let message = format!("metric `{name}` dropped: {why}");
            self.logs()
                .line(LogLevel::Warn, HOST_CONTEXT, &message, Instant::now());
        }
    }
}

impl metrics::Host for HostState {
    fn counter_add(&mut self, name: String, delta: u64) -> wasmtime::Result<()> {
        self.quota.count()?;
        let added = self.metrics.lock().counter_add(&name, delta);
        self.tell_dropped(&name, added);
        Ok(())
    }

    fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.quota.count()?;
        let set = self.metrics.lock().gauge_set(&name, value);
        self.tell_dropped(&name, set);
        Ok(())
    }
}
