//! `Hello`, the version handshake, and `DescribeBroker`.

use millstream_protocol::api::PROTOCOL_VERSION;
use millstream_protocol::api::hello::{BrokerDescription, Hello, HelloResponse};
use millstream_protocol::limits::{FETCH_STREAMS_PER_CONNECTION, MAX_BATCH_BYTES, MAX_NAME_BYTES};
use millstream_protocol::{ErrorCode, WireError};

use crate::context::Context;
use crate::data_dir::DataDir;
use crate::session::Session;

/// What this broker calls itself.
pub(crate) const SOFTWARE: &str = concat!("millstream/", env!("CARGO_PKG_VERSION"));

pub(crate) fn hello(
    data_dir: &DataDir,
    session: &Session,
    request: Hello,
) -> Result<HelloResponse, WireError> {
    if !(request.version_min..=request.version_max).contains(&PROTOCOL_VERSION) {
        return Err(WireError::new(
            ErrorCode::UnsupportedVersion,
            format!(
                "the client speaks protocol versions {} to {}, this broker speaks {PROTOCOL_VERSION}",
                request.version_min, request.version_max
            ),
        ));
    }
    for (what, name) in [
        ("client name", &request.client_name),
        ("software", &request.software),
    ] {
        if name.len() > MAX_NAME_BYTES {
            return Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "the {what} has {} bytes, more than {MAX_NAME_BYTES}",
                    name.len()
                ),
            ));
        }
    }
    session.open(request.client_name);
    let identity = data_dir.identity();
    Ok(HelloResponse {
        version: PROTOCOL_VERSION,
        cluster_id: identity.cluster_id,
        broker_id: identity.broker_id,
        software: SOFTWARE.to_owned(),
        principal: session.principal().to_owned(),
        max_batch_bytes: MAX_BATCH_BYTES as u32,
        fetch_streams: FETCH_STREAMS_PER_CONNECTION as u32,
    })
}

pub(crate) fn describe(context: &Context) -> BrokerDescription {
    let identity = context.data_dir.identity();
    BrokerDescription {
        cluster_id: identity.cluster_id,
        broker_id: identity.broker_id,
        software: SOFTWARE.to_owned(),
        uptime_ms: context.started.elapsed().as_millis() as u64,
        connections: context.connections.count(),
        topics: context.controller.image().topics().count() as u32,
        partitions: context.partitions.count() as u32,
        workers: context.deployments.worker_count() as u32,
        resident_bytes: resident_bytes().unwrap_or(0),
    }
}

/// Resident memory of this process, where the operating system tells.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
