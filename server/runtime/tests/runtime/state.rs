//! Keyed state, through the boundary of a Rust guest.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, LazyLock, Mutex};

use millstream_runtime::{
    CallError, Instance, MAX_HOST_CALLS, MAX_STATE_KEY_BYTES, MAX_STATE_PAGE_ENTRIES,
    MAX_STATE_VALUE_BYTES, Outcome, Outcomes, Plugin, STATE_CHANGE_OVERHEAD_BYTES, StartError,
    StateChanges, StateReadError, StateReader, StateVisitor, WorkerSetup, scan_start,
};

use crate::{RUNTIME, batch, built, setup};

static KEEPER: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/keeper", "keeper.wasm");
    RUNTIME.compile(&component).unwrap()
});

/// A store as a broker has one.
#[derive(Default)]
struct Stored(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Stored {
    fn apply(&self, changes: StateChanges) {
        let mut stored = self.0.lock().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => stored.insert(key, value),
                None => stored.remove(&key),
            };
        }
    }
}

impl StateReader for Stored {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        let stored = self.0.lock().unwrap();
        let _ = stored
            .range::<[u8], _>((scan_start(prefix, after), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

/// A store that has failed.
struct Broken;

impl StateReader for Broken {
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Err(StateReadError {
            reason: "disk on fire".into(),
        })
    }

    fn scan(
        &self,
        prefix: &[u8],
        _: Option<&[u8]>,
        _: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        self.get(prefix).map(|_| ())
    }
}

/// A worker and its store.
struct Kept {
    worker: Instance,
    stored: Arc<Stored>,
}

impl Kept {
    fn start() -> Self {
        let stored = Arc::new(Stored::default());
        let worker = start(stored.clone(), |_| {}).unwrap();
        Self { worker, stored }
    }

    /// Has it do these in one call.
    fn call(&mut self, commands: &[&str]) -> Result<(Vec<String>, StateChanges), CallError> {
        let commands: Vec<_> = commands.iter().map(|command| command.as_bytes()).collect();
        let handled = self.worker.handle(&batch(0, &commands))?;
        Ok((found(&handled.outcomes), handled.state))
    }

    /// As [`call`](Self::call), and makes the changes durable.
    fn commit(&mut self, commands: &[&str]) -> Vec<String> {
        let (found, changes) = self.call(commands).unwrap();
        self.stored.apply(changes);
        found
    }
}

fn start(
    state: Arc<dyn StateReader>,
    change: impl FnOnce(&mut WorkerSetup),
) -> Result<Instance, StartError> {
    let (mut setup, _) = setup();
    setup.state = state;
    change(&mut setup);
    KEEPER.start(setup)
}

fn found(outcomes: &Outcomes) -> Vec<String> {
    let text = |outcome| match outcome {
        Outcome::Emit(emit) => String::from_utf8(emit.value.unwrap().to_vec()).unwrap(),
        Outcome::Reject { reason, .. } => format!("rejected: {reason}"),
        Outcome::Retry { reason, .. } => format!("retried: {reason}"),
    };
    outcomes.iter().map(text).collect()
}

/// Has a new worker fail a call in which it has written, and returns the error.
fn fail(commands: &[&str]) -> CallError {
    let mut kept = Kept::start();
    kept.commit(&["put a 1"]);
    let error = kept.call(&[&["put a 2", "put b 2"], commands].concat());
    let error = error.unwrap_err();
    assert_eq!(kept.call(&["get a"]).unwrap_err(), CallError::Spent);

    // The next instance finds what there was before.
    kept.worker = start(kept.stored.clone(), |_| {}).unwrap();
    assert_eq!(kept.commit(&["scan "]), ["a=1"]);
    error
}

#[test]
fn a_call_sees_what_it_has_written() {
    let mut kept = Kept::start();
    let (found, changes) = kept
        .call(&[
            "get a", "put a 1", "get a", "put a 2", "get a", "delete a", "get a", "put a 3",
        ])
        .unwrap();
    assert_eq!(found, ["1", "2"]);
    assert_eq!(
        changes.iter().collect::<Vec<_>>(),
        [(&b"a"[..], Some(&b"3"[..]))]
    );
}

#[test]
fn changes_are_returned_in_the_order_of_their_keys() {
    let mut kept = Kept::start();
    kept.commit(&["put b 1"]);
    let (_, changes) = kept
        .call(&["put c 30", "put a 10", "delete b", "delete d", "put aa "])
        .unwrap();
    assert_eq!(changes.len(), 5);
    assert_eq!(changes.bytes(), 5 * STATE_CHANGE_OVERHEAD_BYTES + 6 + 4);
    assert_eq!(changes.get(b"b"), Some(None));
    assert_eq!(changes.get(b"e"), None);
    let changes: Vec<_> = changes.into_iter().collect();
    let set = |key: &str, value: &str| (key.into(), Some(value.into()));
    let expect = [
        set("a", "10"),
        set("aa", ""),
        (b"b".to_vec(), None),
        set("c", "30"),
        (b"d".to_vec(), None),
    ];
    assert_eq!(changes, expect);
}

#[test]
fn a_call_that_writes_nothing_changes_nothing() {
    let (_, changes) = Kept::start().call(&["get a", "scan "]).unwrap();
    assert!(changes.is_empty());
    assert_eq!(changes.bytes(), 0);
}

#[test]
fn calls_and_instances_find_what_was_kept() {
    let mut kept = Kept::start();
    kept.commit(&["put a 1", "put b 2"]);
    assert_eq!(kept.commit(&["get a", "delete a", "get b"]), ["1", "2"]);
    kept.worker = start(kept.stored.clone(), |_| {}).unwrap();
    assert_eq!(kept.commit(&["get a", "get b"]), ["2"]);
}

#[test]
fn a_scan_shows_what_was_changed_over_what_is_stored() {
    let mut kept = Kept::start();
    kept.commit(&["put k1 a", "put k3 a", "put k5 a", "put l a", "put j a"]);
    let (found, _) = kept
        .call(&[
            "put k0 b",
            "put k3 b",
            "delete k5",
            "put k7 b",
            "delete k9",
            "scan k",
            "scan j",
            "scan x",
        ])
        .unwrap();
    assert_eq!(found, ["k0=b,k1=a,k3=b,k7=b", "j=a", ""]);
}

#[test]
fn a_scan_of_many_pages_is_whole() {
    let mut kept = Kept::start();
    let keys = 3 * MAX_STATE_PAGE_ENTRIES;
    {
        let mut stored = kept.stored.0.lock().unwrap();
        for key in 0..keys {
            stored.insert(format!("{key:05}").into_bytes(), vec![b'v'; 400]);
        }
    }
    let (found, _) = kept
        .call(&["put 00000x new", "delete 01000", "scan 0"])
        .unwrap();
    let keys_found: Vec<_> = found[0]
        .split(',')
        .map(|entry| entry.split_once('=').unwrap().0)
        .collect();
    assert_eq!(keys_found.len(), keys);
    assert!(keys_found.is_sorted());
    assert_eq!(keys_found[..3], ["00000", "00000x", "00001"]);
    assert!(!keys_found.contains(&"01000"));
}

#[test]
fn nothing_is_kept_of_a_call_that_traps() {
    let error = fail(&["panic"]);
    assert!(matches!(error, CallError::Trap { .. }), "{error}");
}

#[test]
fn nothing_is_kept_of_a_call_that_returns_an_error() {
    assert_eq!(fail(&["abort"]), CallError::Guest("as told".into()));
}

#[test]
fn nothing_is_kept_of_a_call_with_bad_outcomes() {
    let stored = Arc::new(Stored::default());
    let mut worker = start(stored, |setup| setup.limits.outputs_per_record = 1).unwrap();
    let error = worker.handle(&batch(0, &[b"put a 1", b"emit-twice"]));
    let error = error.unwrap_err();
    assert!(matches!(error, CallError::BadOutput(_)), "{error}");
    let spent = worker.handle(&batch(0, &[b"get a"])).unwrap_err();
    assert_eq!(spent, CallError::Spent);
}

#[test]
fn a_record_that_is_rejected_has_written() {
    let mut kept = Kept::start();
    assert_eq!(kept.commit(&["put a 1", "reject"]), ["rejected: as told"]);
    assert_eq!(kept.commit(&["get a"]), ["1"]);
}

#[test]
fn what_is_too_large_is_refused_in_words() {
    let (key, value) = (MAX_STATE_KEY_BYTES, MAX_STATE_VALUE_BYTES);
    let mut kept = Kept::start();
    let (found, changes) = kept
        .call(&[
            &format!("put-bytes {key} {value}"),
            &format!("put-bytes {} 0", key + 1),
            &format!("put-bytes 1 {}", value + 1),
            &format!("scan-key-bytes {key}"),
            &format!("scan-key-bytes {}", key + 1),
        ])
        .unwrap();
    let expect = [
        "rejected: too large for the state: a key of 1025 bytes, more than 1024",
        "rejected: too large for the state: a value of 1048577 bytes, more than 1048576",
        &"k".repeat(key),
        "rejected: too large for the state: a prefix of 1025 bytes, more than 1024",
    ];
    assert_eq!(found, expect);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes.bytes(), key + value + STATE_CHANGE_OVERHEAD_BYTES);
}

#[test]
fn the_changes_of_a_call_are_limited() {
    let mut kept = Kept::start();
    let (_, changes) = kept.call(&["fill 7", "fill 7"]).unwrap();
    assert_eq!(changes.len(), 7);
    let error = fail(&["fill 8"]);
    let CallError::Guest(reason) = &error else {
        panic!("{error}")
    };
    let expect = "too many changes of the state: the changes of the call would have ";
    assert!(reason.starts_with(expect), "{reason}");
}

#[test]
fn the_number_of_calls_is_limited() {
    let pairs = MAX_HOST_CALLS / 2;
    let mut kept = Kept::start();
    // A build without optimisation needs more than the second that a call has.
    let patient = |setup: &mut WorkerSetup| setup.limits.deadline_ms = 60_000;
    kept.worker = start(kept.stored.clone(), patient).unwrap();
    // The guest's run-time asks for one thing or another.
    kept.commit(&[&format!("count {}", pairs - 16)]);
    let error = kept
        .call(&[&format!("count {pairs}"), "get a"])
        .unwrap_err();
    let CallError::Trap { reason, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        reason,
        "the host was called more than 1000000 times in one call"
    );
}

#[test]
fn init_reads_but_does_not_write() {
    let stored = Arc::new(Stored::default());
    stored.0.lock().unwrap().insert("a".into(), "stored".into());
    let error = start(stored.clone(), |setup| {
        setup.config = vec![("read".into(), "a".into())];
    });
    assert_eq!(error.unwrap_err().to_string(), "init refused: stored");
    let error = start(stored, |setup| {
        setup.config = vec![("write".into(), "yes".into())];
    });
    let expect = "init refused: state cannot be written in init";
    assert_eq!(error.unwrap_err().to_string(), expect);
}

#[test]
fn a_state_that_cannot_be_read_fails_the_call() {
    for command in [&b"get a"[..], b"scan a"] {
        let mut worker = start(Arc::new(Broken), |_| {}).unwrap();
        let error = worker.handle(&batch(0, &[command])).unwrap_err();
        let expect = StateReadError {
            reason: "disk on fire".into(),
        };
        assert_eq!(error, CallError::StateUnavailable(expect));
        assert_eq!(error.to_string(), "cannot read the state: disk on fire");
    }
}

#[test]
fn state_is_imported_by_who_uses_it() {
    let state = "millstream:plugin/state@0.1.0";
    assert!(KEEPER.imports().iter().any(|import| import == state));
}
