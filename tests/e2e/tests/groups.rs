//! Consumer groups: sharing, take-over, slow handlers, offsets.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use millstream::{
    Admin, Client, ConsumedRecord, Consumer, ErrorCode, GroupDescription, GroupState, OffsetCommit,
    Position, ProduceRecord,
};
use millstream_e2e::broker::Broker;
use millstream_e2e::patience::{until, within};
use millstream_e2e::process::Process;
use millstream_e2e::random::Random;

const TOPIC: &str = "work";

/// How soon a dead member's partitions are another's.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(2);

/// When the first record of a test was made; each later one is a second younger.
const FIRST_MS: i64 = 1_700_000_000_000;

/// A broker with a topic, and who looks after it.
struct Stage {
    broker: Broker,
    client: Client,
    admin: Admin,
}

impl Stage {
    async fn with_partitions(partitions: u32) -> Self {
        let broker = Broker::start();
        let client = broker.quick_client().await;
        let admin = client.admin();
        admin
            .create_topic(TOPIC)
            .partitions(partitions)
            .await
            .unwrap();
        Self {
            broker,
            client,
            admin,
        }
    }

    /// Produces records `from..to` in turn to all partitions: the value is the record's number.
    async fn produce(&self, from: u32, to: u32) {
        let producer = self.client.producer(TOPIC).build().await.unwrap();
        for number in from..to {
            let record = ProduceRecord::new(number.to_string())
                .partition(number % producer.partitions())
                .timestamp_ms(FIRST_MS + i64::from(number) * 1_000);
            producer.send(record).await.unwrap();
        }
        producer.close().await.unwrap();
    }

    /// A member on a connection of its own, which commits only when told.
    async fn member(&self, group: &str, name: &str) -> Consumer {
        let client = self.broker.quick_client().await;
        let builder = client
            .consumer()
            .group(group)
            .member_name(name)
            .topics([TOPIC]);
        builder
            .start(Position::Earliest)
            .manual_commit()
            .build()
            .await
            .unwrap()
    }

    /// A member in a process of its own.
    fn member_process(&self, group: &str) -> Process {
        let mut command = self
            .broker
            .command(["consume", TOPIC, "--group", group, "--follow"]);
        Process::spawn(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    async fn describe(&self, group: &str) -> GroupDescription {
        self.admin.describe_group(group).await.unwrap()
    }

    /// Waits until the group is stable and its members own these numbers of partitions.
    async fn shared_as(&self, group: &str, mut owned: Vec<usize>) -> GroupDescription {
        owned.sort_unstable();
        until(&format!("group {group} shared as {owned:?}"), async || {
            let described = self.describe(group).await;
            let mut now: Vec<_> = described
                .members
                .iter()
                .map(|member| member.owned.len())
                .collect();
            now.sort_unstable();
            (described.state == GroupState::Stable && now == owned).then_some(described)
        })
        .await
    }
}

fn number(record: &ConsumedRecord) -> u32 {
    let text = std::str::from_utf8(record.value.as_deref().expect("a value")).expect("a text");
    text.parse().expect("a number")
}

async fn next(consumer: &mut Consumer) -> ConsumedRecord {
    within("a record", consumer.next()).await.expect("a record")
}

/// Takes records until `count` different ones came.
async fn take(consumer: &mut Consumer, count: usize) -> BTreeSet<u32> {
    let mut taken = BTreeSet::new();
    while taken.len() < count {
        taken.insert(number(&next(consumer).await));
    }
    taken
}

fn lag(group: &GroupDescription) -> u64 {
    group.partitions.iter().map(|partition| partition.lag).sum()
}

#[tokio::test]
async fn one_group_shares_the_records_and_each_group_sees_them_all() {
    let stage = Stage::with_partitions(4).await;
    let mut one = stage.member("queue", "one").await;
    let mut two = stage.member("queue", "two").await;
    let mut auditor = stage.member("audit", "auditor").await;
    stage.shared_as("queue", vec![2, 2]).await;
    stage.shared_as("audit", vec![4]).await;
    stage.produce(0, 1_000).await;

    let (by_one, by_two, by_auditor) = tokio::join!(
        take(&mut one, 500),
        take(&mut two, 500),
        take(&mut auditor, 1_000)
    );
    let all: BTreeSet<u32> = (0..1_000).collect();
    assert_eq!(&by_one | &by_two, all, "the group missed records");
    assert!(
        by_one.is_disjoint(&by_two),
        "both members got the same records"
    );
    assert_eq!(by_auditor, all, "the other group missed records");
}

#[tokio::test]
async fn a_killed_members_partitions_move_within_two_seconds() {
    let stage = Stage::with_partitions(4).await;
    let mut survivor = stage.member("billing", "survivor").await;
    for round in 0..3 {
        let mut doomed = stage.member_process("billing");
        stage.shared_as("billing", vec![2, 2]).await;
        // From here on nobody owns what the process owned, until the broker notices.
        let killed = Instant::now();
        doomed.kill();
        stage.shared_as("billing", vec![4]).await;
        let took = killed.elapsed();
        println!("round {round}: taken over within {took:?}");
        assert!(
            took < TAKE_OVER_LIMIT,
            "round {round}: taken over only after {took:?}"
        );
    }
    stage.produce(0, 100).await;
    assert_eq!(take(&mut survivor, 100).await, (0..100).collect());
}

#[tokio::test]
async fn a_slow_handler_costs_no_partition() {
    let stage = Stage::with_partitions(2).await;
    stage.produce(0, 10).await;
    let mut slow = stage.member("slow", "slow").await;
    let before = stage.shared_as("slow", vec![2]).await;
    let first = next(&mut slow).await;

    // It handles this record for longer than the broker takes to notice that a member is dead,
    // three times over.
    let _witness = stage.member("others", "witness").await;
    for _ in 0..3 {
        let mut doomed = stage.member_process("others");
        stage.shared_as("others", vec![1, 1]).await;
        doomed.kill();
        stage.shared_as("others", vec![2]).await;
    }

    assert_eq!(
        stage.describe("slow").await,
        before,
        "the group moved while its member worked"
    );
    let mut taken = take(&mut slow, 9).await;
    assert!(
        taken.insert(number(&first)),
        "the record was handed out again"
    );
    slow.commit().await.unwrap();
    assert_eq!(lag(&stage.describe("slow").await), 0);
}

#[tokio::test]
async fn a_standby_takes_over_where_the_owner_stopped() {
    let stage = Stage::with_partitions(1).await;
    stage.produce(0, 10).await;
    let mut owner = stage.member("one", "owner").await;
    stage.shared_as("one", vec![1]).await;
    let mut standby = stage.member("one", "standby").await;
    stage.shared_as("one", vec![0, 1]).await;
    assert!(
        standby.assignment().is_empty(),
        "the standby owns something"
    );

    assert_eq!(take(&mut owner, 4).await, (0..4).collect());
    owner.commit().await.unwrap();
    within("leaving", owner.leave()).await.unwrap();
    assert_eq!(number(&next(&mut standby).await), 4);
    stage.shared_as("one", vec![1]).await;
}

#[tokio::test]
async fn a_group_resumes_at_its_offsets_after_the_broker_was_killed() {
    let mut stage = Stage::with_partitions(2).await;
    stage.produce(0, 100).await;
    let mut member = stage.member("resume", "member").await;
    let before = take(&mut member, 60).await;
    member.commit().await.unwrap();
    let committed = stage.admin.group_offsets("resume").await.unwrap();
    let generation = stage.describe("resume").await.generation;

    stage.broker.kill();
    stage.broker.restart();
    assert_eq!(
        stage.admin.group_offsets("resume").await.unwrap(),
        committed
    );

    // The same consumer goes on by itself, with what was not committed and nothing else.
    let after = take(&mut member, 40).await;
    assert!(
        before.is_disjoint(&after),
        "committed records were handed out again"
    );
    assert_eq!(&before | &after, (0..100).collect());
    let described = stage.shared_as("resume", vec![2]).await;
    assert!(
        described.generation > generation,
        "a generation was used twice"
    );
    member.commit().await.unwrap();
    within("leaving", member.leave()).await.unwrap();

    // And so does a new one, after the broker was killed again.
    stage.broker.kill();
    stage.broker.restart();
    stage.produce(100, 110).await;
    let mut successor = stage.member("resume", "successor").await;
    assert_eq!(take(&mut successor, 10).await, (100..110).collect());
}

/// A member that handles a few records, leaves and comes back, until everything is handled. It
/// commits each record before it asks for the next.
async fn come_and_go(stage: &Stage, name: &str, handled: &Mutex<Vec<u32>>, records: usize) -> u32 {
    let mut random = Random::seeded(name.len() as u64);
    let mut stays = 0;
    let left = || records - handled.lock().expect("a lock").len();
    while left() > 0 {
        let mut member = stage.member("churn", name).await;
        stays += 1;
        for _ in 0..random.between(5..60) {
            let record = tokio::select! {
                record = member.next() => record.expect("a record"),
                () = until("everything handled", async || (left() == 0).then_some(())) => break,
            };
            handled.lock().expect("a lock").push(number(&record));
            member.commit().await.expect("a commit");
        }
        within("leaving", member.leave())
            .await
            .expect("a member that leaves");
    }
    stays
}

#[tokio::test]
async fn members_that_come_and_go_handle_every_record_once() {
    const RECORDS: u32 = 1_000;
    let stage = Stage::with_partitions(5).await;
    stage.produce(0, RECORDS).await;
    let handled = Mutex::new(Vec::new());
    let records = RECORDS as usize;
    let (one, two, three) = tokio::join!(
        come_and_go(&stage, "a", &handled, records),
        come_and_go(&stage, "bb", &handled, records),
        come_and_go(&stage, "ccc", &handled, records),
    );
    let mut handled = handled.into_inner().unwrap();
    handled.sort_unstable();
    println!("{} stays of three members", one + two + three);
    assert_eq!(
        handled,
        (0..RECORDS).collect::<Vec<_>>(),
        "some came twice or not at all"
    );
    assert!(one + two + three >= 12, "nobody came and went");
}

#[tokio::test]
async fn a_client_with_default_settings_finds_a_restarted_broker() {
    let mut stage = Stage::with_partitions(1).await;
    let client = stage.broker.client().await;
    let mut consumer = client
        .consumer()
        .topics([TOPIC])
        .start(Position::Earliest)
        .build()
        .await
        .unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    producer
        .send(ProduceRecord::new("0"))
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(number(&next(&mut consumer).await), 0);

    stage.broker.kill();
    stage.broker.restart();
    let restarted = Instant::now();
    producer
        .send(ProduceRecord::new("1"))
        .await
        .unwrap()
        .await
        .unwrap();
    println!("stored {:?} after the restart", restarted.elapsed());
    assert_eq!(number(&next(&mut consumer).await), 1);
}

#[tokio::test]
async fn a_live_group_is_reset_to_every_kind_of_position() {
    let stage = Stage::with_partitions(1).await;
    stage.produce(0, 20).await;
    let mut member = stage.member("reset", "member").await;
    assert_eq!(take(&mut member, 20).await.len(), 20);
    member.commit().await.unwrap();

    let mut generation = stage.describe("reset").await.generation;
    let positions = [
        (Position::Earliest, 0),
        (Position::Offset(7), 7),
        (Position::Time(FIRST_MS + 12_500), 13),
    ];
    for (position, expected) in positions {
        let reset = stage
            .admin
            .reset_group("reset", TOPIC, [], position)
            .await
            .unwrap();
        assert!(
            reset.generation > generation,
            "{position:?}: no new generation"
        );
        generation = reset.generation;
        assert_eq!(reset.offsets.len(), 1, "{position:?}");
        assert_eq!(reset.offsets[0].offset, u64::from(expected), "{position:?}");
        // To the end: what the member has fetched before it hears of a reset, it may still hand out.
        let left: BTreeSet<u32> = (expected..20).collect();
        assert_eq!(take(&mut member, left.len()).await, left, "{position:?}");
    }
    let reset = stage
        .admin
        .reset_group("reset", TOPIC, [0], Position::Latest)
        .await
        .unwrap();
    assert!(reset.generation > generation && reset.offsets[0].offset == 20);
    stage.produce(20, 21).await;
    assert_eq!(number(&next(&mut member).await), 20);
    stage.shared_as("reset", vec![1]).await;
}

#[tokio::test]
async fn a_consumer_seeks_by_offset_and_by_time() {
    let stage = Stage::with_partitions(1).await;
    stage.produce(0, 20).await;
    let mut member = stage.member("seek", "member").await;
    assert_eq!(number(&next(&mut member).await), 0);
    let seeks = [
        (Position::Offset(15), 15),
        (Position::Time(FIRST_MS + 4_000), 4),
        (Position::Time(FIRST_MS + 4_001), 5),
        (Position::Earliest, 0),
    ];
    for (position, expected) in seeks {
        within("seeking", member.seek(TOPIC, 0, position))
            .await
            .unwrap();
        assert_eq!(number(&next(&mut member).await), expected, "{position:?}");
    }
    assert!(
        member.seek(TOPIC, 7, Position::Earliest).await.is_err(),
        "it does not read partition 7"
    );
}

#[tokio::test]
async fn describe_shows_the_lag() {
    let stage = Stage::with_partitions(2).await;
    stage.produce(0, 100).await;
    let mut member = stage.member("lag", "member").await;
    stage.shared_as("lag", vec![2]).await;
    assert_eq!(
        lag(&stage.describe("lag").await),
        100,
        "nothing is committed yet"
    );
    take(&mut member, 30).await;
    member.commit().await.unwrap();
    assert_eq!(lag(&stage.describe("lag").await), 70);
    take(&mut member, 70).await;
    member.commit().await.unwrap();
    let described = stage.describe("lag").await;
    assert_eq!(lag(&described), 0);
    for partition in &described.partitions {
        assert_eq!(
            (partition.committed_offset, partition.high_watermark),
            (Some(50), 50)
        );
        assert_eq!(
            partition.owner.as_deref(),
            Some(described.members[0].member_id.as_str())
        );
    }
    stage.produce(100, 101).await;
    assert_eq!(lag(&stage.describe("lag").await), 1);
}

#[tokio::test]
async fn a_group_with_members_is_neither_deleted_nor_committed_for() {
    let stage = Stage::with_partitions(1).await;
    let member = stage.member("kept", "member").await;
    stage.shared_as("kept", vec![1]).await;
    let code = |outcome: Result<(), millstream::Error>| outcome.unwrap_err().code();
    let commit = || OffsetCommit {
        topic: TOPIC.to_owned(),
        partition: 0,
        offset: 0,
        metadata: "by hand".to_owned(),
    };
    assert_eq!(
        code(stage.admin.delete_group("kept").await),
        Some(ErrorCode::GroupNotEmpty)
    );
    let committed = stage
        .admin
        .commit_group_offsets("kept", vec![commit()])
        .await;
    assert_eq!(code(committed), Some(ErrorCode::GroupNotEmpty));
    assert_eq!(
        code(stage.admin.delete_group("other").await),
        Some(ErrorCode::UnknownGroup)
    );

    within("leaving", member.leave()).await.unwrap();
    until("an empty group", async || {
        (stage.describe("kept").await.state == GroupState::Empty).then_some(())
    })
    .await;
    stage
        .admin
        .commit_group_offsets("kept", vec![commit()])
        .await
        .unwrap();
    assert_eq!(stage.admin.group_offsets("kept").await.unwrap(), [commit()]);
    stage.admin.delete_group("kept").await.unwrap();
    let gone = stage.admin.describe_group("kept").await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownGroup));
    assert!(
        stage
            .admin
            .list_groups()
            .await
            .unwrap()
            .iter()
            .all(|group| group.group != "kept")
    );
}
