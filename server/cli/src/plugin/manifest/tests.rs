use millstream::{
    Activity, DeliveryGuarantee, FailureAction, FailurePolicy, Grants, HoldBack, OutputSpec,
    RevisionChange, TableSpec, WorkerLimits,
};

use super::*;

const EVERYTHING: &str = r#"
name = "quake-alert"
component = "."
inputs = ["earthquakes"]
from = "latest"
delivery = "at-least-once"
create-topics = true
partitions = 4
[outputs]
alerts = "quake-alerts"
[config]
min-mag = "4.50"
depth = 10
share = 0.5
whole = 1.0
loud = true
[tables]
networks = "seismic-networks"
[limits]
memory = "32MiB"
deadline = "2s"
outputs-per-record = 10
log-lines-per-second = 20
state = "1GiB"
[on-failure]
action = "dead-letter"
dead-letter-topic = "quakes-lost"
attempts = 7
first-back-off = "200ms"
longest-back-off = "5s"
on-retry = "block"
[grants]
clocks = true
secrets = ["api-key"]
http = ["http://enricher:8080"]
"#;

const LEAST: &str = "name = \"a\"\ncomponent = \"a.wasm\"\ninputs = [\"in\"]\n";

fn parse(text: &str) -> Result<SpecArgs, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deployment.toml");
    std::fs::write(&path, text).unwrap();
    read(&path).map_err(|error| {
        let all: Vec<_> = error.chain().map(ToString::to_string).collect();
        all.join("\n")
            .replace(&*folder.path().to_string_lossy(), "")
    })
}

fn deployed(declared: &SpecArgs) -> DeploymentDescription {
    DeploymentDescription {
        spec: declared.spec("a").unwrap(),
        revision: 1,
        digest: "d1".to_owned(),
        component_bytes: 1,
        deployed_at_ms: 0,
        imports: Vec::new(),
        workers: Vec::new(),
        activity: Activity::Active,
        latency: None,
        deployed_by: "me".to_owned(),
        change: RevisionChange::Deployed,
        shadow_of: None,
        config_unasked: Vec::new(),
        tables: Vec::new(),
    }
}

#[test]
fn every_field_counts() {
    let declared = parse(EVERYTHING).unwrap();
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = DeploymentSpec {
        name: "quake-alert".to_owned(),
        inputs: vec!["earthquakes".to_owned()],
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: "quake-alerts".to_owned(),
        }],
        config: vec![
            text("depth", "10"),
            text("loud", "true"),
            text("min-mag", "4.50"),
            text("share", "0.5"),
            text("whole", "1.0"),
        ],
        start: Position::Latest,
        limits: WorkerLimits {
            memory_bytes: 32 << 20,
            deadline_ms: 2_000,
            outputs_per_record: 10,
            log_lines_per_second: 20,
            state_bytes: 1 << 30,
        },
        delivery: DeliveryGuarantee::AtLeastOnce,
        on_failure: FailurePolicy {
            attempts: 7,
            first_back_off_ms: 200,
            longest_back_off_ms: 5_000,
            holds_back: HoldBack::Partition,
            finally: FailureAction::DeadLetter {
                topic: "quakes-lost".to_owned(),
            },
        },
        grants: Grants {
            real_clocks: true,
            real_randomness: false,
            secrets: vec!["api-key".to_owned()],
            http: vec!["http://enricher:8080".parse().unwrap()],
        },
        tables: vec![TableSpec {
            name: "networks".to_owned(),
            topic: "seismic-networks".to_owned(),
        }],
    };
    assert_eq!(declared.spec("a").unwrap(), expected);
    assert_eq!((declared.create_topics, declared.partitions), (true, 4));
}

#[test]
fn what_is_left_out_is_usual() {
    let declared = parse(LEAST).unwrap();
    let spec = declared.spec("a").unwrap();
    assert_eq!(spec.start, Position::Earliest);
    assert_eq!(spec.limits, WorkerLimits::default());
    assert_eq!(spec.delivery, DeliveryGuarantee::ExactlyOnce);
    assert_eq!(spec.on_failure, FailurePolicy::default_for("a"));
    assert!(spec.outputs.is_empty() && spec.config.is_empty() && !declared.create_topics);
}

#[test]
fn the_help_shows_a_file_that_works() {
    let (_, file) = HELP.split_once('\n').unwrap();
    let declared = parse(file).unwrap();
    assert_eq!(declared.spec("a").unwrap().limits, WorkerLimits::default());
    assert_eq!(
        declared.spec("a").unwrap().on_failure,
        FailurePolicy::default_for("quake-alert")
    );
}

#[test]
fn paths_are_seen_from_the_file() {
    let check = |folder: &str, path: &str, expect: &str| {
        assert_eq!(
            seen_from(Path::new(folder), Path::new(path)),
            Path::new(expect)
        );
    };
    check("", ".", ".");
    check("plugins/a", ".", "plugins/a");
    check("plugins/a", "../b/b.wasm", "plugins/a/../b/b.wasm");
    check("plugins/a", "/c.wasm", "/c.wasm");
}

#[test]
fn errors_name_the_file_the_field_and_what_to_try() {
    let refused = |more: &str| parse(&format!("{LEAST}{more}")).unwrap_err();
    insta::assert_snapshot!(parse("name = \"a\"\n").unwrap_err(), @r#"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 1, column 1
      |
    1 | name = "a"
      | ^
    missing field `component`
    "#);
    insta::assert_snapshot!(refused("input = \"in\"\n"), @r#"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 4, column 1
      |
    4 | input = "in"
      | ^^^^^
    unknown field `input`, expected one of `name`, `component`, `inputs`, `from`, `delivery`, `create-topics`, `partitions`, `outputs`, `tables`, `config`, `limits`, `grants`, `on-failure`
    "#);
    insta::assert_snapshot!(refused("from = \"yesterday\"\n"), @r#"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 4, column 8
      |
    4 | from = "yesterday"
      |        ^^^^^^^^^^^
    expected earliest, latest, offset:N, time:T (RFC 3339 or milliseconds since 1970) or a duration back from now, for example 15m
    "#);
    insta::assert_snapshot!(refused("delivery = \"twice\"\n"), @r#"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 4, column 12
      |
    4 | delivery = "twice"
      |            ^^^^^^^
    unknown variant `twice`, expected one of `exactly-once`, `at-least-once`, `deterministic`
    "#);
    insta::assert_snapshot!(refused("create-topics = true\npartitions = 0\n"), @r"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 5, column 14
      |
    5 | partitions = 0
      |              ^
    invalid value: integer `0`, expected a nonzero u32
    ");
    insta::assert_snapshot!(refused("partitions = 4\n"), @r"
    the deployment file /deployment.toml cannot be used
    partitions is for topics that are made, and create-topics is not true
    ");
    insta::assert_snapshot!(refused("[config]\nmin-mag = [4]\n"), @r"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 5, column 11
      |
    5 | min-mag = [4]
      |           ^^^
    invalid type: sequence, expected a string, a number or a boolean
    ");
    insta::assert_snapshot!(refused("[limits]\nmemory = \"lots\"\n"), @r#"
    the deployment file /deployment.toml cannot be used
    TOML parse error at line 5, column 10
      |
    5 | memory = "lots"
      |          ^^^^^^
    expected a size in bytes, for example 1048576, 64MiB or 10GB
    "#);
    insta::assert_snapshot!(refused("[limits]\ndeadline = \"60d\"\n"), @r"
    the deployment file /deployment.toml cannot be used
    deadline is longer than 49 days
    ");
    insta::assert_snapshot!(refused("[on-failure]\naction = \"skip\"\ndead-letter-topic = \"d\"\n"), @r"
    the deployment file /deployment.toml cannot be used
    dead-letter-topic is given, and failed records do not go to one
    ");
    insta::assert_snapshot!(parse(&LEAST.replace("\"in\"", "")).unwrap_err(), @r"
    the deployment file /deployment.toml cannot be used
    inputs names no topic
    ");
}

#[test]
fn grants_that_are_not_written_so_are_told_what_there_is() {
    let refused = |more: &str| {
        let refused = parse(&format!("{LEAST}{more}")).unwrap_err();
        refused.lines().last().unwrap().to_owned()
    };
    for list in ["grants = [\"clock\"]", "grants = [\"clocks\"]"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused(list), @r#"invalid type: sequence, expected a section `[grants]` with `clocks = true`, `randomness = true`, `secrets = ["NAME"]` and `http = ["HOST"]`, as many of them as are granted"#);
        }
    }
    insta::assert_snapshot!(refused("[grants]\nclock = true"), @"unknown field `clock`, expected one of `clocks`, `randomness`, `secrets`, `http`");
    insta::assert_snapshot!(refused("[grants]\nclocks = \"yes\""), @r#"invalid type: string "yes", expected a boolean"#);
    insta::assert_snapshot!(refused("[grants]\nsecrets = \"api-key\""), @r#"invalid type: string "api-key", expected a list of names, each in quotes between `[` and `]`"#);
    insta::assert_snapshot!(refused("[grants]\nhttp = [\"http://geo.test:81/v1?key=1\"]"), @r#""http://geo.test:81/v1?key=1" is no host for requests: a whole host is granted, not a path of it; try `http://geo.test:81`"#);
}

#[test]
fn the_same_again_is_the_same() {
    let declared = parse(EVERYTHING).unwrap();
    let mut deployed = deployed(&declared);
    let wanted = declared.spec("a").unwrap();
    deployed.spec.config.reverse();
    assert!(differences(&declared, &wanted, "d1", &deployed).is_empty());
}

#[test]
fn a_start_back_from_now_is_that_of_the_first_deployment() {
    let declared = parse(&format!("{LEAST}from = \"15m\"\n")).unwrap();
    let mut deployed = deployed(&declared);
    deployed.spec.start = Position::Time(7);
    let wanted = declared.spec("a").unwrap();
    assert!(differences(&declared, &wanted, "d1", &deployed).is_empty());
    deployed.spec.start = Position::Earliest;
    let found = differences(&declared, &wanted, "d1", &deployed);
    assert_eq!((found.len(), found[0].setting), (1, "from"));
}

#[test]
fn what_differs_is_named() {
    let declared = parse(LEAST).unwrap();
    let deployed = deployed(&parse(EVERYTHING).unwrap());
    let wanted = declared.spec("a").unwrap();
    let differences = differences(&declared, &wanted, "d2", &deployed);
    insta::assert_snapshot!(differs(Path::new("deployment.toml"), "a", differences), @"deployment a is not as deployment.toml says: it differs in component: d1 → d2, inputs: earthquakes → in, outputs alerts: quake-alerts → unset, config depth: 10 → unset, and 18 more in config, from, limits, delivery, on-failure, grants, tables");
}
