//! What a guest measures, through the boundary of a Rust guest.

use millstream_protocol::api::plugin::LogLevel;
use millstream_runtime::Metric;

use crate::batch;
use crate::virtual_wasi::start;

#[test]
fn what_is_measured_is_listed() {
    let (mut worker, _) = start();
    assert_eq!(worker.metrics(), []);
    worker.handle(&batch(0, &[b"measure", b"measure"])).unwrap();
    worker.handle(&batch(7, &[b"measure"])).unwrap();
    let expect = [
        ("measured".to_owned(), Metric::Counter(6)),
        ("offset".to_owned(), Metric::Gauge(7.0)),
    ];
    assert_eq!(worker.metrics(), expect);
    assert_eq!(worker.metrics_dropped(), 0);
}

#[test]
fn what_a_failed_call_measured_is_listed() {
    let (mut worker, _) = start();
    worker
        .handle(&batch(3, &[b"measure", b"abort"]))
        .unwrap_err();
    let expect = [
        ("measured".to_owned(), Metric::Counter(2)),
        ("offset".to_owned(), Metric::Gauge(3.0)),
    ];
    assert_eq!(worker.metrics(), expect);
}

#[test]
fn what_is_dropped_is_counted_and_told_once() {
    let (mut worker, kept) = start();
    worker
        .handle(&batch(0, &[b"mismeasure", b"measure"]))
        .unwrap();
    assert_eq!(worker.metrics_dropped(), 2);
    assert_eq!(worker.metrics().len(), 2);
    let expect = "metric `no such\\nname` dropped: its name is not of letters, digits and `_`, the first \
                  a letter";
    let line = (LogLevel::Warn, "millstream".to_owned(), expect.to_owned());
    assert_eq!(kept.lines(), [line]);
}
