//! Requests: to whom, how often, how long, how large.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use millstream_protocol::api::grants::Grants;
use millstream_runtime::{
    CallError, GivenUp, Instance, Lack, MAX_HTTP_REQUESTS_PER_CALL, Outcome, Plugin, RefusedError,
    Waits,
};
use tokio::sync::Notify;

use crate::http_server::HttpServer;
use crate::{Kept, RUNTIME, batch, built, setup};

static ASKER: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/asker", "asker.wasm");
    RUNTIME.compile(&component).unwrap()
});

/// What a worker's thread is told of its waits.
#[derive(Default)]
struct Told {
    began: AtomicUsize,
    ended: AtomicUsize,
    is_given_up: AtomicBool,
    given_up: Notify,
}

impl Waits for Told {
    fn began(&self) {
        self.began.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self) -> Result<(), GivenUp> {
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn computed(&self) -> Result<(), GivenUp> {
        Ok(())
    }

    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            while !self.is_given_up.load(Ordering::Acquire) {
                self.given_up.notified().await;
            }
        })
    }
}

impl Told {
    /// How often a wait began, and how often one ended with what was waited for.
    fn told(&self) -> [usize; 2] {
        [&self.began, &self.ended].map(|it| it.load(Ordering::Relaxed))
    }
}

struct Asker {
    server: HttpServer,
    worker: Instance,
    kept: Arc<Kept>,
    waits: Arc<Told>,
}

impl Asker {
    /// A worker that is granted a server, and nothing else.
    fn start() -> Self {
        Self::with_deadline(1_000)
    }

    fn with_deadline(deadline_ms: u32) -> Self {
        let server = HttpServer::start();
        let (mut setup, kept) = setup();
        let waits = Arc::new(Told::default());
        setup.grants.grants.http = vec![server.url("").parse().unwrap()];
        setup.waits = waits.clone();
        setup.limits.deadline_ms = deadline_ms;
        Self {
            worker: ASKER.start(setup).unwrap(),
            server,
            kept,
            waits,
        }
    }

    fn outcome(&mut self, command: &str) -> Result<String, CallError> {
        let handled = self.worker.handle(&batch(0, &[command.as_bytes()]))?;
        let outcome = match handled.outcomes.iter().next() {
            Some(Outcome::Emit(emit)) => String::from_utf8(emit.value.unwrap().to_vec()).unwrap(),
            Some(Outcome::Reject { reason, .. }) => format!("rejected: {reason}"),
            Some(Outcome::Retry { reason, .. }) => format!("retried: {reason}"),
            None => String::new(),
        };
        Ok(outcome)
    }

    /// What comes of a command and a path of the server.
    fn found(&mut self, command: &str, path: &str) -> String {
        let command = format!("{command} {}", self.server.url(path));
        self.outcome(&command).unwrap()
    }
}

#[test]
fn a_plugin_that_sends_requests_is_refused_where_no_host_is_granted() {
    let refused = ASKER.check_grants(&Grants::default(), 0).unwrap_err();
    let RefusedError::Settings { import, lack } = refused else {
        panic!("{refused}");
    };
    assert!(
        import.starts_with("wasi:http/outgoing-handler@0.2"),
        "{import}"
    );
    assert_eq!(lack, Lack::Host);
    let grants = Grants {
        http: vec!["a.test".parse().unwrap()],
        ..Grants::default()
    };
    assert_eq!(ASKER.check_grants(&grants, 0), Ok(()));
}

#[test]
fn a_request_reaches_the_host_that_is_granted() {
    let mut asker = Asker::start();
    assert_eq!(asker.found("get", "/there?a=b"), "200 /there?a=b ");
    let posted = format!("post {} some body", asker.server.url("/there"));
    assert_eq!(asker.outcome(&posted).unwrap(), "200 /there some body");
    let asked = asker.server.asked();
    let [got, posted] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!((got.method.as_str(), got.body.as_str()), ("GET", ""));
    assert_eq!(got.headers["host"], asker.server.authority());
    assert_eq!(posted.method, "POST");
    assert_eq!(posted.headers["x-offset"], "0");
    assert_eq!(posted.headers["content-length"], "9");
    let [began, ended] = asker.waits.told();
    assert!(began > 0 && ended == began, "{began} {ended}");
    // No redirect is followed, and a status is the plugin's affair.
    assert_eq!(asker.found("get", "/redirect"), "302 ");
    assert_eq!(asker.server.times("/elsewhere"), 0);
    assert_eq!(asker.found("get", "/status/503"), "503 /status/503 ");
}

#[test]
fn nobody_else_is_asked() {
    let mut asker = Asker::start();
    let other = HttpServer::start();
    let (own_port, other_port) = (asker.server.port(), other.port());
    for url in [
        other.url("/"),
        format!("http://localhost:{own_port}/"),
        format!("https://127.0.0.1:{own_port}/"),
        "http://127.0.0.1/".to_owned(),
        format!("http://127.0.0.1:{own_port}@127.0.0.1:{other_port}/"),
        format!("http://127.0.0.1:{other_port}#@127.0.0.1:{own_port}/"),
        format!("http://127.0.0.1.:{own_port}/"),
        format!("http://[::ffff:127.0.0.1]:{own_port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let said = asker.outcome(&format!("told {url}")).unwrap();
        assert!(
            said.contains("are not granted") || said.contains("HttpRequestUriInvalid"),
            "{url}: {said}"
        );
    }
    assert_eq!(other.asked(), []);
    assert_eq!(asker.server.asked(), []);
    let said = asker
        .outcome(&format!("get {}", other.url("/secret")))
        .unwrap();
    assert!(said.starts_with("rejected: requests to"), "{said}");
    let lines = asker.kept.lines();
    let denied = format!(
        "a request to http://127.0.0.1:{other_port} was denied: the deployment is not granted \
         http=http://127.0.0.1:{other_port}"
    );
    assert!(lines.iter().any(|(.., line)| *line == denied), "{lines:?}");
    assert!(!format!("{lines:?}").contains("secret"), "no path is told");
}

#[test]
fn none_is_asked_while_somebody_waits_for_a_deployment() {
    let server = HttpServer::start();
    let (mut setup, _) = setup();
    setup.grants.grants.http = vec![server.url("").parse().unwrap()];
    setup.config = vec![("ask".to_owned(), server.url("/"))];
    let error = ASKER.start(setup).unwrap_err().to_string();
    assert!(error.starts_with("init refused"), "{error}");
    assert!(error.contains("no request is sent in `init`"), "{error}");
    assert_eq!(server.asked(), []);
}

#[test]
fn what_a_server_says_is_bounded() {
    let mut asker = Asker::start();
    for (path, says) in [
        ("/endless", "body is too large"),
        ("/huge", "body is too large"),
        ("/head", "too large"),
        ("/short", "incomplete"),
        ("/garbage", "invalid HTTP"),
    ] {
        let said = asker.found("told", path);
        assert!(said.contains(says), "{path}: {said}");
        // The worker goes on with the next one.
        assert_eq!(asker.found("get", "/next"), "200 /next ");
    }
    let said = asker.found("get", "/short");
    assert!(said.starts_with("retried: the request failed"), "{said}");
}

#[test]
fn a_guest_waits_no_longer_than_it_wants() {
    let mut asker = Asker::start();
    for path in ["/hang", "/slow-head"] {
        let said = asker.found("impatient", path);
        assert!(said.contains("took too long"), "{path}: {said}");
    }
    let nobody = format!("told {}", {
        let gone = HttpServer::start();
        gone.url("/")
    });
    assert!(asker.outcome(&nobody).unwrap().contains("not granted"));
}

#[test]
fn a_call_that_waits_ends_when_it_has_lasted_too_long() {
    let mut asker = Asker::with_deadline(20);
    let began = Instant::now();
    let error = asker.outcome(&format!("told {}", asker.server.url("/hang")));
    assert_eq!(error, Err(CallError::WaitedTooLong { limit_ms: 1_200 }));
    // Sixty times its deadline, and not the ten seconds for which it may wait for a head.
    assert!(began.elapsed() >= Duration::from_millis(60 * 20));
    assert_eq!(asker.server.times("/hang"), 1);
    assert_eq!(asker.outcome("again"), Err(CallError::Spent));
}

#[test]
fn a_call_that_waits_can_be_given_up() {
    let mut asker = Asker::start();
    let waits = Arc::clone(&asker.waits);
    let gives_up = thread::spawn(move || {
        while waits.began.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        waits.is_given_up.store(true, Ordering::Release);
        waits.given_up.notify_one();
    });
    let error = asker.outcome(&format!("told {}", asker.server.url("/hang")));
    assert_eq!(error, Err(CallError::Interrupted));
    gives_up.join().unwrap();
    let [began, ended] = asker.waits.told();
    assert_eq!(ended, began - 1);
}

#[test]
fn requests_of_a_call_are_counted() {
    let mut asker = Asker::with_deadline(60_000);
    let more = MAX_HTTP_REQUESTS_PER_CALL + 1;
    let many = format!("many {more} {}", asker.server.url("/"));
    let found = asker.outcome(&many).unwrap();
    assert!(
        found.starts_with(&format!("{MAX_HTTP_REQUESTS_PER_CALL} answered, then")),
        "{found}"
    );
    // The next call may again.
    assert_eq!(asker.found("get", "/next"), "200 /next ");
}

#[test]
fn a_request_says_no_more_than_it_may() {
    let mut asker = Asker::start();
    let said = asker.outcome("method 32").unwrap();
    assert!(said.contains("not granted"), "{said}");
    let said = asker.outcome("method 33").unwrap();
    assert!(said.contains("no request: the method"), "{said}");
    let path = "x".repeat(9 << 10);
    let said = asker.found("told", &format!("/{path}"));
    assert!(said.contains("no request: the address"), "{said}");
    assert_eq!(asker.server.asked(), []);
    // What is sent is bounded, too.
    let said = asker.outcome(&format!(
        "send {} {}",
        8 << 20,
        asker.server.url("/status/204")
    ));
    assert!(said.unwrap().starts_with("204 "));
    let said = asker.outcome(&format!("send {} {}", (8 << 20) + 1, asker.server.url("/")));
    assert!(
        said.as_ref().unwrap().contains("body is too large"),
        "{said:?}"
    );
}
