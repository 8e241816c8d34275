//! Grants: secrets, real clocks and real randomness reach the plugins that are granted them, and nothing
//! else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use millstream::{
    Admin, Client, ConsumedRecord, DeliveryGuarantee, DeploymentSpec, ErrorCode, Grants,
    OutputSpec, ProduceRecord,
};
use millstream_e2e::artifacts::probe;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{run, run_with_input};
use millstream_e2e::history::History;
use millstream_e2e::patience::until;

const NAME: &str = "probe";
const SECRET: &str = "hunter2-is-no-password";

fn component() -> Bytes {
    fs::read(probe()).expect("the component").into()
}

fn spec(secrets: &[&str]) -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec!["commands".to_owned()],
        outputs: vec![OutputSpec {
            name: "found".to_owned(),
            topic: "found".to_owned(),
        }],
        grants: Grants {
            secrets: secrets.iter().map(|&name| name.to_owned()).collect(),
            ..Grants::default()
        },
        ..DeploymentSpec::new(NAME)
    }
}

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    admin.create_topic("commands").await.unwrap();
    admin.create_topic("found").await.unwrap();
    (broker, client, admin)
}

/// Tells the plugin things, and returns what it has found since the topic was made.
async fn found(client: &Client, commands: &[&str]) -> Vec<String> {
    let producer = client.producer("commands").build().await.unwrap();
    for command in commands {
        producer.send(ProduceRecord::new(*command)).await.unwrap();
    }
    producer.close().await.unwrap();
    let admin = client.admin();
    until("a worker without lag", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let worked = |worker: &millstream::WorkerDescription| worker.lag == 0;
        (!described.workers.is_empty() && described.workers.iter().all(worked)).then_some(())
    })
    .await;
    let history = History::read(client, "found").await;
    let value = |value: Option<&Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    let records = history.records();
    records.map(|record| value(record.value.as_ref())).collect()
}

/// The files below a folder that hold these bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if let Ok(content) = fs::read(&path)
            && content.windows(bytes.len()).any(|window| window == bytes)
        {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test]
async fn a_secret_reaches_its_plugin_and_nothing_else() {
    let (mut broker, client, admin) = start().await;
    let mut set = broker.command(["plugin", "secret", "set", "api-key"]);
    let said = run_with_input(&mut set, &format!("{SECRET}\n")).success();
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(SECRET));
    admin
        .deploy_plugin(component(), spec(&["api-key"]))
        .await
        .unwrap();

    // The slips of the plugin: a log line, a reason, an error.
    let slips = ["log secret", "reject secret", "panic secret"];
    found(&client, &slips).await;
    let mut told = String::new();
    for words in [
        "plugin describe probe",
        "plugin describe probe --output json",
        "plugin list --output json",
        "plugin logs probe",
        "plugin dlq list probe --output json",
        "plugin secret list --output json",
        "broker describe --output json",
    ] {
        let finished = run(&mut broker.command(words.split(' '))).success();
        told.push_str(&finished.stdout);
        told.push_str(&finished.stderr);
    }
    assert!(
        told.contains("secret=api-key") && told.contains("it is ***"),
        "{told}"
    );
    assert!(!told.contains(SECRET), "{told}");
    assert!(!told.contains("****"), "as long as the secret: {told}");
    assert!(!broker.log().contains(SECRET));
    // Of all that was stored, one file has it, and that is the broker's alone.
    assert_eq!(
        files_with(broker.folder(), SECRET.as_bytes()),
        ["secrets.toml"]
    );
    let file = broker.broker_dir().join("secrets.toml");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);

    // The plugin has it; what it emits is its own affair. A new value needs no new deployment, and
    // outlives the broker.
    assert_eq!(found(&client, &["secret"]).await.last().unwrap(), SECRET);
    admin.set_secret("api-key", "another value").await.unwrap();
    assert_eq!(
        found(&client, &["secret"]).await.last().unwrap(),
        "another value"
    );
    broker.kill();
    broker.restart();
    assert_eq!(
        found(&client, &["secret"]).await.last().unwrap(),
        "another value"
    );
    let listed = admin.list_secrets().await.unwrap();
    assert_eq!(listed[0].deployments, [NAME]);
    // It is not taken from under it.
    let refused = admin.remove_secret("api-key").await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::SecretInUse), "{refused}");
    assert_eq!(
        refused.to_string(),
        format!("the secret api-key is granted to deployment {NAME}")
    );
    assert_eq!(
        found(&client, &["secret"]).await.last().unwrap(),
        "another value"
    );
    admin.remove_plugin(NAME).await.unwrap();
    admin.remove_secret("api-key").await.unwrap();
    assert!(admin.list_secrets().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_granted_or_not_there_is_refused_by_name() {
    let (_broker, _client, admin) = start().await;
    let refused = admin
        .deploy_plugin(component(), spec(&[]))
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Some(ErrorCode::SettingsRefused),
        "{refused}"
    );
    assert!(
        refused.to_string().contains(
            "the component imports `millstream:plugin/secrets@0.1.0`, but the deployment is granted no secret"
        ),
        "{refused}"
    );
    let refused = admin
        .deploy_plugin(component(), spec(&["api-key"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnknownSecret), "{refused}");
    assert!(
        refused.to_string().contains("no secret is named api-key"),
        "{refused}"
    );
    let short = admin.set_secret("api-key", "abc").await.unwrap_err();
    assert_eq!(
        short.to_string(),
        "the value of the secret api-key has 3 bytes; a secret has at least 4 and at most 16384"
    );
    admin.set_secret("api-key", SECRET).await.unwrap();
    let deterministic = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..spec(&["api-key"])
    };
    let refused = admin
        .deploy_plugin(component(), deterministic)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains(
            "a deterministic deployment cannot be granted secret=api-key: its outputs could differ"
        ),
        "{refused}"
    );
    assert!(admin.list_plugins().await.unwrap().is_empty());

    // What is at work goes on when its next revision is refused.
    admin
        .deploy_plugin(component(), spec(&["api-key"]))
        .await
        .unwrap();
    for refused in [
        admin.replace_plugin(component(), spec(&[])).await,
        admin.replay_plugin(NAME).spec(spec(&["token"])).await,
        admin.replay_plugin(NAME).spec(spec(&[])).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(
                refused.code(),
                Some(ErrorCode::SettingsRefused | ErrorCode::UnknownSecret)
            ),
            "{refused}"
        );
    }
    let listed = admin.list_plugins().await.unwrap();
    assert_eq!((listed.len(), listed[0].revision), (1, 1));

    let refused = admin.set_secret("a/b", SECRET).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest), "{refused}");
    let refused = admin.remove_secret("token").await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnknownSecret), "{refused}");
}

/// A time of the past, for a record.
const RECORD_TIME_MS: i64 = 1_500_000_000_000;

#[tokio::test]
async fn real_clocks_and_randomness_are_granted_and_taken_away() {
    let (broker, client, admin) = start().await;
    admin.set_secret("api-key", SECRET).await.unwrap();
    let deploy = |grants: &[&str]| {
        let mut command = broker.command(["plugin", "deploy"]);
        command.arg(probe());
        command.args([
            "--input=commands",
            "--output-topic=found=found",
            "--replace",
        ]);
        run(command.args(grants)).success()
    };
    let clock = async || {
        let producer = client.producer("commands").build().await.unwrap();
        let record = ProduceRecord::new("clock").timestamp_ms(RECORD_TIME_MS);
        producer.send(record).await.unwrap();
        producer.close().await.unwrap();
        let found = found(&client, &[]).await;
        found.last().unwrap().parse::<i64>().unwrap()
    };

    let deployed = deploy(&["--grant=clocks", "--grant=secret=api-key"]);
    let granted = "clocks secret=api-key";
    assert!(deployed.stdout.contains(granted), "{}", deployed.stdout);
    assert!(clock().await > RECORD_TIME_MS);
    let deployed = deploy(&["--grant=secret=api-key"]);
    assert!(!deployed.stdout.contains(granted), "{}", deployed.stdout);
    assert_eq!(clock().await, RECORD_TIME_MS);

    let history = run(&mut broker.command(["plugin", "history", NAME])).success();
    let last = history.stdout.lines().last().unwrap();
    assert!(last.trim_end().ends_with("grants"), "{last}");
    let rolled_back = run(&mut broker.command(["plugin", "rollback", NAME])).success();
    assert!(
        rolled_back.stdout.contains(granted),
        "{}",
        rolled_back.stdout
    );
    assert!(clock().await > RECORD_TIME_MS);
}

#[tokio::test]
async fn a_shadow_has_the_grants_of_what_it_is_to_become() {
    let (_broker, client, admin) = start().await;
    admin.set_secret("api-key", SECRET).await.unwrap();
    admin
        .deploy_plugin(component(), spec(&["api-key"]))
        .await
        .unwrap();
    found(&client, &["secret", "secret"]).await;
    let shadow = admin.replay_plugin(NAME).await.unwrap();
    assert_eq!(shadow.spec.grants, spec(&["api-key"]).grants);
    let listed = admin.list_secrets().await.unwrap();
    assert_eq!(listed[0].deployments, [NAME, &shadow.spec.name]);
    until("the shadow's outputs", async || {
        let history = History::read(&client, &shadow.spec.outputs[0].topic).await;
        let is_secret =
            |record: &ConsumedRecord| record.value.as_deref() == Some(SECRET.as_bytes());
        (history.len() == 2 && history.records().all(is_secret)).then_some(())
    })
    .await;
    let promoted = admin.promote_plugin(NAME, shadow.spec.name).await.unwrap();
    assert_eq!(promoted.spec.grants, spec(&["api-key"]).grants);
}
