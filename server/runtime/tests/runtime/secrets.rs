//! Secrets: told to those who are granted them, and masked in what these say.

use std::sync::{Arc, Mutex};

use millstream_protocol::api::grants::Grants;
use millstream_runtime::{CallError, Instance, Lack, Outcome, RefusedError, SecretReader};

use crate::virtual_wasi::PROBE;
use crate::{Kept, batch, setup};

const SECRET: &str = "hunter2";

/// Every name has this value.
struct Same(Mutex<Option<String>>);

impl SecretReader for Same {
    fn read(&self, _name: &str) -> Option<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A worker that is granted `api-key`.
fn start() -> (Instance, Arc<Kept>, Arc<Same>) {
    let (mut setup, kept) = setup();
    let secrets = Arc::new(Same(Mutex::new(Some(SECRET.to_owned()))));
    setup.grants.grants.secrets = vec!["api-key".to_owned()];
    setup.grants.secrets = Some(secrets.clone());
    (PROBE.start(setup).unwrap(), kept, secrets)
}

fn found(worker: &mut Instance, command: &str) -> String {
    let handled = worker.handle(&batch(0, &[command.as_bytes()])).unwrap();
    let Some(Outcome::Emit(emit)) = handled.outcomes.iter().next() else {
        panic!("{command} gives nothing");
    };
    String::from_utf8(emit.value.unwrap().to_vec()).unwrap()
}

#[test]
fn a_secret_is_told_as_it_is_now_and_no_other() {
    let (mut worker, _, secrets) = start();
    assert_eq!(found(&mut worker, "secret"), SECRET);
    assert_eq!(found(&mut worker, "another secret"), "none");
    *secrets.0.lock().unwrap() = Some("hunter3".to_owned());
    assert_eq!(found(&mut worker, "secret"), "hunter3");
    *secrets.0.lock().unwrap() = None;
    assert_eq!(found(&mut worker, "secret"), "none");
}

#[test]
fn what_a_guest_lets_slip_is_masked() {
    let (mut worker, kept, _) = start();
    found(&mut worker, "log secret");
    let messages = kept.lines().into_iter().map(|(.., message)| message);
    assert_eq!(messages.collect::<Vec<_>>(), ["it is ***", "it is ***"]);

    let commands: [&[u8]; 3] = [b"reject secret", b"forward", b"retry secret"];
    let outcomes = worker.handle(&batch(0, &commands)).unwrap().outcomes;
    let outcomes: Vec<_> = outcomes.iter().collect();
    let [
        Outcome::Reject {
            reason: rejected, ..
        },
        Outcome::Emit(forwarded),
        Outcome::Retry {
            reason: retried, ..
        },
    ] = outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!((rejected, retried), ("it is ***", "it is ***"));
    assert_eq!(forwarded.value, Some(&b"forward"[..]));

    for command in ["abort secret", "panic secret"] {
        let (mut worker, kept, _) = start();
        let error = worker.handle(&batch(0, &[command.as_bytes()])).unwrap_err();
        let told = format!("{error} {error:?} {:?}", kept.lines());
        assert!(told.contains("it is ***"), "{told}");
        assert!(!told.contains(SECRET), "{told}");
        assert!(matches!(
            error,
            CallError::Guest(_) | CallError::Trap { .. }
        ));
    }
}

#[test]
fn a_plugin_that_reads_secrets_is_refused_where_none_is_granted() {
    let refused = PROBE.check_grants(&Grants::default(), 0).unwrap_err();
    assert_eq!(
        refused,
        RefusedError::Settings {
            import: "millstream:plugin/secrets@0.1.0".to_owned(),
            lack: Lack::Secret,
        }
    );
    let grants = Grants {
        secrets: vec!["api-key".to_owned()],
        ..Grants::default()
    };
    assert_eq!(PROBE.check_grants(&grants, 0), Ok(()));
}
