//! Disks that are full, fail, are in use, or hold something else.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use millstream::{
    Cleanup, ConsumedRecord, DeploymentSpec, ErrorCode, OutputSpec, Position, ProduceRecord,
    TableSpec, TableState,
};
use millstream_e2e::artifacts::{drill, enrich};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{Finished, run};
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::{until, within};
use millstream_e2e::wire::{Wire, WireStream};
use millstream_protocol::WireError;
use millstream_protocol::api::Request;
use millstream_protocol::api::produce::{OpenProduce, ProduceAck, ProduceBatch, ProduceOpened};
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The topic of the load, and the one that fills the disk.
const ORDERS: &str = "orders";
const BALLAST: &str = "ballast";

/// Where a plugin's outputs go, one for each record of the load.
const COUNTED: &str = "counted";

/// Of the broker's command line.
const NO_OPTIONS: [&str; 0] = [];

/// The small disk, bytes.
const DISK_BYTES: u64 = 24 << 20;

/// Programs in front of which a process has mounts of its own: by a user of its own, or as root.
const NAMESPACES: [&[&str]; 2] = [
    &["unshare", "--user", "--map-root-user", "--mount"],
    &["unshare", "--mount"],
];

/// A command line that runs what follows with a small disk mounted on a directory.
fn on_small_disk(namespace: &[&str], directory: &Path) -> Vec<OsString> {
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$0\" && exec \"$@\"");
    let words = namespace.iter().copied().chain(["sh", "-c", &mount]);
    words
        .map(OsString::from)
        .chain([directory.into()])
        .collect()
}

/// The namespace that this machine grants, if any.
fn namespace() -> Option<&'static [&'static str]> {
    let folder = tempfile::tempdir().expect("a folder");
    NAMESPACES.into_iter().find(|namespace| {
        let command = on_small_disk(namespace, folder.path());
        let mut probe = std::process::Command::new(&command[0]);
        probe.args(&command[1..]).arg("true");
        probe.output().is_ok_and(|output| output.status.success())
    })
}

/// A broker on a small disk, if this machine lets a process mount one for itself.
fn broker_on_small_disk(options: &[&str]) -> Option<Broker> {
    let Some(namespace) = namespace() else {
        eprintln!("not tested: this machine lets no process mount a small disk for itself");
        return None;
    };
    let within = |directory: &Path| on_small_disk(namespace, directory);
    Some(Broker::start_within(within, options.iter().copied()))
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the far future")
}

fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    builder
        .append(now_ms(), None, Some(&vec![b'x'; bytes]), &[])
        .expect("room");
    builder.finish(None).expect("a batch")
}

async fn open_produce(wire: &Wire, topic: &str) -> WireStream {
    let open = OpenProduce {
        topic: topic.to_owned(),
        topic_id: None,
        partition: 0,
    };
    let mut stream = wire.open(Request::OpenProduce(open)).await;
    let _: ProduceOpened = stream.answer().await.expect("an open produce stream");
    stream
}

/// Produces ballast until the broker refuses even a small batch. Gives what it stored, bytes.
async fn fill(wire: &Wire) -> u64 {
    let mut stored = 0;
    for bytes in [1 << 20, 64 << 10, 4 << 10] {
        let mut stream = open_produce(wire, BALLAST).await;
        loop {
            stream.send(&ProduceBatch {}, batch(bytes)).await;
            match stream.answer::<ProduceAck>().await {
                Ok(_) => stored += bytes as u64,
                Err(WireError {
                    code: ErrorCode::StorageFull,
                    message,
                }) => {
                    assert!(message.contains("ballast-0: the disk is full"), "{message}");
                    break;
                }
                Err(error) => panic!("not for want of space: {error:?}"),
            }
            assert!(stored <= DISK_BYTES, "more was stored than fits");
        }
    }
    stored
}

/// Takes what topics leave of a broker's small disk to what cannot wait. Removing the file gives it back.
fn take_the_rest(broker: &mut Broker) -> PathBuf {
    let seen = PathBuf::from(format!("/proc/{}/root", broker.process_id()));
    let inside = broker.broker_dir();
    let path = seen.join(inside.strip_prefix("/").unwrap()).join("rest");
    let mut file = File::create(&path).unwrap();
    for bytes in [64 << 10, 4 << 10] {
        let zeros = vec![0; bytes];
        let error = loop {
            if let Err(error) = file.write_all(&zeros) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_waited_out() {
    let Some(mut broker) = broker_on_small_disk(&[]) else {
        return;
    };
    let client = broker.client().await;
    let admin = client.admin();
    admin.create_topic(ORDERS).partitions(2).await.unwrap();
    admin.create_topic(BALLAST).await.unwrap();
    admin
        .set_secret("old", "kept when there was room")
        .await
        .unwrap();
    let spec = DeploymentSpec {
        inputs: vec![ORDERS.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: COUNTED.to_owned(),
        }],
        ..DeploymentSpec::new("drill")
    };
    admin.create_topic(COUNTED).await.unwrap();
    let component = Bytes::from(fs::read(drill()).unwrap());
    admin.deploy_plugin(component, spec).await.unwrap();
    let mut load = Load::start(&broker, ORDERS, 2).await;
    load.advance(200).await;
    let acked_before = load.acked();

    let wire = Wire::greeted(&broker).await;
    let ballast = fill(&wire).await;
    assert!(
        ballast > DISK_BYTES / 2,
        "only {ballast} bytes filled the disk"
    );
    assert!(broker.is_running());
    // What is there can be read.
    let orders = History::read(&client, ORDERS).await;
    assert!(orders.len() as u64 >= acked_before);
    let full = History::read(&client, BALLAST).await;
    let kept: usize = full
        .records()
        .map(|record| record.value.as_ref().map_or(0, Bytes::len))
        .sum();
    assert_eq!(
        kept as u64, ballast,
        "a refused batch was kept, or an acknowledged one lost"
    );

    // A producer that does not wait for ever is told why its record went nowhere.
    let impatient = client
        .producer(BALLAST)
        .delivery_timeout(Duration::from_secs(1));
    let impatient = impatient.build().await.unwrap();
    let record = ProduceRecord::new(vec![7; 1 << 20]);
    let refused = impatient.send(record).await.unwrap().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::StorageFull), "{refused}");

    // What is no log has room yet.
    admin.create_topic("another").await.unwrap();
    admin.set_secret("small", "four").await.unwrap();
    admin.remove_secret("small").await.unwrap();
    let rest = take_the_rest(&mut broker);
    let impatient = broker
        .impatient_client(Duration::from_secs(1))
        .await
        .admin();
    let setting = impatient.set_secret("new", "x".repeat(8_000));
    let refused = setting.await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::StorageFull), "{refused}");
    let names = async || {
        let secrets = admin.list_secrets().await.unwrap();
        secrets.into_iter().map(|it| it.name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["old"]);

    fs::remove_file(rest).unwrap();
    // Space is freed by the means of the broker itself, and the producers go on by themselves.
    admin.delete_topic(BALLAST).await.unwrap();
    load.advance(200).await;
    let acked = load.finish().await;
    let history = History::read(&client, ORDERS).await;
    let verdict = history.judge(&acked);
    println!("{ballast} bytes filled the disk; {verdict:?}");
    assert!(
        verdict.is_clean() && history.len() == acked.len(),
        "{verdict:?}"
    );
    assert!(orders.is_part_of(&history));
    admin.set_secret("new", "x".repeat(8_000)).await.unwrap();
    assert_eq!(names().await, ["new", "old"]);
    // So does a plugin, which has lost none and counted none twice.
    until("an output of every record", async || {
        let topic = admin.describe_topic(COUNTED).await.ok()?;
        (topic.partitions[0].known_log().ok()?.high_watermark >= acked.len() as u64).then_some(())
    })
    .await;
    let counted = History::read(&client, COUNTED).await;
    let value = |record: &ConsumedRecord| {
        let value = record.value.as_deref().unwrap_or_default();
        let words = value.split(|byte| *byte == b' ');
        words.into_iter().next().unwrap_or_default().to_vec()
    };
    let outputs: BTreeSet<_> = counted.records().map(value).collect();
    let inputs: BTreeSet<_> = history.records().map(value).collect();
    assert_eq!((outputs, counted.len()), (inputs, acked.len()));
}

/// What the table has for a key.
fn place(key: u64) -> String {
    format!("{{\"pad\":\"{key:0>1000}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_outlives_a_full_disk() {
    const PLACES: &str = "places";
    const NAME: &str = "enrich";
    /// Keys of the table: their values are a twelfth of the disk.
    const KEYS: u64 = DISK_BYTES / 12_000;

    // Every change is to be written to the table's file.
    let Some(mut broker) = broker_on_small_disk(&["--state-overlay", "256"]) else {
        return;
    };
    let client = broker.client().await;
    let admin = client.admin();
    for topic in [ORDERS, COUNTED] {
        admin.create_topic(topic).await.unwrap();
    }
    let places = admin.create_topic(PLACES).cleanup(Cleanup::Compact);
    places.await.unwrap();
    let producer = client.producer(PLACES).build().await.unwrap();
    for key in 0..KEYS {
        let record = ProduceRecord::new(place(key)).key(key.to_string());
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
    // There is room for the topics and the plugin, and not for the table.
    let rest = take_the_rest(&mut broker);
    let file = File::options().write(true).open(&rest).unwrap();
    let taken = file.metadata().unwrap().len();
    file.set_len(taken - DISK_BYTES / 10).unwrap();
    drop(file);
    let spec = DeploymentSpec {
        inputs: vec![ORDERS.to_owned()],
        outputs: vec![OutputSpec {
            name: "enriched".to_owned(),
            topic: COUNTED.to_owned(),
        }],
        tables: vec![TableSpec {
            name: "reference".to_owned(),
            topic: PLACES.to_owned(),
        }],
        ..DeploymentSpec::new(NAME)
    };
    let component = Bytes::from(fs::read(enrich()).unwrap());
    admin.deploy_plugin(component, spec).await.unwrap();
    let table = async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        described.tables.into_iter().next()
    };

    until("a table that fails", async || {
        let table = table().await?;
        matches!(table.state, TableState::Failed { .. }).then_some(())
    })
    .await;
    assert!(broker.is_running());
    fs::remove_file(rest).unwrap();
    until("the table to have its topic again", async || {
        let table = table().await?;
        (table.state == TableState::Following && table.lag == 0).then_some(())
    })
    .await;
    let producer = client.producer(ORDERS).build().await.unwrap();
    for key in 0..KEYS {
        let record = ProduceRecord::new("{}").key(key.to_string());
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
    until("an output of every record", async || {
        let topic = admin.describe_topic(COUNTED).await.ok()?;
        (topic.partitions[0].known_log().ok()?.high_watermark >= KEYS).then_some(())
    })
    .await;
    let joined = History::read(&client, COUNTED).await;
    let joined = joined.records().map(|record| {
        let value = record.value.clone().unwrap_or_default();
        String::from_utf8(value.to_vec()).unwrap()
    });
    let expected = (0..KEYS).map(|key| format!("{{\"reference\":{}}}", place(key)));
    assert_eq!(joined.collect::<BTreeSet<_>>(), expected.collect());
}

/// Lets files of a process grow to this many bytes.
fn limit_files(broker: &mut Broker, bytes: u64) {
    let pid = i32::try_from(broker.process_id())
        .ok()
        .and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(bytes),
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("a limit for a process of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_stops_the_broker_and_costs_nothing_acknowledged() {
    // The signal that goes with the limit is ignored, so that the write itself fails.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    let mut broker = Broker::start_within(|_| ignoring.map(OsString::from).to_vec(), NO_OPTIONS);
    let admin = broker.quick_client().await.admin();
    admin.create_topic(ORDERS).partitions(2).await.unwrap();
    let mut load = Load::start(&broker, ORDERS, 2).await;
    load.advance(200).await;
    let described = admin.describe_topic(ORDERS).await.unwrap();
    limit_files(
        &mut broker,
        described.partitions[0].known_log().unwrap().size_bytes + 2_000,
    );

    // It stops by itself: nothing that it could still say would be certain.
    let status = broker.wait();
    assert_eq!(
        status.code(),
        Some(7),
        "{status}; the log:\n{}",
        broker.log()
    );
    let log = broker.log();
    assert!(log.contains("storage of partition orders-"), "{log}");
    assert!(
        log.contains("it recovers what was acknowledged"),
        "no advice in:\n{log}"
    );

    broker.restart();
    load.advance(200).await;
    let acked = load.finish().await;
    let history = History::read(&broker.client().await, ORDERS).await;
    let verdict = history.judge(&acked);
    assert!(
        verdict.is_clean() && history.len() == acked.len(),
        "{verdict:?}"
    );
}

/// Starts a broker on a directory where it cannot.
fn start_on(broker: &Broker, data_dir: &Path, listen: &str) -> Finished {
    let mut command = broker.command(["dev", "--output", "json", "--listen", listen, "--data-dir"]);
    run(command.arg(data_dir))
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let mut broker = Broker::start();
    let (data_dir, process_id) = (broker.data_dir(), broker.process_id());
    let profile = fs::read(broker.profile_path()).unwrap();
    let refused = start_on(&broker, &data_dir, "127.0.0.1:0").exited(5);
    let error = refused.json_error();
    let message = error["message"].as_str().unwrap();
    assert!(
        message.ends_with(&format!("is in use by process {process_id}")),
        "{message}"
    );
    assert!(
        error["try"].as_str().unwrap().contains("--data-dir"),
        "{error}"
    );
    assert!(refused.stdout.is_empty(), "{refused:#?}");
    // The one that runs is as it was.
    assert_eq!(fs::read(broker.profile_path()).unwrap(), profile);
    run(&mut broker.command(["topic", "list"])).success();

    let elsewhere = broker.folder().join("elsewhere");
    let error = start_on(&broker, &elsewhere, &broker.address())
        .exited(5)
        .json_error();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("cannot listen on"),
        "{error}"
    );
    assert!(
        error["try"].as_str().unwrap().contains("--listen"),
        "{error}"
    );
}

#[test]
fn a_data_directory_of_another_version_or_owner_is_refused_and_left_alone() {
    let mut broker = Broker::start();
    broker.kill();
    let identity_file = broker.broker_dir().join("broker.toml");
    let written = fs::read_to_string(&identity_file).unwrap();
    let newer = written.replace("format_version = 8", "format_version = 9");
    assert_ne!(newer, written);
    let cases = [
        (
            newer.as_str(),
            5,
            "has format version 9, this broker reads version 8",
        ),
        ("nonsense", 7, "is not a broker's identity"),
    ];
    for (content, code, message) in cases {
        fs::write(&identity_file, content).unwrap();
        let error = start_on(&broker, &broker.data_dir(), "127.0.0.1:0")
            .exited(code)
            .json_error();
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
        assert!(error["try"].is_string(), "{error}");
        assert_eq!(fs::read_to_string(&identity_file).unwrap(), content);
    }
    // Without its identity, what lies there is not taken for a new directory.
    fs::remove_file(&identity_file).unwrap();
    let error = start_on(&broker, &broker.data_dir(), "127.0.0.1:0")
        .exited(5)
        .json_error();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("holds no broker's data"),
        "{error}"
    );

    fs::write(&identity_file, written).unwrap();
    broker.restart();
}

#[tokio::test]
async fn more_partitions_than_files_may_be_open_are_refused_before_anything_is_made() {
    let few = ["sh", "-c", "ulimit -n 1200; exec \"$@\"", "sh"];
    let broker = Broker::start_within(|_| few.map(OsString::from).to_vec(), NO_OPTIONS);
    let admin = broker.client().await.admin();
    let refused = admin
        .create_topic(ORDERS)
        .partitions(600)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest), "{refused}");
    let message = refused.to_string();
    assert!(message.contains("partitions in the cluster"), "{message}");
    assert!(admin.list_topics().await.unwrap().is_empty());
    admin.create_topic(ORDERS).partitions(200).await.unwrap();
}

#[tokio::test]
async fn damage_that_a_read_has_met_is_described() {
    let broker = Broker::start();
    let client = broker.client().await;
    client.admin().create_topic(ORDERS).await.unwrap();
    let producer = client.producer(ORDERS).build().await.unwrap();
    // More than is kept in memory.
    for _ in 0..10 {
        let sent = producer.send(ProduceRecord::new(vec![7; 1 << 20])).await;
        sent.unwrap().await.unwrap();
    }
    let described = client.admin().describe_topic(ORDERS).await.unwrap();
    assert_eq!(described.partitions[0].known_log().unwrap().damage, None);
    let partition = described.topic_id.to_string();
    let folder = broker.broker_dir().join("topics").join(partition).join("0");
    let segment = folder.join(format!("{:020}.log", 0));
    let file = fs::OpenOptions::new().write(true).open(segment);
    file.expect("the segment")
        .write_all_at(&[8], 500_000)
        .expect("a flipped bit");

    let mut consumer = client
        .consumer()
        .assign([(ORDERS, 0, Position::Earliest)])
        .build()
        .await
        .unwrap();
    let error = within("an error", consumer.next()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::PartitionDamaged), "{error}");
    let described = client.admin().describe_topic(ORDERS).await.unwrap();
    assert!(
        described.partitions[0]
            .known_log()
            .unwrap()
            .damage
            .is_some()
    );
}
