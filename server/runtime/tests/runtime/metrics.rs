//! What a guest measures, through the boundary of a Rust guest.

use std::sync::Arc;

use millstream_protocol::api::plugin::LogLevel;
use millstream_runtime::{GuestMetrics, Instance, Metric};

use crate::virtual_wasi::PROBE;
use crate::{Kept, batch, setup};

fn start() -> (Instance, Arc<GuestMetrics>, Arc<Kept>) {
    let (setup, kept) = setup();
    let metrics = Arc::clone(&setup.metrics);
    (PROBE.start(setup).unwrap(), metrics, kept)
}

#[test]
fn what_is_measured_is_listed() {
    let (mut worker, metrics, _) = start();
    assert_eq!(metrics.list(), []);
    worker.handle(&batch(0, &[b"measure", b"measure"])).unwrap();
    worker.handle(&batch(7, &[b"measure"])).unwrap();
    let expect = [
        ("measured".to_owned(), Metric::Counter(6)),
        ("offset".to_owned(), Metric::Gauge(7.0)),
    ];
    assert_eq!(metrics.list(), expect);
    assert_eq!(metrics.dropped(), 0);
}

#[test]
fn what_a_failed_call_measured_is_listed() {
    let (mut worker, metrics, _) = start();
    worker
        .handle(&batch(3, &[b"measure", b"abort"]))
        .unwrap_err();
    let expect = [
        ("measured".to_owned(), Metric::Counter(2)),
        ("offset".to_owned(), Metric::Gauge(3.0)),
    ];
    assert_eq!(metrics.list(), expect);
}

#[test]
fn a_worker_measures_on_with_its_next_instance() {
    let (setup, _) = setup();
    for offset in [0, 1] {
        let mut worker = PROBE.start(setup.clone()).unwrap();
        worker.handle(&batch(offset, &[b"measure"])).unwrap();
        worker.handle(&batch(offset, &[b"abort"])).unwrap_err();
    }
    let expect = [
        ("measured".to_owned(), Metric::Counter(4)),
        ("offset".to_owned(), Metric::Gauge(1.0)),
    ];
    assert_eq!(setup.metrics.list(), expect);
}

#[test]
fn what_is_dropped_is_counted_and_told_once() {
    let (mut worker, metrics, kept) = start();
    worker
        .handle(&batch(0, &[b"mismeasure", b"measure"]))
        .unwrap();
    assert_eq!(metrics.dropped(), 2);
    assert_eq!(metrics.list().len(), 2);
    let expect = "metric `no such\\nname` dropped: its name is not of letters, digits and `_`, the first \
                  a letter";
    let line = (LogLevel::Warn, "millstream".to_owned(), expect.to_owned());
    assert_eq!(kept.lines(), [line]);
}
