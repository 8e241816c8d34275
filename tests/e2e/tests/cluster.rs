//! A cluster's life from the command line: it is made, grows, loses brokers, and gets rid of some.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use millstream::{Advice, Client, ErrorCode, Position, ProduceRecord, Profile};
use millstream_e2e::cluster::Cluster;
use millstream_e2e::command::run;
use millstream_e2e::patience::{until, until_blocking, within};
use millstream_e2e::small_disk::SmallDisk;
use millstream_e2e::wire::{Wire, hello};
use millstream_port::Port;
use millstream_protocol::api::Request;
use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::api::produce::{
    InitProducer, OpenProduce, ProduceAck, ProduceBatch, ProduceOpened, ProducerIdentity,
};
use millstream_protocol::batch::{BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The program refuses.
const REFUSED: i32 = 5;

async fn produce(client: &Client, values: impl Iterator<Item = u32>) {
    let producer = client.producer("orders").build().await.unwrap();
    for value in values {
        let sent = producer.send(ProduceRecord::new(value.to_string())).await;
        let acknowledged = within("a record kept", sent.unwrap()).await;
        acknowledged.unwrap();
    }
    within("everything stored", producer.close()).await.unwrap();
}

/// The values of so many records, from the first ones on.
async fn consume(client: &Client, records: usize) -> BTreeSet<u32> {
    let consumer = client.consumer().topics(["orders"]);
    let mut consumer = consumer.start(Position::Earliest).build().await.unwrap();
    let mut found = BTreeSet::new();
    for _ in 0..records {
        let record = within("a record", consumer.next()).await.unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        found.insert(value.parse().unwrap());
    }
    found
}

/// The states of the brokers, by number.
fn states(status: &Value) -> Vec<(u64, &str)> {
    let brokers = status["brokers"].as_array().unwrap().iter();
    brokers
        .map(|it| {
            let number = it["broker_id"].as_u64().unwrap();
            (number, it["state"].as_str().unwrap())
        })
        .collect()
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_loses_a_broker_and_gets_rid_of_another() {
    let mut cluster = Cluster::of(3);
    let status = cluster.until_well(2, 3);
    assert_eq!(states(&status), [(1, "live"), (2, "live"), (3, "live")]);
    let text = cluster.run(["cluster", "status"]).success().stdout;
    assert!(text.starts_with("all is well\n"), "{text}");

    let topic = ["topic", "create", "orders", "--partitions", "6"];
    let topic = topic.into_iter().chain(["--replication-factor", "3"]);
    cluster.run(topic).success();
    produce(&cluster.client(1).await, 0..100).await;

    cluster.member(2).kill();
    let status = cluster.until(3, "broker 2 is seen to be gone", |status| {
        states(status).contains(&(2, "gone"))
    });
    assert_ne!(status["problems"], json!([]));
    let text = cluster.run(["cluster", "status"]).success().stdout;
    assert!(!text.starts_with("all is well"), "{text}");
    produce(&cluster.client(3).await, 100..200).await;
    assert_eq!(consume(&cluster.client(3).await, 200).await.len(), 200);

    cluster.member(2).start();
    cluster.until_well(1, 3);

    // Three brokers for three replicas: there is nowhere to go.
    let drained = cluster.run(["cluster", "drain", "3", "--output", "json"]);
    let drained = drained.success().json();
    assert!(drained["stuck"].as_u64() >= Some(6), "{drained}");
    let kept = cluster.run(["cluster", "remove", "3"]).exited(2);
    assert!(
        kept.stderr.contains("replicas: drain it"),
        "{}",
        kept.stderr
    );
    let four = cluster.invite(&[]);
    cluster.member(four).start();
    cluster.until(1, "broker 3 keeps nothing", |status| {
        let three = &status["brokers"][2];
        three["broker_id"] == 3 && three["keeps"] == 0
    });
    cluster.run(["cluster", "remove", "3"]).success();
    let ended = cluster.member(3).wait();
    assert_eq!(ended.code(), Some(REFUSED), "{}", cluster.member(3).log());
    let status = cluster.until_well(2, 3);
    assert_eq!(states(&status), [(1, "live"), (2, "live"), (4, "live")]);
    let rebalanced = cluster.run(["cluster", "rebalance", "--output", "json"]);
    rebalanced.success();
    assert_eq!(consume(&cluster.client(four).await, 200).await.len(), 200);

    // Its ticket has served its purpose.
    fs::remove_dir_all(cluster.folder_of(3).join("data")).unwrap();
    let log = cluster.member(3).refused(REFUSED);
    assert!(
        log.contains("the join token of broker 3 is not known"),
        "{log}"
    );
}

#[test]
fn who_is_no_broker_of_the_cluster_is_not_let_in() {
    let mut cluster = Cluster::of(2);
    cluster.until_well(1, 2);

    // A ticket that has expired.
    let late = cluster.invite(&["--valid", "1ms"]);
    let log = cluster.member(late).refused(REFUSED);
    assert!(
        log.contains("the join token of broker 3 has expired"),
        "{log}"
    );

    // A copy of a data directory that was made while the broker was at work there: it seems to be its next start.
    let at_work = cluster.folder().join("at-work");
    copy_folder(&cluster.folder_of(2), &at_work);
    let mut copied = cluster.stranger(&at_work);
    let log = copied.refused(REFUSED);
    assert!(log.contains("one of them is a copy"), "{log}");

    // One that was made before the broker was started again, however often it is tried, and wherever the broker is.
    cluster.member(2).stop();
    let copy = cluster.folder().join("copy");
    copy_folder(&cluster.folder_of(2), &copy);
    cluster.member(2).start();
    cluster.until_well(1, 2);
    let mut copied = cluster.stranger(&copy);
    for _ in 0..3 {
        let log = copied.refused(REFUSED);
        assert!(log.contains("an old copy of the data directory"), "{log}");
    }
    cluster.member(2).stop();
    let data = cluster.folder_of(2).join("data");
    let own = cluster.folder().join("own");
    fs::rename(&data, &own).unwrap();
    copy_folder(&copy.join("data"), &data);
    let log = cluster.member(2).refused(REFUSED);
    assert!(log.contains("an old copy of the data directory"), "{log}");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&own, &data).unwrap();
    cluster.member(2).start();
    cluster.until_well(1, 2);

    // A broker of another cluster that has come by a certificate of this one's.
    let foreign = cluster.folder().join("foreign");
    copy_folder(&cluster.folder_of(late), &foreign);
    let _ = fs::remove_dir_all(foreign.join("data"));
    let ticket = foreign.join("ticket.toml");
    let text = fs::read_to_string(&ticket).unwrap();
    let lines = text
        .lines()
        .map(|line| match line.starts_with("cluster_id") {
            true => "cluster_id = \"0189dcd0-11aa-7000-8000-000000000001\"\n".to_owned(),
            false => format!("{line}\n"),
        });
    fs::write(&ticket, lines.collect::<String>()).unwrap();
    let mut foreign = cluster.stranger(&foreign);
    foreign.launch();
    until_blocking("a foreign broker that is told why", || {
        foreign
            .log()
            .contains("not linked: it is of cluster")
            .then_some(())
    });
    let status = cluster.status(1);
    assert_eq!(status["brokers"].as_array().unwrap().len(), 2, "{status}");

    // What was made once is not made again.
    let dir = cluster.dir();
    let again = run(&mut cluster.command(["cluster", "init", "--dir", &dir]));
    let again = again.exited(REFUSED);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_goes_on_without_what_is_lost_once_somebody_says_so() {
    let mut cluster = Cluster::of(3);
    cluster.until_well(1, 3);
    let topic = ["topic", "create", "orders", "--partitions", "3"];
    let topic = topic.into_iter().chain(["--replication-factor", "2"]);
    cluster.run(topic).success();
    produce(&cluster.client(1).await, 0..30).await;
    let described = |cluster: &Cluster| {
        let described = cluster.run(["topic", "describe", "orders", "--output", "json"]);
        described.success().json()["topics"][0]["partitions"].clone()
    };
    let whole = described(&cluster);
    let kept_by = |broker: u64| {
        let mut all = whole.as_array().unwrap().iter();
        let without = all.find(|it| !it["replicas"].as_array().unwrap().contains(&json!(broker)));
        without.expect("two replicas among three brokers")["partition"].to_string()
    };
    // It is not asked of a partition that is whole.
    let partition = kept_by(1);
    let recover = ["cluster", "recover", "orders", &partition, "--accept-loss"];
    let recover: Vec<&str> = recover.into_iter().chain(["--broker", "2"]).collect();
    let refused = cluster.run(&recover).exited(2);
    assert!(
        refused.stderr.contains("needs to lose nothing"),
        "{}",
        refused.stderr
    );

    cluster.member(3).kill();
    let gone = cluster.until(1, "what broker 3 kept takes no records", |status| {
        status["offline"]["count"] == 2
    });
    assert_eq!(
        gone["offline"]["first"][0]["reason"], "no_majority",
        "{gone}"
    );
    let shown = cluster.run(&recover).exited(REFUSED);
    assert!(
        shown
            .stdout
            .contains("would go on with the replica of broker 2"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("--yes"), "{shown:?}");
    cluster.run(recover.iter().chain(&["--yes"])).success();
    cluster.until(1, "the partition takes records", |status| {
        status["offline"]["count"] == 1
    });
    let left = described(&cluster);
    let number: usize = partition.parse().unwrap();
    assert_eq!(left[number]["replicas"], json!([2]), "{left}");
    assert_eq!(
        left[number]["log_end_offset"],
        left[number]["high_watermark"]
    );

    // With another broker it is as safe as it was.
    cluster.member(3).start();
    cluster.run(["cluster", "rebalance"]).success();
    let whole = described(&cluster);
    let replicas = whole[number]["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 2, "{whole}");
    cluster.until_well(1, 3);
}

#[test]
fn a_broker_whose_first_start_has_failed_starts_later() {
    let mut cluster = Cluster::init(Port::reserve().unwrap(), &[]);
    let occupied = UdpSocket::bind(cluster.address(1)).unwrap();
    let log = cluster.member(1).refused(REFUSED);
    assert!(log.contains("cannot listen on"), "{log}");
    drop(occupied);
    cluster.member(1).start();
    cluster.until_well(1, 1);
}

/// Replaces the time of day for the program that it is loaded into.
const SHIFTED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = next(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += atol(getenv("SHIFT_SECONDS"));
    return outcome;
}
"#;

#[test]
fn a_broker_with_a_wrong_clock_is_not_let_in() {
    let mut cluster = Cluster::of(1);
    let (source, library) = ("clock.c", "clock.so");
    fs::write(cluster.folder().join(source), SHIFTED_CLOCK).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", library, source])
        .current_dir(cluster.folder())
        .status();
    assert!(compiled.unwrap().success());
    let library = cluster.folder().join(library);
    let shifted = |seconds: &str| {
        let preload = format!("LD_PRELOAD={}", library.display());
        vec![
            OsString::from("env"),
            preload.into(),
            format!("SHIFT_SECONDS={seconds}").into(),
        ]
    };
    let two = cluster.invite(&[]);
    for (seconds, said) in [
        ("3600", "s ahead of that of broker 1"),
        ("-3600", "s behind that of broker 1"),
    ] {
        cluster.member(two).starts_within(shifted(seconds));
        let log = cluster.member(two).refused(REFUSED);
        assert!(log.contains("the clock of broker 2 is"), "{log}");
        assert!(log.contains(said), "{log}");
    }
    // Nothing of its ticket is used up by that.
    cluster.member(two).starts_within(shifted("5"));
    cluster.member(two).start();
    cluster.until_well(1, 2);
}

/// A leader whose followers are silent may have been replaced: what its log lacks of a producer, another one may have.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_of_nobody_does_not_say_what_a_producer_has_not_written() {
    let mut cluster = Cluster::of(3);
    cluster.until_well(1, 3);
    let topic = ["topic", "create", "orders", "--replication-factor", "3"];
    cluster.run(topic).success();
    let client = cluster.client(1).await;
    let topic = client.admin().describe_topic("orders").await.unwrap();
    let leader = topic.partitions[0].leader as usize;
    let profile = Profile::load(&Path::new(&cluster.dir()).join("profile.toml")).unwrap();
    let (identity, address) = (profile.identity().unwrap(), cluster.address(leader));
    let connect = async || {
        let wire = Wire::connect_as(&identity, &address).await;
        let _: HelloResponse = wire.ask(hello()).await.unwrap();
        wire
    };
    let wire = connect().await;
    let ProducerIdentity { producer_id, .. } = wire.ask(InitProducer {}).await.unwrap();
    let batch = |first_sequence| {
        let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
        builder.append(0, None, Some(b"one"), &[]).unwrap();
        let stamp = ProducerStamp {
            producer_id,
            producer_epoch: 0,
            first_sequence,
        };
        builder.finish(Some(stamp)).unwrap().to_vec()
    };
    let open = async |wire: &Wire| {
        let open = OpenProduce {
            topic: "orders".to_owned(),
            topic_id: None,
            partition: 0,
        };
        wire.open(Request::OpenProduce(open)).await
    };
    let mut stream = open(&wire).await;
    let _: ProduceOpened = stream.answer().await.unwrap();
    stream.send(&ProduceBatch {}, batch(0)).await;
    let _: ProduceAck = stream.answer().await.unwrap();
    drop(stream);

    let mut stream = open(&wire).await;
    let _: ProduceOpened = stream.answer().await.unwrap();
    for number in (1..=3).filter(|it| *it != leader) {
        cluster.member(number).signal(Signal::STOP);
    }
    stream.send(&ProduceBatch {}, batch(7)).await;
    // Or it lets go of its clients before.
    if let Some(refusal) = stream.refusal_if_open().await {
        let expected = [ErrorCode::NotEnoughReplicas, ErrorCode::NotLeader];
        assert!(expected.contains(&refusal.code), "{refusal}");
    }

    for number in (1..=3).filter(|it| *it != leader) {
        cluster.member(number).signal(Signal::CONT);
    }
    // Whoever leads now says so, once it knows that it does.
    let refused = until("a refusal that is sure", async || {
        let wire = connect().await;
        let mut stream = open(&wire).await;
        stream.send(&ProduceBatch {}, batch(7)).await;
        let refusal = stream.refusal_if_open().await?;
        (refusal.code.advice() == Advice::GiveUp).then_some(refusal.code)
    });
    assert_eq!(refused.await, ErrorCode::OutOfOrderSequence);
}

/// What a small disk takes does not stop partitions of which others have room.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_full_disk_leads_nothing() {
    let mut cluster = Cluster::of(2);
    let small = cluster.invite(&[]);
    let data = cluster.folder_of(small).join("data");
    let Some(disk) = SmallDisk::mount(&data, 48 << 20) else {
        eprintln!("not tested: this machine lets no process mount a small disk for itself");
        return;
    };
    cluster.member(small).starts_within(disk.within());
    cluster.member(small).start();
    cluster.until_well(1, 3);
    let topic = ["--partitions", "3", "--replication-factor", "3"];
    let create = ["topic", "create", "orders"].into_iter().chain(topic);
    cluster.run(create).success();
    let client = cluster.client(1).await;
    let admin = client.admin();
    let leaders = async || {
        let topic = admin.describe_topic("orders").await.ok()?;
        Some(
            topic
                .partitions
                .iter()
                .map(|it| it.leader as usize)
                .collect::<BTreeSet<_>>(),
        )
    };
    until("a topic that it leads a part of", async || {
        leaders().await?.contains(&small).then_some(())
    })
    .await;
    let producer = client.producer("orders").build().await.unwrap();
    let record = |partition| ProduceRecord::new(vec![b'x'; 512 << 10]).partition(partition);
    // More than fits there, of what goes to any partition.
    for number in 0..120 {
        let sent = producer.send(record(number % 3)).await.unwrap();
        within("a record kept", sent).await.unwrap();
    }
    assert!(!leaders().await.unwrap().contains(&small));
    assert!(cluster.member(small).is_running());
    within("everything stored", producer.close()).await.unwrap();
    let status = cluster.run(["cluster", "status"]).stdout;
    assert!(status.contains("the disk of broker 3 is full"), "{status}");
}
