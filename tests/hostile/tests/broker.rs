//! All hostile components against one broker: it goes on, and so do its other plugins.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream::{
    Admin, Cleanup, Client, ConsumedRecord, Consumer, DeploymentSpec, ErrorCode, FailurePolicy,
    OutputSpec, Position, ProduceRecord, Producer, TableSpec, WorkerDescription,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::patience::{until, within};
use millstream_hostile::{Case, Must, SECRET, corpus};

/// The topic that all hostile workers read, and its records.
const BAIT: &str = "bait";
const BAIT_RECORDS: usize = 3;

/// How often a record is tried.
const ATTEMPTS: u32 = 2;

/// What compiling may take, where it is to be too much.
const COMPILER_LIMITS: &str = "compile_time_ms = 3000\ncompile_memory_bytes = 536870912";

const NEIGHBOUR: &str = "neighbour";
const INPUT: &str = "in";
const OUTPUT: &str = "out";

/// The topic of every table.
const TABLE: &str = "table";

/// Records that the neighbour is asked for while it is alone.
const ALONE: usize = 200;

/// What the neighbour's p99 may become among all hostile workers at once, each of which computes as
/// long as it is let, on a machine that runs other tests as well. The bench measures it properly.
const LOOSE_FACTOR: u32 = 20;
const LOOSE: Duration = Duration::from_millis(500);

fn spec(case: &Case) -> DeploymentSpec {
    let table = |name: &String| TableSpec {
        name: name.clone(),
        topic: TABLE.to_owned(),
    };
    DeploymentSpec {
        inputs: vec![BAIT.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: "bait-out".to_owned(),
        }],
        config: vec![("some".to_owned(), "thing".to_owned())],
        limits: case.limits.clone(),
        grants: case.grants.clone(),
        tables: case.tables.iter().map(table).collect(),
        on_failure: FailurePolicy {
            attempts: ATTEMPTS,
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(&case.name)
        },
        ..DeploymentSpec::new(&case.name)
    }
}

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.client().await;
    let admin = client.admin();
    for topic in [BAIT, "bait-out", INPUT, OUTPUT] {
        admin.create_topic(topic).await.expect("a topic");
    }
    let table = admin.create_topic(TABLE).cleanup(Cleanup::Compact);
    table.await.expect("a topic");
    for secret in ["key", "anothers-key"] {
        admin.set_secret(secret, SECRET).await.expect("a secret");
    }
    (broker, client, admin)
}

fn text(bytes: Option<&Bytes>) -> String {
    String::from_utf8_lossy(bytes.map(AsRef::as_ref).unwrap_or_default()).into_owned()
}

/// A plugin that behaves, and how long each of its records has taken.
struct Neighbour {
    producer: Producer,
    consumer: Consumer,
    asked: usize,
    took: Vec<Duration>,
}

impl Neighbour {
    async fn deploy(client: &Client, admin: &Admin) -> Self {
        let component = std::fs::read(drill()).expect("the component");
        let spec = DeploymentSpec {
            inputs: vec![INPUT.to_owned()],
            outputs: vec![OutputSpec {
                name: "out".to_owned(),
                topic: OUTPUT.to_owned(),
            }],
            ..DeploymentSpec::new(NEIGHBOUR)
        };
        admin
            .deploy_plugin(component, spec)
            .await
            .expect("a neighbour");
        let consumer = client.consumer().topics([OUTPUT]).start(Position::Earliest);
        let mut neighbour = Self {
            producer: client.producer(INPUT).build().await.expect("a producer"),
            consumer: consumer.build().await.expect("a consumer"),
            asked: 0,
            took: Vec::new(),
        };
        // Its first turn starts it.
        neighbour.ask().await;
        neighbour.took.clear();
        neighbour
    }

    /// Has it handle one record.
    async fn ask(&mut self) {
        let value = format!("{}/question", self.asked);
        let began = Instant::now();
        let sent = self.producer.send(ProduceRecord::new(value.clone())).await;
        sent.expect("a record that is taken");
        let answer = within("the neighbour's answer", self.consumer.next()).await;
        self.took.push(began.elapsed());
        let answer = text(answer.expect("an answer").value.as_ref());
        assert!(answer.starts_with(&value), "{answer} to {value}");
        self.asked += 1;
    }

    /// The 99th percentile of what it took since the last time.
    fn p99(&mut self) -> Duration {
        let mut took = std::mem::take(&mut self.took);
        took.sort_unstable();
        took[(took.len() * 99 / 100).min(took.len() - 1)]
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let (mut broker, _client, admin) = start().await;
    let process = broker.process_id();
    let mut refused = 0;
    for case in corpus() {
        if !matches!(case.must, Must::BeRefused(_) | Must::NotStart(_)) {
            continue;
        }
        let said = case.must.said();
        let deployed = admin.deploy_plugin(case.component(), spec(&case)).await;
        let error = deployed.expect_err(&case.name);
        // What is too large for a request is not even sent.
        match error.code() {
            Some(ErrorCode::ComponentRefused | ErrorCode::SettingsRefused) => {
                assert!(error.to_string().contains(said), "{}: {error}", case.name);
            }
            code => assert_eq!(
                (code.unwrap_or(ErrorCode::FrameTooLarge), case.name.as_str()),
                (ErrorCode::FrameTooLarge, "too-large"),
                "{error}"
            ),
        }
        refused += 1;
    }
    assert!(refused >= 20, "{refused} were refused");
    assert!(admin.list_plugins().await.expect("a list").is_empty());
    assert!(broker.is_running() && broker.process_id() == process);
}

#[tokio::test]
async fn what_does_not_compile_within_its_limits_changes_nothing() {
    let (mut broker, client, admin) = start().await;
    drop((client, admin));
    broker.kill();
    broker.restart_as_server(COMPILER_LIMITS);
    let (admin, process) = (broker.client().await.admin(), broker.process_id());
    let mut refused = 0;
    for case in corpus() {
        if case.must != Must::NotCompile {
            continue;
        }
        let deployed = admin.deploy_plugin(case.component(), spec(&case)).await;
        let error = deployed.expect_err(&case.name);
        let code = error.code();
        assert_eq!(
            code,
            Some(ErrorCode::CompilationFailed),
            "{}: {error}",
            case.name
        );
        refused += 1;
    }
    assert!(refused >= 4, "{refused} were refused");
    assert!(admin.list_plugins().await.expect("a list").is_empty());
    assert!(broker.is_running() && broker.process_id() == process);
}

/// Waits until a hostile deployment has nothing left to do; its dead letters.
async fn worked_off(admin: &Admin, case: &Case) -> u64 {
    until(&case.name, async || {
        let described = admin.describe_plugin(case.name.as_str()).await.ok()?;
        let done = |worker: &WorkerDescription| {
            worker.lag == 0 && worker.parked == 0 && worker.committed_offset > 0
        };
        let workers = &described.workers;
        let dead_letters = workers.iter().map(|worker| worker.dead_letters).sum();
        (!workers.is_empty() && workers.iter().all(done)).then_some(dead_letters)
    })
    .await
}

fn reason(letter: &ConsumedRecord) -> String {
    let name = b"millstream.dead-letter.reason";
    let header = letter.headers.iter().find(|header| header.name == name[..]);
    text(header.expect("a reason").value.as_ref())
}

/// What must have become of the records of a hostile deployment.
async fn check(client: &Client, admin: &Admin, case: &Case) {
    let dead_letters = worked_off(admin, case).await;
    let Must::Fail(said) = &case.must else {
        assert_eq!(dead_letters, 0, "{}", case.name);
        return;
    };
    assert_eq!(dead_letters, BAIT_RECORDS as u64, "{}", case.name);
    let letters = History::read(client, &format!("{}.dead-letters", case.name)).await;
    assert_eq!(letters.len(), BAIT_RECORDS, "{}", case.name);
    for letter in letters.records() {
        let reason = reason(letter);
        assert!(reason.contains(said), "{}: {reason}", case.name);
    }
}

#[tokio::test]
async fn hostile_workers_cost_nobody_but_themselves() {
    let (mut broker, client, admin) = start().await;
    let process = broker.process_id();
    let mut neighbour = Neighbour::deploy(&client, &admin).await;
    for _ in 0..ALONE {
        neighbour.ask().await;
    }
    let alone = neighbour.p99();

    let cases: Vec<_> = corpus()
        .into_iter()
        .filter(|case| matches!(case.must, Must::Fail(_) | Must::GoOn(_)))
        .collect();
    for case in &cases {
        let deployed = admin.deploy_plugin(case.component(), spec(case)).await;
        deployed.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
    let bait = client.producer(BAIT).build().await.expect("a producer");
    for number in 0..BAIT_RECORDS {
        let record = ProduceRecord::new(number.to_string()).key(number.to_string());
        bait.send(record).await.expect("a record that is taken");
    }
    bait.close().await.expect("everything stored");
    let checking = async {
        for case in &cases {
            check(&client, &admin, case).await;
        }
    };
    tokio::pin!(checking);
    // Until then the neighbour goes on.
    loop {
        tokio::select! {
            () = &mut checking => break,
            () = neighbour.ask() => {}
        }
    }
    let (asked, among) = (neighbour.took.len(), neighbour.p99());
    println!(
        "the neighbour's p99: {alone:?} alone, {among:?} among {} hostile ones ({asked} records)",
        cases.len()
    );
    assert!(
        among < LOOSE.max(alone * LOOSE_FACTOR),
        "{among:?}, {alone:?} alone"
    );
    assert!(broker.is_running() && broker.process_id() == process);
}
