//! Replay before going live: a shadow touches nothing of the live deployment, is compared with it
//! record by record, and takes its place at a barrier, whatever crashes meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeliveryGuarantee, DeploymentSpec, Difference, ErrorCode, FailurePolicy,
    OutputSpec, PluginDiff, Position, ProduceRecord, RevisionChange,
};
use millstream_e2e::artifacts::{drill, quake_alert};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::patience::until;
use millstream_e2e::random::Random;

const LIVE: &str = "watch";
const SHADOW: &str = "watch.shadow";
const INPUT: &str = "in";
const OUTPUT: &str = "out";
const SHADOW_OUTPUT: &str = "out.watch.shadow";

/// When the first earthquake is: no retention reaches it.
const FIRST_MS: i64 = 4_000_000_000_000;

fn component(path: &std::path::Path) -> Bytes {
    std::fs::read(path).expect("the component").into()
}

/// The deployment with `quake-alert`, from a magnitude on.
fn alerts(min_mag: &str) -> DeploymentSpec {
    spec("alerts", &[("min-mag", min_mag)])
}

fn spec(output: &str, config: &[(&str, &str)]) -> DeploymentSpec {
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: output.to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        config: config.iter().map(text).collect(),
        on_failure: FailurePolicy {
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(LIVE)
        },
        ..DeploymentSpec::new(LIVE)
    }
}

async fn start(partitions: u32) -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    let input = admin.create_topic(INPUT).partitions(partitions);
    input.await.unwrap();
    admin.create_topic(OUTPUT).await.unwrap();
    (broker, client, admin)
}

/// Earthquakes of magnitude 4.0 to 5.9, a second apart.
async fn produce_quakes(client: &Client, numbers: std::ops::Range<i64>) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for number in numbers {
        let mag = 4.0 + (number % 20) as f64 / 10.0;
        let net = ["us", "ci", "nc"][number as usize % 3];
        let event = format!(
            r#"{{"id":"q{number}","time":{number},"mag":{mag:.1},"net":"{net}","lon":1.5,"lat":2.5}}"#
        );
        let record = ProduceRecord::new(event)
            .key(format!("q{number}"))
            .timestamp_ms(FIRST_MS + number * 1_000);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn worked_off(admin: &Admin, name: &str) {
    until("the workers to be done", async || {
        let described = admin.describe_plugin(name).await.ok()?;
        let mut workers = described.workers.iter();
        let done = !described.workers.is_empty() && workers.all(|it| it.lag == 0 && it.parked == 0);
        done.then_some(())
    })
    .await;
}

async fn replayed(admin: &Admin, shadow: &str) {
    until("the replay to be done", async || {
        let progress = admin.replay_progress(shadow).await.ok()?;
        progress.is_done().then_some(())
    })
    .await;
}

/// Equal, changed, only live, only in the shadow.
fn counts(diff: &PluginDiff) -> [u64; 4] {
    let output = &diff.outputs[0];
    [
        output.equal,
        output.changed,
        output.only_live,
        output.only_shadow,
    ]
}

async fn offsets(admin: &Admin, group: &str) -> BTreeMap<u32, Option<u64>> {
    let group = admin.describe_group(group).await.unwrap();
    let partitions = group.partitions.iter();
    partitions
        .map(|it| (it.partition, it.committed_offset))
        .collect()
}

async fn topics(admin: &Admin) -> Vec<String> {
    let topics = admin.list_topics().await.unwrap();
    topics.into_iter().map(|topic| topic.name).collect()
}

#[tokio::test]
async fn a_replay_touches_nothing_of_the_live_deployment_and_is_compared_with_it() {
    let (broker, client, admin) = start(3).await;
    admin
        .deploy_plugin(component(quake_alert()), alerts("4.5"))
        .await
        .unwrap();
    produce_quakes(&client, 0..200).await;
    worked_off(&admin, LIVE).await;
    let live = until("the live outputs", async || {
        let live = History::read(&client, OUTPUT).await;
        (live.len() == 150).then_some(live)
    })
    .await;
    let live_offsets = until("the group to be told", async || {
        let offsets = offsets(&admin, LIVE).await;
        let told: u64 = offsets.values().flatten().sum();
        (told == 200).then_some(offsets)
    })
    .await;

    let shadow = admin.replay_plugin(LIVE).spec(alerts("5.0")).await.unwrap();
    assert_eq!(shadow.spec.name, SHADOW);
    assert_eq!(shadow.shadow_of.as_deref(), Some(LIVE));
    replayed(&admin, SHADOW).await;
    // What comes meanwhile is none of the replay's.
    produce_quakes(&client, 200..240).await;
    worked_off(&admin, LIVE).await;
    let diff = admin.diff_plugin(SHADOW, 3).await.unwrap();
    assert_eq!(counts(&diff), [100, 0, 50, 0]);
    let [
        Difference {
            live: Some(first),
            shadow: None,
            ..
        },
        _,
        _,
    ] = &diff.differences[..]
    else {
        panic!("{diff:?}");
    };
    assert_eq!(first.timestamp_ms, FIRST_MS + 5_000, "the oldest first");
    assert_eq!(History::read(&client, SHADOW_OUTPUT).await.len(), 100);

    let progress = admin.replay_progress(SHADOW).await.unwrap();
    assert_eq!(progress.beyond, 0, "it ends where the live one was");
    let now = offsets(&admin, LIVE).await;
    assert!(
        live_offsets.iter().all(|(at, before)| now[at] >= *before),
        "{now:?}"
    );
    let outputs = History::read(&client, OUTPUT).await;
    let before: Vec<_> = live.records().collect();
    assert!(
        before
            .iter()
            .all(|it| outputs.records().any(|now| now == *it))
    );
    assert_eq!(outputs.len(), 180, "the live one's, and nobody else's");

    let shown = run(&mut broker.command(["plugin", "diff", LIVE, "--limit", "1"]));
    let shown = shown.success().stdout;
    assert!(
        shown.contains("only live") && shown.contains("1 of 50 differences"),
        "{shown}"
    );
    run(&mut broker.command(["plugin", "remove", SHADOW])).success();
    assert_eq!(topics(&admin).await, [INPUT, OUTPUT, "watch.dead-letters"]);
    let error = admin.describe_group(SHADOW).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownGroup));
}

#[tokio::test]
async fn a_replay_of_a_part_is_compared_with_what_came_of_that_part() {
    let (_broker, client, admin) = start(2).await;
    admin
        .deploy_plugin(component(quake_alert()), alerts("4.5"))
        .await
        .unwrap();
    produce_quakes(&client, 0..100).await;
    worked_off(&admin, LIVE).await;
    let at = |second: i64| Position::Time(FIRST_MS + second * 1_000);
    for (name, from, until, equal) in [
        ("all", Position::Earliest, None, 75),
        ("late", at(20), None, 60),
        ("middle", at(20), Some(at(60)), 30),
    ] {
        let mut replay = admin.replay_plugin(LIVE).from(from).shadow(name);
        if let Some(until) = until {
            replay = replay.until(until);
        }
        replay.await.unwrap();
        replayed(&admin, name).await;
        let diff = admin.diff_plugin(name, 9).await.unwrap();
        assert!(diff.is_same(), "{name}: {diff:?}");
        assert_eq!(counts(&diff)[0], equal, "{name}");
    }
}

#[tokio::test]
async fn a_part_whose_times_are_those_of_others_too_differs_in_nothing() {
    let (_broker, client, admin) = start(1).await;
    admin
        .deploy_plugin(component(quake_alert()), alerts("4.5"))
        .await
        .unwrap();
    // Later ones first, and each time twice.
    let mut numbers: Vec<i64> = (0..100).map(|number| number / 2).collect();
    numbers.reverse();
    numbers.rotate_left(30);
    for number in numbers {
        produce_quakes(&client, number..number + 1).await;
    }
    worked_off(&admin, LIVE).await;
    for (name, from, until) in [
        ("late", 41, None),
        ("early", 0, Some(55)),
        ("middle", 21, Some(77)),
    ] {
        let mut replay = admin.replay_plugin(LIVE).from(Position::Offset(from));
        if let Some(until) = until {
            replay = replay.until(Position::Offset(until));
        }
        replay.shadow(name).await.unwrap();
        replayed(&admin, name).await;
        let diff = admin.diff_plugin(name, 9).await.unwrap();
        assert!(diff.is_same() && counts(&diff)[0] > 0, "{name}: {diff:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_and_leaves_nothing() {
    let (_broker, _client, admin) = start(1).await;
    let code = |error: millstream::Error| error.code();
    let error = admin.replay_plugin(LIVE).await.unwrap_err();
    assert_eq!(code(error), Some(ErrorCode::UnknownDeployment));
    admin
        .deploy_plugin(component(quake_alert()), alerts("4.5"))
        .await
        .unwrap();
    let before = topics(&admin).await;
    let wrong = admin.replay_plugin(LIVE).spec(alerts("no number")).await;
    assert_eq!(code(wrong.unwrap_err()), Some(ErrorCode::SettingsRefused));
    let elsewhere = DeploymentSpec {
        inputs: vec![OUTPUT.to_owned()],
        outputs: Vec::new(),
        ..alerts("4.5")
    };
    let elsewhere = admin.replay_plugin(LIVE).spec(elsewhere).await;
    assert_eq!(
        code(elsewhere.unwrap_err()),
        Some(ErrorCode::InvalidRequest)
    );
    let error = admin.describe_replay(LIVE).await.unwrap_err();
    assert_eq!(code(error), Some(ErrorCode::InvalidRequest));
    let error = admin.promote_plugin(LIVE, LIVE).await.unwrap_err();
    assert_eq!(code(error), Some(ErrorCode::InvalidRequest));
    assert_eq!(topics(&admin).await, before);

    // What somebody else keeps there is not taken for a shadow's.
    admin.create_topic(SHADOW_OUTPUT).await.unwrap();
    let error = admin.replay_plugin(LIVE).await.unwrap_err();
    assert_eq!(code(error), Some(ErrorCode::TopicExists));
    assert!(topics(&admin).await.contains(&SHADOW_OUTPUT.to_owned()));
}

/// Numbers from 0 on of one key, as `drill` counts them.
async fn produce_numbers(client: &Client, numbers: std::ops::Range<u32>) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for number in numbers {
        let key = format!("k{}", number % 7);
        let record = ProduceRecord::new(format!("{key}/{number}")).key(key);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// That each of so many records has one output, and that the counts of each key have no gap.
async fn assert_each_counted_once(client: &Client, numbers: u32) {
    let outputs = until("all outputs", async || {
        let outputs = History::read(client, OUTPUT).await;
        (outputs.len() >= numbers as usize).then_some(outputs)
    })
    .await;
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in outputs.records() {
        let value = String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
        let words: Vec<&str> = value.split(' ').collect();
        *times.entry(words[0].to_owned()).or_default() += 1;
        let key = words[0].split('/').next().unwrap().to_owned();
        counts
            .entry(key)
            .or_default()
            .push(words[1].parse().unwrap());
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    assert_eq!(times.len(), numbers as usize);
    for (key, mut counts) in counts {
        counts.sort_unstable();
        let expected: Vec<u64> = (1..=counts.len() as u64).collect();
        assert_eq!(counts, expected, "counts of {key}");
    }
}

/// The deployment with `drill`, which computes the same again where it is to be deterministic.
fn counting(delivery: DeliveryGuarantee, config: &[(&str, &str)]) -> DeploymentSpec {
    let mut config = config.to_vec();
    if delivery == DeliveryGuarantee::Deterministic {
        config.push(("steady", "yes"));
    }
    DeploymentSpec {
        delivery,
        ..spec("out", &config)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_under_load_handles_every_record_once() {
    promote_under_load(DeliveryGuarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_of_a_deterministic_plugin_under_load_handles_every_record_once() {
    promote_under_load(DeliveryGuarantee::Deterministic).await;
}

async fn promote_under_load(delivery: DeliveryGuarantee) {
    let (broker, client, admin) = start(3).await;
    let drill = component(drill());
    admin
        .deploy_plugin(drill.clone(), counting(delivery, &[]))
        .await
        .unwrap();
    produce_numbers(&client, 0..300).await;
    worked_off(&admin, LIVE).await;
    let live = admin.describe_plugin(LIVE).await.unwrap();
    admin
        .replay_plugin(LIVE)
        .spec(counting(delivery, &[("new", "yes")]))
        .await
        .unwrap();
    replayed(&admin, SHADOW).await;
    let load = tokio::spawn({
        let client = client.clone();
        async move { produce_numbers(&client, 300..1_300).await }
    });
    let shown = run(&mut broker.command(["plugin", "promote", LIVE, "--output", "json"]));
    let shown = shown.success().json();
    assert_eq!(
        (&shown["name"], &shown["change"]),
        (&LIVE.into(), &"promoted".into())
    );
    load.await.unwrap();
    worked_off(&admin, LIVE).await;
    assert_each_counted_once(&client, 1_300).await;

    let promoted = admin.describe_plugin(LIVE).await.unwrap();
    assert_eq!((promoted.revision, promoted.digest), (2, live.digest));
    assert_eq!(promoted.spec, counting(delivery, &[("new", "yes")]));
    let shadow = SHADOW.to_owned();
    assert_eq!(promoted.change, RevisionChange::Promoted { shadow });
    assert_eq!(topics(&admin).await, [INPUT, OUTPUT, "watch.dead-letters"]);
    assert_eq!(admin.list_plugins().await.unwrap().len(), 1);
    // The version before is kept, and goes on with this one's state.
    admin.roll_back_plugin(LIVE, None).await.unwrap();
    produce_numbers(&client, 1_300..1_400).await;
    worked_off(&admin, LIVE).await;
    assert_each_counted_once(&client, 1_400).await;
}

#[tokio::test]
async fn the_command_line_names_shadows_that_are_not_there_and_the_log_has_no_warning() {
    let (broker, client, admin) = start(1).await;
    let millstream = |words: &str| {
        let words = words.split(' ').chain(["--output", "json"]);
        run(&mut broker.command(words))
    };
    let refused = |words: &str, code: i32| {
        let error = millstream(words).exited(code).json_error();
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        (text("message"), text("try"))
    };
    for words in ["plugin diff watch", "plugin promote watch"] {
        let (message, _) = refused(words, 4);
        assert_eq!(message, "no deployment is named watch");
    }
    admin
        .deploy_plugin(component(quake_alert()), alerts("4.5"))
        .await
        .unwrap();
    for words in ["plugin diff watch", "plugin promote watch"] {
        let (message, advice) = refused(words, 4);
        assert!(
            message.starts_with("deployment watch has no shadow watch.shadow"),
            "{message}"
        );
        assert!(
            advice.contains("`millstream plugin replay watch --from earliest`"),
            "{advice}"
        );
    }
    let (_, advice) = refused("plugin diff watch --as other", 4);
    assert!(
        advice.contains("plugin replay watch --as other"),
        "{advice}"
    );

    produce_quakes(&client, 0..50).await;
    worked_off(&admin, LIVE).await;
    let replayed = millstream("plugin replay watch").success().json();
    assert_eq!(replayed["workers"].as_array().map(Vec::len), Some(1));
    let (_, advice) = refused("plugin replay watch", 5);
    assert!(
        advice.contains("`millstream plugin remove watch.shadow`"),
        "{advice}"
    );
    // A live deployment is not taken away from beside its shadow.
    for words in ["plugin remove watch", "plugin remove watch watch.shadow"] {
        let (message, advice) = refused(words, 5);
        assert_eq!(message, "deployment watch has the shadow watch.shadow");
        assert!(
            advice.contains("plugin remove watch.shadow watch"),
            "{advice}"
        );
    }
    let (message, advice) = refused("plugin diff watch.shadow", 2);
    assert_eq!(message, "deployment watch.shadow is a shadow itself");
    assert!(advice.ends_with(": watch"), "{advice}");
    let diff = millstream("plugin diff watch").success().json();
    assert!(diff["outputs"][0]["equal"].as_u64() > Some(0), "{diff}");
    // The shadow's topics go with it, and what its last commit held for them.
    for words in ["plugin promote watch", "plugin rollback watch"] {
        let shown = millstream(words).success().json();
        assert_eq!(shown["workers"].as_array().map(Vec::len), Some(1));
    }
    produce_quakes(&client, 50..60).await;
    worked_off(&admin, LIVE).await;
    assert!(!broker.log().contains(" WARN "), "{}", broker.log());
}

/// Promotions that are cut off by a crash, and after how much of the broker's processor time the first is at
/// the latest; how much one takes, the others find out.
const CRASHES: u32 = 12;
const CRASHED_WITHIN_MS: u64 = 400;
const LATEST_CRASH_MS: u64 = 5_000;
const SEED: u64 = 0x5eed_0004;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_that_is_cut_off_has_happened_or_not() {
    cut_promotions_off(DeliveryGuarantee::ExactlyOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_of_a_deterministic_plugin_that_is_cut_off_has_happened_or_not() {
    cut_promotions_off(DeliveryGuarantee::Deterministic).await;
}

async fn cut_promotions_off(delivery: DeliveryGuarantee) {
    let mut random = Random::seeded(SEED);
    let (mut broker, client, admin) = start(2).await;
    admin
        .deploy_plugin(component(drill()), counting(delivery, &[]))
        .await
        .unwrap();
    let (mut numbers, mut promoted, mut not_promoted) = (100, 0, 0);
    let mut within_ms = CRASHED_WITHIN_MS;
    produce_numbers(&client, 0..numbers).await;
    for _ in 0..CRASHES {
        if admin.describe_plugin(SHADOW).await.is_err() {
            // A promotion that was cut off behind the swap leaves the shadow's topics.
            for topic in topics(&admin).await {
                if topic.ends_with(SHADOW) {
                    admin.delete_topic(topic).await.unwrap();
                }
            }
            until("the replay to start", async || {
                admin.replay_plugin(LIVE).await.ok().map(|_| ())
            })
            .await;
        }
        let more = numbers + 50;
        produce_numbers(&client, numbers..more).await;
        numbers = more;
        let before = admin.describe_plugin(LIVE).await.unwrap().revision;
        let began = broker.processor_time();
        let promoting = tokio::spawn({
            let admin = admin.clone();
            async move { admin.promote_plugin(LIVE, SHADOW).await.map(|_| ()) }
        });
        let moment = random.between(0..within_ms);
        until("a moment of the promotion", async || {
            let taken = broker.processor_time().saturating_sub(began);
            let far = taken >= Duration::from_millis(moment);
            (far || promoting.is_finished()).then_some(())
        })
        .await;
        broker.kill();
        promoting.abort();
        broker.restart();
        let now = until("the deployment", async || {
            admin.describe_plugin(LIVE).await.ok()
        })
        .await;
        let shadow = admin.describe_plugin(SHADOW).await;
        if now.revision > before {
            promoted += 1;
            within_ms = moment.max(1);
            assert!(shadow.is_err(), "a shadow that was promoted is still there");
        } else {
            not_promoted += 1;
            within_ms = (within_ms * 2).min(LATEST_CRASH_MS);
            assert!(shadow.is_ok(), "a shadow is gone and was not promoted");
        }
        worked_off(&admin, LIVE).await;
        assert_each_counted_once(&client, numbers).await;
    }
    println!("crashes {CRASHES}: promoted {promoted}, not promoted {not_promoted}");
    assert!(
        promoted > 0 && not_promoted > 0,
        "the crashes came at other moments"
    );
}

/// Deploys `drill`, and has it count the numbers below 20.
async fn counts_to_twenty(client: &Client, admin: &Admin, spec: DeploymentSpec) {
    let deployed = admin.deploy_plugin(component(drill()), spec);
    deployed.await.unwrap();
    produce_numbers(client, 0..20).await;
    worked_off(admin, LIVE).await;
}

#[tokio::test]
async fn a_partition_that_is_added_after_a_replay_began_is_none_of_its() {
    let (_broker, client, admin) = start(1).await;
    counts_to_twenty(&client, &admin, spec("out", &[])).await;
    admin.replay_plugin(LIVE).await.unwrap();
    replayed(&admin, SHADOW).await;
    admin.alter_topic(INPUT).partitions(2).await.unwrap();
    let producer = client.producer(INPUT).build().await.unwrap();
    let record = ProduceRecord::new("k9/20").key("k9").partition(1);
    producer.send(record).await.unwrap();
    producer.close().await.unwrap();
    until("the live one to have both partitions", async || {
        let outputs = History::read(&client, OUTPUT).await;
        (outputs.len() == 21).then_some(())
    })
    .await;
    until("the shadow to have both partitions", async || {
        let described = admin.describe_plugin(SHADOW).await.ok()?;
        (described.workers.len() == 2).then_some(())
    })
    .await;
    let diff = admin.diff_plugin(SHADOW, 10).await.unwrap();
    assert_eq!(counts(&diff), [20, 0, 0, 0], "{diff:?}");
    // Promoted, it has that one as well, and once.
    admin.promote_plugin(LIVE, SHADOW).await.unwrap();
    produce_numbers(&client, 21..30).await;
    worked_off(&admin, LIVE).await;
    assert_eq!(History::read(&client, OUTPUT).await.len(), 30);
}

#[tokio::test]
async fn a_state_of_a_part_of_history_replaces_the_whole_only_when_it_is_told_to() {
    let (broker, client, admin) = start(1).await;
    counts_to_twenty(&client, &admin, spec("out", &[])).await;
    let part = admin.replay_plugin(LIVE).from(Position::Offset(10));
    part.await.unwrap();
    replayed(&admin, SHADOW).await;
    let promote = ["plugin", "promote", LIVE];
    let refused = run(&mut broker.command(promote));
    assert!(
        refused.stderr.contains("began at offset 10 of in-0"),
        "{}",
        refused.stderr
    );
    assert_eq!(admin.describe_plugin(LIVE).await.unwrap().revision, 1);
    run(broker.command(promote).arg("--partial-state")).success();
    produce_numbers(&client, 20..21).await;
    worked_off(&admin, LIVE).await;
    let outputs = History::read(&client, OUTPUT).await;
    let last = outputs.records().last().unwrap().value.clone().unwrap();
    // k6 was counted at 6, 13 and now: the first of them is not remembered.
    assert!(last.starts_with(b"k6/20 2 "), "{last:?}");
}

#[tokio::test]
async fn a_promotion_that_cannot_be_is_refused_and_the_live_one_goes_on() {
    let (_broker, client, admin) = start(1).await;
    let mut patient = spec("out", &[]);
    patient.on_failure.attempts = 1_000;
    patient.on_failure.first_back_off_ms = 100_000;
    patient.on_failure.longest_back_off_ms = 100_000;
    counts_to_twenty(&client, &admin, patient).await;
    admin.replay_plugin(LIVE).await.unwrap();
    replayed(&admin, SHADOW).await;
    let producer = client.producer(INPUT).build().await.unwrap();
    let stuck = ProduceRecord::new("!retry 999").key("stuck");
    producer.send(stuck).await.unwrap();
    producer.close().await.unwrap();
    let refused = admin.promote_plugin(LIVE, SHADOW).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NotAtRest), "{refused}");
    let refused = refused.to_string();
    assert!(refused.contains("does not come to rest"), "{refused}");
    produce_numbers(&client, 20..30).await;
    until("the live one to go on", async || {
        (History::read(&client, OUTPUT).await.len() == 30).then_some(())
    })
    .await;
}
