//! What the client process does with a broker: produce, consume, both, and have plugins work.

pub(super) mod cluster;
pub(super) mod consume;
pub(super) mod latency;
pub(super) mod native;
pub(super) mod plugins;
pub(super) mod produce;
pub(super) mod quakes;
pub(super) mod worker;
