//! Requests to hosts that are granted: they reach these and no others, and who does not answer holds up
//! nobody but who has asked.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeliveryGuarantee, DeploymentDescription, DeploymentSpec, FailurePolicy, Grants,
    OutputSpec, ProduceRecord,
};
use millstream_e2e::artifacts::asker;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::http_server::{HttpServer, Stream};
use millstream_e2e::patience::until;
use millstream_transport::identity::Authority;
use millstream_transport::principal::Role;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const NAME: &str = "asker";
const DEAD_LETTERS: &str = "asker.dead-letters";

fn component() -> Bytes {
    fs::read(asker()).expect("the component").into()
}

/// A deployment that reads `input`, writes `found` and is granted these hosts.
fn spec(name: &str, input: &str, hosts: &[String]) -> DeploymentSpec {
    let usual = DeploymentSpec::new(name);
    DeploymentSpec {
        inputs: vec![input.to_owned()],
        outputs: vec![OutputSpec {
            name: "found".to_owned(),
            topic: "found".to_owned(),
        }],
        grants: Grants {
            http: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            ..Grants::default()
        },
        on_failure: FailurePolicy {
            attempts: 2,
            first_back_off_ms: 5,
            ..usual.on_failure.clone()
        },
        ..usual
    }
}

async fn topics(broker: &Broker) -> (Client, Admin) {
    let client = broker.quick_client().await;
    let admin = client.admin();
    admin.create_topic("questions").await.unwrap();
    admin.create_topic("found").await.unwrap();
    (client, admin)
}

async fn produce(client: &Client, topic: &str, values: impl IntoIterator<Item = String>) {
    let producer = client.producer(topic).build().await.unwrap();
    for value in values {
        producer.send(ProduceRecord::new(value)).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Waits until a deployment has nothing left to do.
async fn worked_off(admin: &Admin, name: &str) -> DeploymentDescription {
    until("a deployment without lag", async || {
        let described = admin.describe_plugin(name).await.ok()?;
        let mut workers = described.workers.iter();
        let done = workers.all(|worker| worker.lag == 0 && worker.parked == 0);
        (!described.workers.is_empty() && done).then_some(described)
    })
    .await
}

async fn found(client: &Client) -> Vec<String> {
    let history = History::read(client, "found").await;
    let text = |value: Option<&Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    let records = history.records();
    records.map(|record| text(record.value.as_ref())).collect()
}

/// The name and the niceness of each thread of a process.
fn threads(process_id: u32) -> Vec<(String, i64)> {
    let threads = fs::read_dir(format!("/proc/{process_id}/task")).expect("a process");
    let thread = |thread: std::io::Result<fs::DirEntry>| -> Option<(String, i64)> {
        // One that ended meanwhile is none.
        let stat = fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
        let (name, figures) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The nineteenth field, of which the third is the first behind the name.
        let nice = figures.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.to_owned(), nice))
    };
    threads.filter_map(thread).collect()
}

#[tokio::test]
async fn a_host_is_granted_by_name_and_no_other_is_asked() {
    let (mut broker, server, other) = (Broker::start(), HttpServer::start(), HttpServer::start());
    let (client, admin) = topics(&broker).await;
    let refused = admin
        .deploy_plugin(component(), spec(NAME, "questions", &[]))
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("`wasi:http/outgoing-handler@0.2")
            && refused.contains("but the deployment is granted no host"),
        "{refused}"
    );
    let hosts = [server.url("")];
    let deterministic = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..spec(NAME, "questions", &hosts)
    };
    let refused = admin.deploy_plugin(component(), deterministic).await;
    let refused = refused.unwrap_err().to_string();
    let cannot = format!("cannot be granted http={}", hosts[0]);
    assert!(refused.contains(&cannot), "{refused}");

    let deploy = |grant: &str| {
        let mut command = broker.command(["plugin", "deploy"]);
        command.arg(asker());
        command.args(["--input=questions", "--output-topic=found=found"]);
        run(command.arg(format!("--grant=http={grant}")))
    };
    let refused = deploy("http://*.test");
    assert!(
        refused.stderr.contains("without wildcards"),
        "{}",
        refused.stderr
    );
    let deployed = deploy(&hosts[0]).success();
    let granted = format!("http={}", hosts[0]);
    assert!(deployed.stdout.contains(&granted), "{}", deployed.stdout);

    let questions = [
        format!("get {}", server.url("/here")),
        format!("told {}", other.url("/there")),
        format!("get {}", other.url("/there")),
    ];
    produce(&client, "questions", questions).await;
    let described = worked_off(&admin, NAME).await;
    assert_eq!(described.workers[0].dead_letters, 1);
    let other_host = other.url("");
    assert_eq!(
        found(&client).await,
        [
            "200 /here ".to_owned(),
            format!("requests to {other_host} are not granted")
        ]
    );
    assert_eq!(other.asked(), []);
    // What the plugin has received went by threads that let others go first.
    let threads = threads(broker.process_id());
    let mut moving = threads.iter().filter(|(name, _)| name == "guest-io");
    assert!(moving.all(|(_, nice)| *nice > 0), "{threads:?}");
    assert!(threads.iter().any(|(name, _)| name == "guest-io"));
    assert!(threads.iter().any(|(_, nice)| *nice == 0), "{threads:?}");
    let logs = run(&mut broker.command(["plugin", "logs", NAME])).success();
    let denied = format!("a request to {other_host} was denied");
    assert!(logs.stdout.contains(&denied), "{}", logs.stdout);

    let refused = admin.replay_plugin(NAME).await.unwrap_err().to_string();
    assert!(
        refused.contains("would send its requests once more"),
        "{refused}"
    );
}

#[tokio::test]
async fn outputs_count_once_though_requests_are_sent_again() {
    const RECORDS: usize = 300;
    const UNANSWERED: usize = 150;
    let (mut broker, server) = (Broker::start(), HttpServer::start());
    let (client, admin) = topics(&broker).await;
    let hosts = [server.url("")];
    admin
        .deploy_plugin(component(), spec(NAME, "questions", &hosts))
        .await
        .unwrap();
    let path = |number| match number {
        UNANSWERED => "/once".to_owned(),
        number => format!("/{number}"),
    };
    let questions = (0..RECORDS).map(|number| format!("get {}", server.url(&path(number))));
    produce(&client, "questions", questions).await;
    until("a request without an answer", async || {
        (server.times("/once") == 1).then_some(())
    })
    .await;
    let asked = server.asked().len();
    broker.kill();
    broker.restart();
    worked_off(&admin, NAME).await;
    let mut found = found(&client).await;
    found.sort_unstable();
    let mut expected: Vec<_> = (0..RECORDS)
        .map(|number| format!("200 {} ", path(number)))
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    // The call that was under way was made again, with all that it had asked already.
    assert_eq!(server.times("/once"), 2);
    assert!(server.asked().len() > RECORDS && asked > 1);
}

#[tokio::test]
async fn who_does_not_answer_holds_up_nobody_else() {
    const PARTITIONS: u32 = 4;
    let (broker, server) = (Broker::start(), HttpServer::start());
    let (client, admin) = topics(&broker).await;
    admin
        .create_topic("hanging")
        .partitions(PARTITIONS)
        .await
        .unwrap();
    let hosts = [server.url("")];
    let hanging = spec("hanging", "hanging", &hosts);
    admin.deploy_plugin(component(), hanging).await.unwrap();
    let neighbour = spec(NAME, "questions", &hosts);
    admin.deploy_plugin(component(), neighbour).await.unwrap();
    let hang = format!("get {}", server.url("/hang"));
    let producer = client.producer("hanging").build().await.unwrap();
    for partition in 0..PARTITIONS {
        let record = ProduceRecord::new(hang.clone()).partition(partition);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
    let partitions = PARTITIONS as usize;
    until("workers that wait", async || {
        (server.times("/hang") == partitions).then_some(())
    })
    .await;
    let questions = (0..500).map(|number| format!("get {}", server.url(&format!("/{number}"))));
    produce(&client, "questions", questions).await;
    worked_off(&admin, NAME).await;
    assert_eq!(found(&client).await.len(), 500);

    // Nobody waits for those that wait: the answer is not wanted any more, and nothing has failed.
    until("workers that wait", async || {
        let described = admin.describe_plugin("hanging").await.ok()?;
        let waits = described.workers.iter().all(|worker| worker.lag == 1);
        (waits && described.workers.len() == partitions).then_some(())
    })
    .await;
    let paused = admin.pause_plugin("hanging").await.unwrap();
    for worker in &paused.workers {
        let lost = (worker.failures, worker.dead_letters, worker.parked);
        assert_eq!((worker.lag, lost), (1, (0, 0, 0)), "{worker:?}");
    }
    admin.resume_plugin("hanging").await.unwrap();
    until("workers that wait again", async || {
        (server.times("/hang") >= 2 * partitions).then_some(())
    })
    .await;
    admin.remove_plugin("hanging").await.unwrap();
    let mut broker = broker;
    broker.signal(rustix::process::Signal::TERM);
    assert!(broker.wait().success(), "{}", broker.log());
}

#[tokio::test]
async fn a_record_whose_request_fails_is_tried_again_and_becomes_a_dead_letter() {
    let (broker, server) = (Broker::start(), HttpServer::start());
    let (client, admin) = topics(&broker).await;
    let hosts = [server.url("")];
    admin
        .deploy_plugin(component(), spec(NAME, "questions", &hosts))
        .await
        .unwrap();
    let questions = [
        format!("hurry {}", server.url("/hang")),
        format!("get {}", server.url("/endless")),
        format!("get {}", server.url("/short")),
        format!("post {} body", server.url("/status/503")),
        format!("post {} body", server.url("/status/404")),
        format!("get {}", server.url("/last")),
    ];
    produce(&client, "questions", questions).await;
    let described = worked_off(&admin, NAME).await;
    assert_eq!(described.workers[0].dead_letters, 5);
    assert_eq!(found(&client).await, ["200 /last "]);
    for (path, times) in [
        ("/hang", 2),
        ("/endless", 2),
        ("/short", 2),
        ("/status/503", 2),
        ("/status/404", 1),
    ] {
        assert_eq!(server.times(path), times, "{path}");
    }
    let letters = History::read(&client, DEAD_LETTERS).await;
    let mut reasons: Vec<_> = letters
        .records()
        .flat_map(|letter| &letter.headers)
        .filter(|header| header.name == b"millstream.dead-letter.reason"[..])
        .map(|header| String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap())
        .collect();
    reasons.sort_unstable();
    let host = server.url("");
    let mut expected = [
        format!("the request failed: {host}: the response took too long"),
        format!("the request failed: {host}: the response's body is too large"),
        format!("the request failed: {host}: the response is incomplete"),
        "the response has the status 503".to_owned(),
        "the response has the status 404".to_owned(),
    ];
    expected.sort_unstable();
    assert_eq!(reasons, expected);
}

/// A server that speaks TLS as `localhost`, and the file of the authority that says it is.
fn secure_server(folder: &Path) -> HttpServer {
    let authority = Authority::create("elsewhere").unwrap();
    let identity = authority
        .issue(Role::Server, "geo", &["localhost"])
        .unwrap();
    let file = |name: &str| folder.join(name);
    let (certificate, key) = (file("geo.pem"), file("geo.key"));
    identity
        .save(&certificate, &key, &file("authority.pem"))
        .unwrap();
    let chain = CertificateDer::pem_file_iter(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(key).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    HttpServer::start_with(Arc::new(move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config));
        let connection = connection.map_err(std::io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)) as Box<dyn Stream>)
    }))
}

#[tokio::test]
async fn a_server_shows_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = secure_server(folder.path());
    let host = format!("https://localhost:{}", server.port());
    let question = format!("told {host}/who?");
    let trusting =
        Broker::start_with_variable("SSL_CERT_FILE", folder.path().join("authority.pem"));
    let stranger = HttpServer::start();
    let plain = format!("https://localhost:{}", stranger.port());
    let (client, admin) = topics(&trusting).await;
    let hosts = [host.clone(), plain.clone()];
    admin
        .deploy_plugin(component(), spec(NAME, "questions", &hosts))
        .await
        .unwrap();
    let questions = [question.clone(), format!("told {plain}/")];
    produce(&client, "questions", questions).await;
    worked_off(&admin, NAME).await;
    let found_there = found(&client).await;
    assert_eq!(found_there[0], "200 /who? ");
    assert!(found_there[1].contains("no TLS"), "{found_there:?}");

    // Another authority vouches for nobody here.
    let strange = Authority::create("strange").unwrap();
    let unknown = folder.path().join("unknown.pem");
    fs::write(&unknown, strange.certificate_pem()).unwrap();
    let wary = Broker::start_with_variable("SSL_CERT_FILE", unknown);
    let (client, admin) = topics(&wary).await;
    admin
        .deploy_plugin(component(), spec(NAME, "questions", &hosts[..1]))
        .await
        .unwrap();
    produce(&client, "questions", [question]).await;
    worked_off(&admin, NAME).await;
    let found_here = found(&client).await;
    assert!(found_here[0].contains("certificate"), "{found_here:?}");
    assert_eq!(server.times("/who?"), 1);
}

#[test]
fn a_plugin_that_is_run_on_a_file_really_asks() {
    let server = HttpServer::start();
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    fs::write(&records, format!("get {}\n", server.url("/file"))).unwrap();
    let plugin_run = |grants: &[String]| {
        let mut command = std::process::Command::new(millstream_e2e::artifacts::millstream());
        command.args(["plugin", "run"]).arg(asker());
        command
            .args(["--output-name=found", "--records"])
            .arg(&records);
        run(command.args(grants))
    };
    let refused = plugin_run(&[]);
    assert!(
        refused.stderr.contains("granted no host"),
        "{}",
        refused.stderr
    );
    assert_eq!(server.asked(), []);
    let ran = plugin_run(&[format!("--grant=http={}", server.url(""))]).success();
    assert!(ran.stdout.contains("200 /file"), "{}", ran.stdout);
    assert_eq!(server.times("/file"), 1);
}
