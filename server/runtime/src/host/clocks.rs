//! `wasi:clocks`: both stand still at the record's time, unless real ones are granted. Sleeping returns
//! at once, under either.

use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::TimestampMs;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{self, Duration, Instant};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{self, Datetime};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::HostState;

const MS_PER_SECOND: u64 = 1_000;
const NS_PER_MS: u64 = 1_000_000;

/// Both clocks tell milliseconds.
const RESOLUTION: Datetime = Datetime {
    seconds: 0,
    nanoseconds: NS_PER_MS as u32,
};

/// WASI's clocks begin at 1970; what is earlier is told as that.
fn since_epoch_ms(time_ms: TimestampMs) -> u64 {
    u64::try_from(time_ms).unwrap_or(0)
}

impl wall_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        self.quota.count()?;
        if self.grants.grants.real_clocks {
            // A clock that is set before 1970 tells 1970.
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default();
            return Ok(Datetime {
                seconds: now.as_secs(),
                nanoseconds: now.subsec_nanos(),
            });
        }
        let ms = since_epoch_ms(self.time_ms);
        let nanoseconds = (ms % MS_PER_SECOND * NS_PER_MS) as u32;
        Ok(Datetime {
            seconds: ms / MS_PER_SECOND,
            nanoseconds,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        self.quota.count()?;
        Ok(RESOLUTION)
    }
}

impl monotonic_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        self.quota.count()?;
        if self.grants.grants.real_clocks {
            let elapsed = self.started.elapsed().as_nanos();
            return Ok(u64::try_from(elapsed).unwrap_or(u64::MAX));
        }
        Ok(since_epoch_ms(self.time_ms).saturating_mul(NS_PER_MS))
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        self.quota.count()?;
        Ok(NS_PER_MS)
    }

    fn subscribe_instant(&mut self, _when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.quota.count()?;
        self.ready_at_once()
    }

    fn subscribe_duration(&mut self, _when: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        self.quota.count()?;
        self.ready_at_once()
    }
}

impl HostState {
    /// A guest that waits holds its thread, where its deadline cannot stop it: none waits.
    fn ready_at_once(&mut self) -> wasmtime::Result<Resource<DynPollable>> {
        let ready = self.table.push(Ready)?;
        subscribe(&mut self.table, ready)
    }
}

/// What is always ready.
struct Ready;

#[async_trait]
impl Pollable for Ready {
    async fn ready(&mut self) {}
}
