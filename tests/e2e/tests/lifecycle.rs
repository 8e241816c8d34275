//! The life of a deployment: what it measures, pause and resume, history and roll-back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use millstream::{
    Activity, Admin, Client, DeploymentDescription, DeploymentSpec, ErrorCode, FailureAction,
    FailurePolicy, HoldBack, MetricValue, OutputSpec, Position, ProduceRecord, WorkerState,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::patience::until;

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const NAME: &str = "drill";

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        on_failure: FailurePolicy {
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
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

async fn produce(client: &Client, records: &[(&str, &str)]) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for (key, value) in records {
        let record = ProduceRecord::new(*value).key(*key);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Waits until a deployment is as wanted.
async fn described(
    admin: &Admin,
    what: &str,
    wanted: impl Fn(&DeploymentDescription) -> bool,
) -> DeploymentDescription {
    until(what, async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        wanted(&described).then_some(described)
    })
    .await
}

fn lag(described: &DeploymentDescription) -> u64 {
    described.workers.iter().map(|worker| worker.lag).sum()
}

fn done(described: &DeploymentDescription) -> bool {
    let mut workers = described.workers.iter();
    !described.workers.is_empty() && workers.all(|it| it.lag == 0 && it.parked == 0)
}

async fn outputs(client: &Client) -> usize {
    History::read(client, OUTPUT).await.len()
}

#[tokio::test]
async fn a_worker_shows_what_it_measures_across_its_instances() {
    let (broker, client, admin) = start(2).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let mut records: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
    records.push(("key-0", "!trap"));
    records.extend(keys.iter().map(|key| (key.as_str(), "y")));
    produce(&client, &records).await;
    let shown = described(&admin, "all to be handled", done).await;
    let latency = shown.latency.expect("calls were made");
    assert!(0 < latency.p50_us && latency.p50_us <= latency.p99_us);
    let sum = |figure: fn(&millstream::WorkerDescription) -> u64| -> u64 {
        shown.workers.iter().map(figure).sum()
    };
    assert_eq!(sum(|it| it.records_out), 40);
    // Every attempt failed but none of the first: the record was tried again four times.
    assert_eq!((sum(|it| it.retries), sum(|it| it.dead_letters)), (4, 1));
    assert!(sum(|it| it.records_per_second) > 0);
    assert!(
        shown
            .workers
            .iter()
            .all(|it| it.broker_id == 1 && it.calls > 0)
    );

    // The trap took an instance with it, and what that had counted stayed.
    let metrics = admin.plugin_metrics(NAME).await.unwrap();
    let seen = metrics.workers.iter().map(|worker| {
        let seen = worker.guest.iter().find(|it| it.name == "seen");
        match seen.expect("a counter").value {
            MetricValue::Counter(seen) => seen,
            MetricValue::Gauge(gauge) => panic!("a gauge: {gauge}"),
        }
    });
    assert!(seen.sum::<u64>() >= 40 + 5, "{metrics:?}");
    assert_eq!(metrics.latency, Some(latency));

    let shown = run(&mut broker.command(["plugin", "metrics", NAME, "--output", "json"]));
    let shown = shown.success().json();
    assert_eq!(shown["total"]["records_out"], 40);
    assert_eq!(shown["workers"].as_array().unwrap().len(), 2);
    assert!(
        shown["total"]["gauges"]["count"]["max"].is_number(),
        "{shown}"
    );
    let error = admin.plugin_metrics("nobody").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownDeployment));
}

#[tokio::test]
async fn a_paused_deployment_stands_still_through_a_restart_and_an_upgrade() {
    let (mut broker, client, admin) = start(2).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "1"), ("b", "2")]).await;
    described(&admin, "both to be handled", done).await;

    let shown = run(&mut broker.command(["plugin", "pause", NAME, "--output", "json"]));
    assert_eq!(shown.success().json()["paused"], true);
    let paused = admin.describe_plugin(NAME).await.unwrap();
    assert_eq!(paused.activity, Activity::Paused);
    let held = |described: &DeploymentDescription| {
        described.workers.len() == 2
            && described
                .workers
                .iter()
                .all(|it| it.state == WorkerState::Held)
    };
    assert!(held(&paused), "it answers when all stand still: {paused:?}");
    produce(&client, &[("a", "3"), ("b", "4"), ("c", "5")]).await;
    described(&admin, "the lag to show", |it| lag(it) == 3).await;

    broker.kill();
    broker.restart();
    described(&admin, "it to be paused again", |it| {
        held(it) && lag(it) == 3
    })
    .await;
    let upgraded = DeploymentSpec {
        config: vec![("new".to_owned(), "yes".to_owned())],
        ..spec()
    };
    let upgraded = admin.upgrade_plugin(component(), upgraded).await.unwrap();
    assert_eq!(
        (upgraded.revision, upgraded.activity),
        (2, Activity::Paused)
    );
    described(&admin, "the new version to stand still", |it| {
        held(it) && lag(it) == 3
    })
    .await;
    assert_eq!(outputs(&client).await, 2);

    let shown = run(&mut broker.command(["plugin", "resume", NAME, "--output", "json"]));
    assert_eq!(shown.success().json()["paused"], false);
    described(&admin, "the rest to be handled", done).await;
    until("all outputs", async || {
        (outputs(&client).await == 5).then_some(())
    })
    .await;
}

/// The values of the outputs, without what an instance has seen.
async fn emitted(client: &Client) -> Vec<String> {
    let history = History::read(client, OUTPUT).await;
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).expect("text");
    let values = history
        .records()
        .map(|it| text(it.value.as_ref().expect("a value")));
    let words = values.map(|it| it.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let mut emitted: Vec<String> = words.collect();
    emitted.sort();
    emitted
}

/// Another component that does the same.
fn other_component() -> Bytes {
    let mut component = component().to_vec();
    // A custom section: its id, its length, and its name's.
    component.extend([0, 6, 5, b'o', b't', b'h', b'e', b'r']);
    component.into()
}

#[tokio::test]
async fn a_revision_is_rolled_back_at_a_barrier_and_survives_a_restart() {
    let (mut broker, client, admin) = start(1).await;
    let first = admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "x/1")]).await;
    described(&admin, "the first to be handled", done).await;
    let stricter = DeploymentSpec {
        config: vec![("new".to_owned(), "yes".to_owned())],
        ..spec()
    };
    let second = admin
        .upgrade_plugin(other_component(), stricter.clone())
        .await
        .unwrap();
    assert_ne!(first.digest, second.digest);
    let error = admin
        .upgrade_plugin(other_component(), stricter)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "{error}");
    produce(&client, &[("a", "x/2")]).await;
    described(&admin, "the second to be handled", done).await;

    let shown = run(&mut broker.command(["plugin", "rollback", NAME, "--output", "json"]));
    let shown = shown.success().json();
    assert_eq!(
        (&shown["revision"], &shown["rolled_back_to"]),
        (&3.into(), &1.into())
    );
    broker.kill();
    broker.restart();
    let back = described(&admin, "the workers to be back", |it| {
        !it.workers.is_empty()
    })
    .await;
    assert_eq!((&back.digest, back.revision), (&first.digest, 3));
    assert!(back.spec.config.is_empty(), "the settings are back as well");
    produce(&client, &[("a", "x/3")]).await;
    described(&admin, "the third to be handled", done).await;
    // The state went on through all three.
    until("three outputs", async || {
        (outputs(&client).await == 3).then_some(())
    })
    .await;
    assert_eq!(emitted(&client).await, ["x/1 1", "x/2 2", "x/3 3"]);

    let again = admin.roll_back_plugin(NAME, Some(2)).await.unwrap();
    assert_eq!((again.revision, &again.digest), (4, &second.digest));
    let error = admin.roll_back_plugin(NAME, Some(9)).await.unwrap_err();
    assert!(error.to_string().contains("it keeps 1, 2, 3"), "{error}");
    let history = admin.plugin_history(NAME).await.unwrap();
    let revisions: Vec<_> = history.iter().map(|it| it.revision).collect();
    assert_eq!(revisions, [1, 2, 3, 4]);
    assert!(history.iter().all(|it| !it.by.is_empty()));
    assert_eq!(history[1].differs_in, ["component", "config"]);
    let unknown = run(&mut broker.command(["plugin", "rollback", NAME, "--to", "99"])).exited(4);
    assert!(
        unknown
            .stderr
            .contains("earlier revisions are 1, 2, 3, and 4 is at work"),
        "{unknown:#?}"
    );
    run(&mut broker.command(["plugin", "state", "get", NAME, "unknown"])).exited(4);
    let shown = run(&mut broker.command(["plugin", "history", NAME]));
    assert!(shown.success().stdout.contains("rolled back to 2"));
}

#[tokio::test]
async fn components_are_kept_while_a_revision_needs_them() {
    let (mut broker, _client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    admin
        .upgrade_plugin(other_component(), spec())
        .await
        .unwrap();
    admin.remove_plugin(NAME).await.unwrap();
    // What was removed is gone for good, and what is deployed anew is there after a restart.
    admin
        .deploy_plugin(other_component(), spec())
        .await
        .unwrap();
    broker.kill();
    broker.restart();
    let back = described(&admin, "the worker to be back", |it| !it.workers.is_empty()).await;
    assert_eq!(back.revision, 1);
    let error = admin.roll_back_plugin(NAME, None).await.unwrap_err();
    assert!(
        error.to_string().contains("no revision before 1"),
        "{error}"
    );
}

#[tokio::test]
async fn an_upgrade_by_the_command_line_keeps_the_settings() {
    let (broker, _client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.wasm");
    std::fs::write(&path, other_component()).unwrap();
    let upgrade = |name: &str| {
        let path = path.to_str().expect("a path");
        run(&mut broker.command(["plugin", "upgrade", name, path, "--output", "json"]))
    };
    let shown = upgrade(NAME).success().json();
    assert_eq!(
        (&shown["revision"], &shown["change"]),
        (&2.into(), &"upgraded".into())
    );
    assert_eq!(shown["outputs"][0]["topic"], OUTPUT);
    let again = upgrade(NAME).success();
    assert!(again.stderr.contains("nothing changed"), "{again:#?}");
    assert_eq!(again.json()["revision"], 2);
    upgrade("nobody").exited(4);
}

/// A client that goes away in the midst of an upgrade: a little later each time, until one has its answer first.
#[tokio::test]
async fn an_upgrade_is_made_whole_though_its_client_goes_away() {
    let (broker, client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let (mut handled, mut moment_ms) = (0, 1);
    loop {
        let hasty = broker.client().await;
        let changed = DeploymentSpec {
            config: vec![("moment".to_owned(), moment_ms.to_string())],
            ..spec()
        };
        let admin = hasty.admin();
        let upgrade = admin.upgrade_plugin(component(), changed);
        let moment = Duration::from_millis(moment_ms);
        let answered = tokio::time::timeout(moment, upgrade).await.is_ok();
        drop((admin, hasty));
        // Whatever became of it, there is a worker.
        produce(&client, &[("a", "x")]).await;
        handled += 1;
        until("the record to be handled", async || {
            (outputs(&client).await == handled).then_some(())
        })
        .await;
        if answered {
            break;
        }
        moment_ms += 1 + moment_ms / 8;
    }
    assert!(handled > 1, "the first one was answered already");
}

/// More deployments than fit into one response, by what they are configured with.
#[tokio::test]
async fn all_deployments_are_listed_in_order_however_many_they_are() {
    let (_broker, _client, admin) = start(1).await;
    let names: Vec<_> = (0..20).map(|number| format!("drill-{number:02}")).collect();
    for name in &names {
        let large = DeploymentSpec {
            config: vec![("large".to_owned(), "x".repeat(60_000))],
            ..spec()
        };
        let named = DeploymentSpec {
            name: name.clone(),
            on_failure: FailurePolicy::default_for(name),
            ..large
        };
        admin.deploy_plugin(component(), named).await.unwrap();
    }
    let listed = admin.list_plugins().await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|it| it.spec.name).collect();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn a_reset_of_a_paused_deployment_outlives_an_upgrade_and_a_restart() {
    let (mut broker, client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "1"), ("a", "2")]).await;
    described(&admin, "both to be handled", done).await;
    for (times, restarted) in [(2, false), (3, true)] {
        admin.pause_plugin(NAME).await.unwrap();
        let reset = admin.reset_group(NAME, INPUT, [0], Position::Earliest);
        reset.await.unwrap();
        if restarted {
            broker.kill();
            broker.restart();
        } else {
            let other = DeploymentSpec {
                config: vec![("new".to_owned(), "yes".to_owned())],
                ..spec()
            };
            admin.upgrade_plugin(component(), other).await.unwrap();
        }
        admin.resume_plugin(NAME).await.unwrap();
        until("everything to be handled again", async || {
            (outputs(&client).await == 2 * times).then_some(())
        })
        .await;
        described(&admin, "nothing to be left", done).await;
    }
    // Without a reset, nothing is.
    admin.pause_plugin(NAME).await.unwrap();
    broker.kill();
    broker.restart();
    admin.resume_plugin(NAME).await.unwrap();
    produce(&client, &[("a", "3")]).await;
    described(&admin, "the third to be handled", done).await;
    assert_eq!(outputs(&client).await, 7);
}

#[tokio::test]
async fn a_reset_that_no_worker_has_heard_of_outlives_kills() {
    let (mut broker, client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "1"), ("a", "2")]).await;
    described(&admin, "both to be handled", done).await;
    for (times, killed_again) in [(2, false), (3, true)] {
        broker.kill();
        // The worker begins when the component is compiled, and later than the reset.
        std::fs::remove_dir_all(broker.broker_dir().join("compiled")).unwrap();
        broker.restart();
        let reset = admin.reset_group(NAME, INPUT, [0], Position::Earliest);
        reset.await.unwrap();
        if killed_again {
            broker.kill();
            broker.restart();
        }
        until("everything to be handled again", async || {
            (outputs(&client).await == 2 * times).then_some(())
        })
        .await;
        described(&admin, "nothing to be left", done).await;
    }
    // Without a reset, nothing is.
    broker.kill();
    broker.restart();
    produce(&client, &[("a", "3")]).await;
    described(&admin, "the third to be handled", done).await;
    assert_eq!(outputs(&client).await, 7);
}

#[tokio::test]
async fn a_group_hears_of_a_worker_that_never_rests() {
    // More than it can do before that is seen.
    const LONG: usize = 20_000;
    let (_broker, client, admin) = start(1).await;
    produce(&client, &[("a", "!work 4000000"); LONG]).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let mut heard = BTreeSet::new();
    until("the group to hear of it again and again", async || {
        let offsets = admin.group_offsets(NAME).await.ok()?;
        heard.extend(offsets.iter().map(|it| it.offset));
        (heard.len() > 3).then_some(())
    })
    .await;
    assert!(lag(&admin.describe_plugin(NAME).await.unwrap()) > 0);
    admin.remove_plugin(NAME).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_pauses_stands_in_front_of_a_rejected_record() {
    let (_broker, client, admin) = start(1).await;
    let held = [HoldBack::Key, HoldBack::Partition, HoldBack::Nothing];
    for (round, holds_back) in (0..).zip(held) {
        let (before, first) = (outputs(&client).await, 5 * round);
        let records = [
            ("a", "1"),
            ("b", "2"),
            ("b", "!reject bad"),
            ("b", "3"),
            ("c", "4"),
        ];
        // Before the worker: so one call has all of them.
        produce(&client, &records).await;
        let mut pauses = spec();
        pauses.on_failure.holds_back = holds_back;
        pauses.on_failure.finally = FailureAction::Pause;
        admin.deploy_plugin(component(), pauses).await.unwrap();
        let paused = described(
            &admin,
            "the worker to pause",
            |it| matches!(&it.workers[..], [worker] if matches!(worker.state, WorkerState::Paused { .. })),
        );
        let worker = &paused.await.workers[0];
        let stands = (worker.committed_offset, worker.lag, worker.parked);
        assert_eq!(stands, (first + 3, 2, 1), "{holds_back:?}");
        assert_eq!(outputs(&client).await, before + 2, "{holds_back:?}");
        let offsets = admin.group_offsets(NAME).await.unwrap();
        assert_eq!(offsets[0].offset, first + 3, "{holds_back:?}");
        // The way past it.
        let past = Position::Offset(first + 3);
        let reset = admin.reset_group(NAME, INPUT, [0], past);
        reset.await.unwrap();
        described(&admin, "what is behind it to be handled", done).await;
        assert_eq!(outputs(&client).await, before + 4, "{holds_back:?}");
        admin.remove_plugin(NAME).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_behind_a_rejected_record_is_handled_once_whatever_it_waits_for() {
    let (_broker, client, admin) = start(1).await;
    let mut pauses = spec();
    pauses.on_failure.finally = FailureAction::Pause;
    pauses.on_failure.first_back_off_ms = 3_600_000;
    pauses.on_failure.longest_back_off_ms = 3_600_000;
    admin.deploy_plugin(component(), pauses).await.unwrap();
    produce(&client, &[("a", "!retry 9")]).await;
    described(&admin, "a record to wait", |it| it.workers[0].parked == 1).await;
    let behind = [("b", "1"), ("c", "!reject bad"), ("d", "2"), ("a", "3")];
    produce(&client, &behind).await;
    let paused = described(&admin, "the worker to pause", |it| {
        matches!(it.workers[0].state, WorkerState::Paused { .. })
    });
    let worker = &paused.await.workers[0];
    let stands = (worker.committed_offset, worker.lag, worker.parked);
    // The last one waits for the first, and is not kept beyond the one that blocks.
    assert_eq!(stands, (3, 2, 2));
    assert_eq!(worker.records_in, 3);
    let past = admin.reset_group(NAME, INPUT, [0], Position::Offset(3));
    past.await.unwrap();
    described(&admin, "what is behind it to be handled", done).await;
    assert_eq!(outputs(&client).await, 3);
}

#[tokio::test]
async fn a_busy_worker_takes_letters_back_between_two_calls() {
    const LONG: usize = 40;
    let (_broker, client, admin) = start(1).await;
    let mut busy = spec();
    busy.limits.deadline_ms = 200;
    busy.on_failure.attempts = 1;
    admin.deploy_plugin(component(), busy).await.unwrap();
    produce(&client, &[("a", "!reject x")]).await;
    described(&admin, "a dead letter", |it| {
        done(it) && it.workers[0].dead_letters == 1
    })
    .await;
    produce(&client, &[("b", "!loop"); LONG]).await;
    described(&admin, "the worker to be busy", |it| {
        it.workers[0].failures > 1
    })
    .await;
    assert_eq!(admin.retry_dead_letters(NAME).await.unwrap(), 1);
    assert!(lag(&admin.describe_plugin(NAME).await.unwrap()) > 0);
    admin.remove_plugin(NAME).await.unwrap();
}

#[tokio::test]
async fn journals_go_with_the_input_that_they_are_of() {
    let (mut broker, client, admin) = start(1).await;
    admin.create_topic("other").await.unwrap();
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "1")]).await;
    described(&admin, "the record to be handled", done).await;
    let folders = std::fs::read_dir(broker.broker_dir().join("topics"));
    let before = folders.unwrap().count();
    let other = DeploymentSpec {
        inputs: vec!["other".to_owned()],
        ..spec()
    };
    admin.upgrade_plugin(component(), other).await.unwrap();
    described(&admin, "the other worker", done).await;
    admin.delete_topic(INPUT).await.unwrap();
    broker.kill();
    broker.restart();
    until("the journal of the topic that is gone to go", async || {
        let folders = std::fs::read_dir(broker.broker_dir().join("topics"));
        // The input and its journal are gone, and there is one for the other input.
        (folders.unwrap().count() == before - 2 + 1).then_some(())
    })
    .await;
}
