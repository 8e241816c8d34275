//! Each hostile component against the runtime: refused, not started, stopped, or borne.
//!
//! What happens is a row of the table in `README.md`, which this test keeps true. With the variable
//! `MILLSTREAM_WRITE_TABLE` it is written anew.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_e2e::artifacts::millstream;
use millstream_hostile::{Case, Must, SECRET, corpus, folder};
use millstream_protocol::batch::{BatchBuilder, Compression, assign};
use millstream_runtime::{
    CompileLimits, Compiler, CompilerProcess, EmptyState, GuestMetrics, LogLine, LogSink,
    MAX_LOG_MESSAGE_BYTES, MAX_METRICS, MAX_STATE_CHANGE_BYTES, OwnThread, Runtime, RuntimeConfig,
    SecretReader, Table, WorkerGrants, WorkerSetup,
};

/// What a call may last beyond its deadline, on a machine that does other things as well.
const GRACE: Duration = Duration::from_secs(5);

/// What a refusal or a failure may have to say, bytes.
const MAX_SAID_BYTES: usize = 20 * 1024;

/// What the whole process may come to hold, bytes: no component costs the host more than it was
/// given, and some room for compiling it.
const MAX_RESIDENT_BYTES: u64 = 1 << 30;

/// Where the table begins in the README.
const TABLE: &str =
    "| component | what it does | what must happen | what happened |\n|---|---|---|---|\n";

const WRITE_TABLE: &str = "MILLSTREAM_WRITE_TABLE";

/// Bytes of what happened that the table shows.
const SHOWN_BYTES: usize = 140;

#[derive(Default)]
struct Kept(Mutex<Vec<LogLine>>);

impl LogSink for Kept {
    fn write(&self, line: LogLine) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

impl Kept {
    fn messages(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.message.clone()).collect()
    }
}

/// Every secret is there, and is [`SECRET`].
struct Known;

impl SecretReader for Known {
    fn read(&self, _name: &str) -> Option<String> {
        Some(SECRET.to_owned())
    }
}

/// What came of a component.
enum Came {
    Refused(String),
    NotStarted(String),
    Failed(String),
    WentOn(Vec<String>),
}

fn setup(case: &Case, logs: Arc<Kept>, metrics: Arc<GuestMetrics>) -> WorkerSetup {
    WorkerSetup {
        deployment: case.name.clone(),
        topic: "bait".into(),
        partition: 0,
        outputs: vec!["out".into()],
        config: vec![("some".into(), "thing".into())],
        limits: case.limits.clone(),
        logs,
        grants: WorkerGrants {
            grants: case.grants.clone(),
            secrets: Some(Arc::new(Known)),
        },
        state: Arc::new(EmptyState),
        metrics,
        tables: case.tables.iter().map(Table::empty).collect(),
        waits: Arc::new(OwnThread),
    }
}

/// Two records.
fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
    for value in [b"one", b"two"] {
        builder
            .append(0, Some(b"key"), Some(value), &[])
            .expect("room");
    }
    let mut batch = builder.finish(None).expect("a batch").to_vec();
    assign(&mut batch, 0, 1).expect("a batch");
    batch
}

/// A runtime that compiles in the program's child process, with little time and memory.
fn careful_runtime() -> Runtime {
    let process = CompilerProcess {
        program: millstream().to_owned(),
        name: "millstream".into(),
        args: vec!["compile-component".into()],
        env: vec![("MIMALLOC_ARENA_RESERVE".into(), "32MiB".into())],
        limits: CompileLimits {
            time: Duration::from_secs(3),
            memory_bytes: 512 << 20,
            ..CompileLimits::default()
        },
    };
    let config = RuntimeConfig {
        compiler: Compiler::Process(process),
        ..RuntimeConfig::default()
    };
    Runtime::new(config).expect("a runtime")
}

fn run(runtime: &Runtime, case: &Case) -> Came {
    let compiled = runtime.compile(&case.component()).and_then(|plugin| {
        plugin.check_grants(&case.grants, case.tables.len())?;
        Ok(plugin)
    });
    let plugin = match compiled {
        Ok(plugin) => plugin,
        Err(error) => return Came::Refused(error.to_string()),
    };
    let (logs, metrics) = (Arc::new(Kept::default()), Arc::new(GuestMetrics::default()));
    let began = Instant::now();
    let allowed = Duration::from_millis(case.limits.deadline_ms.into()) + GRACE;
    let in_time = || {
        assert!(
            began.elapsed() < 2 * allowed,
            "{}: not stopped in time",
            case.name
        )
    };
    let mut instance = match plugin.start(setup(case, logs.clone(), metrics.clone())) {
        Ok(instance) => instance,
        Err(error) => {
            in_time();
            return Came::NotStarted(error.to_string());
        }
    };
    let handled = instance.handle(&batch());
    in_time();
    assert!(
        instance.memory_bytes() <= case.limits.memory_bytes,
        "{}",
        case.name
    );
    assert!(metrics.list().len() <= MAX_METRICS, "{}", case.name);
    drop(instance);
    let messages = logs.messages();
    let longest = messages.iter().map(String::len).max().unwrap_or_default();
    assert!(longest <= MAX_LOG_MESSAGE_BYTES, "{}", case.name);
    let disturbs = |message: &String| message.contains(char::is_control);
    assert!(
        !messages.iter().any(disturbs),
        "{}: {messages:?}",
        case.name
    );
    assert!(
        !messages.iter().any(|message| message.contains(SECRET)),
        "{}: {messages:?}",
        case.name
    );
    match handled {
        Ok(handled) => {
            assert!(
                handled.state.bytes() <= MAX_STATE_CHANGE_BYTES,
                "{}",
                case.name
            );
            Came::WentOn(messages)
        }
        Err(error) => Came::Failed(error.to_string()),
    }
}

/// What happened, in one line, if it is what must happen.
fn happened(case: &Case, came: Came) -> Result<String, String> {
    let expect = case.must.said();
    let (fits, happened) = match (&case.must, came) {
        (Must::BeRefused(_), Came::Refused(said)) => (said.contains(expect), said),
        // Which of the limits it meets first is the machine's.
        (Must::NotCompile, Came::Refused(said)) => (said.contains(expect), expect.to_owned()),
        (Must::NotStart(_), Came::NotStarted(said)) => (said.contains(expect), said),
        (Must::Fail(_), Came::Failed(said)) => (said.contains(expect), said),
        (Must::GoOn(_), Came::WentOn(log)) => {
            let line = log.into_iter().find(|line| line.contains(expect));
            (
                line.is_some() || expect.is_empty(),
                line.unwrap_or_default(),
            )
        }
        (_, Came::Refused(said)) => (false, format!("refused: {said}")),
        (_, Came::NotStarted(said)) => (false, format!("not started: {said}")),
        (_, Came::Failed(said)) => (false, format!("failed: {said}")),
        (_, Came::WentOn(log)) => (false, format!("went on, and logged {log:?}")),
    };
    let disturbs = happened.contains(char::is_control);
    if fits && !disturbs && happened.len() <= MAX_SAID_BYTES {
        Ok(happened)
    } else {
        let bytes = happened.len();
        Err(format!(
            "{}: must {:?}: {bytes} bytes: {}",
            case.name,
            case.must,
            shown(&happened)
        ))
    }
}

/// The most memory that this process has had, bytes.
fn peak_resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

fn shown(text: &str) -> String {
    let mut end = text.len().min(SHOWN_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    format!("{}{cut}", &text[..end])
}

/// Text in a cell of the table.
fn cell(text: &str) -> String {
    shown(text)
        .replace('|', "\\|")
        .replace('<', "\\<")
        .replace('`', "'")
}

fn row(case: &Case, happened: &str) -> String {
    let said = cell(case.must.said());
    let (must, seen) = match &case.must {
        Must::BeRefused(_) => (format!("refused: {said}"), "refused"),
        Must::NotCompile => (format!("refused: {said}"), "refused"),
        Must::NotStart(_) => (format!("not started: {said}"), "not started"),
        Must::Fail(_) => (format!("the call fails: {said}"), "failed"),
        Must::GoOn(said) if said.is_empty() => ("goes on".to_owned(), "went on"),
        Must::GoOn(_) => (format!("goes on; logged: {said}"), "went on"),
    };
    let colon = if happened.is_empty() { "" } else { ": " };
    let happened = cell(happened);
    format!(
        "| `{}` | {} | {must} | {seen}{colon}{happened} |\n",
        case.name,
        cell(&case.does)
    )
}

#[test]
fn each_gets_what_it_must_and_the_table_says_so() {
    let usual = Runtime::new(RuntimeConfig::default()).expect("a runtime");
    let careful = careful_runtime();
    let cases = corpus();
    assert!(cases.len() >= 20, "{} components", cases.len());
    let mut table = TABLE.to_owned();
    let mut wrong = Vec::new();
    for case in &cases {
        let began = Instant::now();
        let runtime = match case.must {
            Must::NotCompile => &careful,
            _ => &usual,
        };
        match happened(case, run(runtime, case)) {
            Ok(happened) => table.push_str(&row(case, &happened)),
            Err(error) => wrong.push(error),
        }
        println!("{:>6} ms  {}", began.elapsed().as_millis(), case.name);
        if let Some(peak) = peak_resident_bytes() {
            assert!(
                peak < MAX_RESIDENT_BYTES,
                "{}: {peak} bytes of memory",
                case.name
            );
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("\n{table}");
    check_table(&table);
}

/// Compares the table with that of the README, or writes it.
fn check_table(table: &str) {
    let path = folder().join("README.md");
    let readme = fs::read_to_string(&path).expect("the README");
    let (before, _) = readme.split_once(TABLE).expect("a table in the README");
    let mut expect = String::new();
    let _ = write!(expect, "{before}{table}");
    if std::env::var_os(WRITE_TABLE).is_some() {
        fs::write(&path, expect).expect("the README to be written");
        return;
    }
    assert!(
        readme == expect,
        "the table in {} is not what happens: run this test with {WRITE_TABLE}=1",
        path.display()
    );
}
