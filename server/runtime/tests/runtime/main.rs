//! The runtime against whole components: written by hand to misbehave, and built from Rust.

// What prepares a test fails it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod built;
mod handwritten;
mod http;
#[allow(dead_code, unreachable_pub, reason = "the end-to-end tests have it")]
#[path = "../../../../tests/e2e/src/http_server.rs"]
mod http_server;
mod limits;
mod messaging;
mod metrics;
mod quake_alert;
mod records;
mod refused;
mod secrets;
mod state;
mod timers;
mod virtual_wasi;

use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use millstream_protocol::api::plugin::{LogLevel, WorkerLimits};
use millstream_protocol::batch::{BatchBuilder, Compression, Header, assign};
use millstream_runtime::{
    EmptyState, Handled, Instance, LogLine, LogSink, Outcomes, OwnThread, Plugin, Runtime,
    RuntimeConfig, WorkerGrants, WorkerSetup,
};

/// One engine for all tests: it is meant to be shared.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(RuntimeConfig::default()).unwrap());

/// A broker hands these from thread to thread.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Runtime>();
    is_shared::<Plugin>();
    is_shared::<Outcomes>();
    is_shared::<Handled>();
    is_send::<Instance>();
};

/// Keeps log lines.
#[derive(Default)]
struct Kept(Mutex<Vec<LogLine>>);

impl LogSink for Kept {
    fn write(&self, line: LogLine) {
        self.0.lock().unwrap().push(line);
    }
}

impl Kept {
    /// Level, context and message of each line.
    fn lines(&self) -> Vec<(LogLevel, String, String)> {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .map(|line| (line.level, line.context.clone(), line.message.clone()))
            .collect()
    }
}

/// The setup of a worker with one output, `found`, and where its log lines are kept.
fn setup() -> (WorkerSetup, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let setup = WorkerSetup {
        deployment: "probe-1".into(),
        topic: "commands".into(),
        partition: 7,
        outputs: vec!["found".into()],
        config: vec![("color".into(), "blue".into())],
        limits: WorkerLimits::default(),
        logs: kept.clone(),
        grants: WorkerGrants::default(),
        state: Arc::new(EmptyState),
        metrics: Arc::default(),
        tables: Vec::new(),
        waits: Arc::new(OwnThread),
    };
    (setup, kept)
}

/// When the records of [`batch`] were made, milliseconds since the Unix epoch.
const BATCH_TIME_MS: i64 = 1_517_363_399_650;

/// A batch of records that have these values, and a header, at an offset.
fn batch(base_offset: u64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, 8 << 20);
    let header = Header {
        name: Bytes::from_static(b"h"),
        value: Some(Bytes::from_static(b"v")),
    };
    for value in values {
        builder
            .append(
                BATCH_TIME_MS,
                Some(b"key"),
                Some(value),
                std::slice::from_ref(&header),
            )
            .unwrap();
    }
    let mut batch = builder.finish(None).unwrap().to_vec();
    assign(&mut batch, base_offset, 1).unwrap();
    batch
}
