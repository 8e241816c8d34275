//! Guests that go too far: each is stopped, says why, and is spent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use millstream_protocol::api::plugin::{LogLevel, WorkerLimits};
use millstream_runtime::{
    BadOutput, BadOutputPlace, CallError, GivenUp, Instance, MAX_HOST_CALLS, StartError, Waits,
    WorkerSetup, thread_cpu_time,
};

use crate::handwritten::{EMPTY, Guest};
use crate::{RUNTIME, batch, setup};

fn start(guest: &Guest<'_>, setup: WorkerSetup) -> Result<Instance, StartError> {
    RUNTIME.compile(&guest.component()).unwrap().start(setup)
}

/// Has a guest handle two records and fail. It must be spent then.
fn fail(handle: &str, data: &str, limits: WorkerLimits) -> CallError {
    let (mut setup, _) = setup();
    setup.limits = limits;
    let mut worker = start(
        &Guest {
            handle,
            data,
            ..Guest::default()
        },
        setup,
    )
    .unwrap();
    let batch = batch(0, &[b"a", b"b"]);
    let error = worker.handle(&batch).unwrap_err();
    assert_eq!(worker.handle(&batch).unwrap_err(), CallError::Spent);
    error
}

const ENDLESS: &str = "(loop $again (br $again)) (unreachable)";

#[test]
fn an_endless_call_is_stopped() {
    let limits = WorkerLimits {
        deadline_ms: 30,
        ..WorkerLimits::default()
    };
    let error = fail(ENDLESS, "", limits);
    assert_eq!(error, CallError::DeadlineExceeded { deadline_ms: 30 });
    assert_eq!(error.to_string(), "deadline of 30 ms exceeded");
}

/// Has a guest stand back, until a neighbour has had its time, whenever it computes on.
#[derive(Default)]
struct StandsBack {
    told: AtomicU32,
    gives_up_after: Option<u32>,
}

impl StandsBack {
    const FOR: Duration = Duration::from_millis(60);
}

impl Waits for StandsBack {
    fn began(&self) {}

    fn ended(&self) -> Result<(), GivenUp> {
        Ok(())
    }

    fn computed(&self) -> Result<(), GivenUp> {
        let told = self.told.fetch_add(1, Ordering::Relaxed);
        if self.gives_up_after == Some(told) {
            return Err(GivenUp);
        }
        let neighbour = thread::spawn(|| {
            let before = thread_cpu_time();
            while thread_cpu_time() - before < Self::FOR {
                std::hint::spin_loop();
            }
        });
        neighbour.join().unwrap();
        Ok(())
    }

    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// What a call without end comes to, and how often it stood back.
fn stood_back(deadline_ms: u32, gives_up_after: Option<u32>) -> (CallError, u32) {
    let (mut setup, _) = setup();
    setup.limits.deadline_ms = deadline_ms;
    let stands_back = Arc::new(StandsBack {
        gives_up_after,
        ..StandsBack::default()
    });
    setup.waits = Arc::clone(&stands_back) as Arc<dyn Waits>;
    let guest = Guest {
        handle: ENDLESS,
        ..Guest::default()
    };
    let mut worker = start(&guest, setup).unwrap();
    let error = worker.handle(&batch(0, &[b"a"])).unwrap_err();
    (error, stands_back.told.load(Ordering::Relaxed))
}

#[test]
fn one_that_computes_on_lets_others_go_first_and_its_deadline_is_not_nearer_for_it() {
    let (error, told) = stood_back(100, None);
    assert_eq!(error, CallError::DeadlineExceeded { deadline_ms: 100 });
    assert!(told >= 3, "each time, thirty milliseconds or less: {told}");
}

#[test]
fn one_that_nobody_waits_for_any_more_is_interrupted() {
    assert_eq!(stood_back(60_000, Some(1)), (CallError::Interrupted, 2));
}

#[test]
fn an_endless_init_is_stopped() {
    let (mut setup, _) = setup();
    setup.limits.deadline_ms = 30;
    let error = start(
        &Guest {
            init: ENDLESS,
            ..Guest::default()
        },
        setup,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "init failed: deadline of 30 ms exceeded");
}

#[test]
fn a_guest_that_takes_all_memory_is_stopped() {
    let bomb = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let limits = WorkerLimits {
        memory_bytes: 4 << 20,
        ..WorkerLimits::default()
    };
    assert_eq!(
        fail(bomb, "", limits),
        CallError::MemoryLimit {
            limit_bytes: 4 << 20
        }
    );
}

#[test]
fn a_guest_that_begins_above_the_limit_does_not_start() {
    let (mut setup, _) = setup();
    setup.limits.memory_bytes = 64 << 10;
    let error = start(&Guest::default(), setup).unwrap_err();
    assert_eq!(
        error,
        StartError::Failed(CallError::MemoryLimit {
            limit_bytes: 64 << 10
        })
    );
}

#[test]
fn a_guest_that_copes_with_less_memory_goes_on() {
    let (mut setup, _) = setup();
    setup.limits.memory_bytes = 1 << 20;
    let grow =
        format!("(drop (memory.grow (i32.const 1000))) (drop (memory.grow (i32.const 1))) {EMPTY}");
    let mut worker = start(
        &Guest {
            handle: &grow,
            ..Guest::default()
        },
        setup,
    )
    .unwrap();
    assert_eq!(worker.memory_bytes(), 2 << 16);
    worker.handle(&batch(0, &[b"a"])).unwrap();
    assert_eq!(worker.memory_bytes(), 3 << 16);
}

#[test]
fn a_guest_that_only_calls_the_host_is_stopped() {
    let flood = "(loop $again \
        (call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) \
        (br $again)) (unreachable)";
    let limits = WorkerLimits {
        deadline_ms: 60_000,
        log_lines_per_second: 0,
        ..WorkerLimits::default()
    };
    let error = fail(flood, "", limits);
    let CallError::Trap { reason, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(
        reason,
        format!("the host was called more than {MAX_HOST_CALLS} times in one call")
    );
}

#[test]
fn a_trap_is_told_with_its_place() {
    let error = fail("(unreachable)", "", WorkerLimits::default());
    let CallError::Trap { reason, backtrace } = error else {
        panic!("{error}")
    };
    assert_eq!(reason, "wasm trap: wasm `unreachable` instruction executed");
    assert_eq!(backtrace, ["handle"]);
}

#[test]
fn endless_recursion_is_a_trap() {
    let error = fail(
        "(call $handle (local.get $batches) (local.get $bytes))",
        "",
        WorkerLimits::default(),
    );
    let CallError::Trap { reason, backtrace } = error else {
        panic!("{error}")
    };
    assert_eq!(reason, "wasm trap: call stack exhausted");
    assert!(backtrace.len() <= 8, "{backtrace:?}");
}

#[test]
fn an_error_of_the_guest_is_told_in_its_words() {
    let error = fail(
        "(call $answer (i32.const 1) (i32.const 1024) (i32.const 6))",
        "no\\09way",
        WorkerLimits::default(),
    );
    assert_eq!(error, CallError::Guest("no\\tway".into()));
}

#[test]
fn an_error_of_init_is_told_in_its_words() {
    let init = "(call $answer (i32.const 1) (i32.const 1024) (i32.const 4))";
    let error = start(
        &Guest {
            init,
            data: "shan",
            ..Guest::default()
        },
        setup().0,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "init refused: shan");
}

#[test]
fn a_list_outside_memory_is_a_trap() {
    let error = fail(
        "(call $answer (i32.const 0) (i32.const 1024) (i32.const 0x7fffffff))",
        "",
        WorkerLimits::default(),
    );
    let CallError::Trap { reason, .. } = error else {
        panic!("{error}")
    };
    assert!(reason.contains("list"), "{reason}");
}

#[test]
fn outcomes_that_lie_are_refused() {
    let check = |data: &str, bytes: usize, what: &str| {
        let handle = format!("(call $answer (i32.const 0) (i32.const 1024) (i32.const {bytes}))");
        let error = fail(&handle, data, WorkerLimits::default());
        assert_eq!(
            error,
            CallError::BadOutput(BadOutput {
                at: BadOutputPlace::Byte(0),
                what: what.into()
            })
        );
    };
    // An emit of input 0 to output 0, whose record claims 8 KiB.
    check(
        "\\00\\00\\00\\80\\80\\01",
        6,
        "8192 bytes claimed, 0 are there",
    );
    check("\\00\\00\\02", 3, "the end is missing");
    check("\\04\\01\\00", 3, "input 2 of a call with 2 records");
}

#[test]
fn outputs_of_one_record_are_limited() {
    // A record of nothing at all, emitted twice for input 0.
    let data = "\\00\\00\\00\\0c\\00\\00\\00\\01\\01\\00".repeat(2);
    let handle = "(call $answer (i32.const 0) (i32.const 1024) (i32.const 20))";
    let limits = WorkerLimits {
        outputs_per_record: 1,
        ..WorkerLimits::default()
    };
    let expect = BadOutput {
        at: BadOutputPlace::Byte(10),
        what: "input 0 has more than 1 outputs, the limit `outputs-per-record`".into(),
    };
    assert_eq!(fail(handle, &data, limits), CallError::BadOutput(expect));
}

#[test]
fn what_are_no_batches_is_not_handed_over() {
    let mut worker = start(&Guest::default(), setup().0).unwrap();
    let good = batch(0, &[b"a"]);
    let mut compressed = good.clone();
    compressed[22] = 3;
    let mut control = good.clone();
    control[22] = 1 << 5;
    for bad in [
        &b"nonsense"[..],
        &[],
        &good[..good.len() - 1],
        &compressed,
        &control,
    ] {
        let error = worker.handle(bad).unwrap_err();
        assert!(matches!(error, CallError::BadInput(_)), "{error}");
    }
    let two = [good.clone(), batch(1, &[b"b", b"c"])].concat();
    assert_eq!(worker.handle(&two).unwrap().outcomes.records(), 3);
}

#[test]
fn a_flood_of_log_lines_is_dropped_and_counted() {
    let flood = format!(
        "(local $left i32)
         (local.set $left (i32.const 1000))
         (loop $again
             (call $log (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 5))
             (local.set $left (i32.sub (local.get $left) (i32.const 1)))
             (br_if $again (local.get $left)))
         {EMPTY}"
    );
    let (mut setup, kept) = setup();
    setup.limits.log_lines_per_second = 10;
    let mut worker = start(
        &Guest {
            handle: &flood,
            data: "loopa\\0dline",
            ..Guest::default()
        },
        setup,
    )
    .unwrap();
    worker.handle(&batch(0, &[b"a"])).unwrap();
    let dropped = worker.log_lines_dropped();
    drop(worker);

    // The flood may last into further seconds of the clock, each with its own ten.
    let (told, lines): (Vec<_>, Vec<_>) = kept
        .lines()
        .into_iter()
        .partition(|(_, context, _)| context == "millstream");
    assert!(
        lines
            .iter()
            .all(|line| *line == (LogLevel::Info, "loop".into(), "a\\rlin".into())),
        "{lines:?}"
    );
    assert!(lines.len() >= 10);
    assert_eq!(lines.len() as u64 + dropped, 1_000);
    let counted = told
        .iter()
        .map(|(_, _, line)| line.split(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counted.sum::<u64>(), dropped);
}
