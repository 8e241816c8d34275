use millstream::{Activity, CallLatency, DeploymentSpec, Grants, OutputSpec, RevisionChange};

use super::*;
use crate::output::both_forms;

fn deployment() -> DeploymentDescription {
    let worker = |partition, state| WorkerDescription {
        topic: "earthquakes".to_owned(),
        partition,
        state,
        committed_offset: 430,
        lag: 3,
        records_in: 427,
        records_out: 21,
        failures: 0,
        dead_letters: 2,
        skipped: 0,
        parked: 1,
        memory_bytes: 1_179_648,
        timers: 2,
        broker_id: 1,
        records_per_second: 40,
        calls: 3,
        latency: Some(CallLatency {
            p50_us: 180,
            p99_us: 2_250,
        }),
        retries: 4,
        started_at_ms: 1_517_270_401_000,
        producer_id: None,
    };
    let backing_off = WorkerState::BackingOff {
        attempts: 2,
        reason: "trap: unreachable".to_owned(),
    };
    DeploymentDescription {
        spec: DeploymentSpec {
            inputs: vec!["earthquakes".to_owned()],
            outputs: vec![OutputSpec {
                name: "alerts".to_owned(),
                topic: "alerts".to_owned(),
            }],
            config: vec![
                ("min-mag".to_owned(), "4.5".to_owned()),
                ("min-mga".to_owned(), "5".to_owned()),
            ],
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
            ..DeploymentSpec::new("quake-alert")
        },
        revision: 3,
        digest: "3f2a".repeat(16),
        component_bytes: 123_456,
        deployed_at_ms: 1_517_270_400_000,
        imports: vec!["wasi:logging/logging@0.1.0-draft".to_owned()],
        workers: vec![worker(0, WorkerState::Running), worker(1, backing_off)],
        activity: Activity::Active,
        latency: Some(CallLatency {
            p50_us: 180,
            p99_us: 2_250,
        }),
        deployed_by: "operator".to_owned(),
        change: RevisionChange::RolledBack { to: 1 },
        shadow_of: None,
        tables: vec![TableDescription {
            name: "networks".to_owned(),
            topic: "seismic-networks".to_owned(),
            state: TableState::Following,
            bytes: 2_048,
            lag: 1,
            records_read: 12,
            records_ignored: 2,
        }],
        config_unasked: vec!["min-mga".to_owned()],
    }
}

#[test]
fn imports_are_told_by_their_packages() {
    let imports = [
        "wasi:cli/exit@0.2.6",
        "wasi:cli/stderr@0.2.6",
        "wasi:io/poll@0.2.6",
    ];
    assert_eq!(
        packages(&imports.map(str::to_owned)),
        "wasi:cli (2) wasi:io"
    );
    assert_eq!(packages(&[]), "");
}

#[test]
fn a_deployment_in_full() {
    let mut view = DeploymentView::of(&deployment());
    view.dead_letters_waiting = Some(5);
    insta::assert_snapshot!(both_forms(&view), @r#"
    deployment:     quake-alert
    state:          1 of 2 backing off
    reads:          earthquakes
    emits:          alerts=alerts
    looks up in:    networks=seismic-networks (following, 2.0 KiB, 1 behind, 12 records read, 2 without a key that can be found)
    config:         min-mag=4.5 min-mga=5 (never asked for so far: min-mga)
    start:          earliest
    limits:         64.0 MiB of memory, 4.0 GiB of state, 1s a call, 1,000 outputs a record, 100 log lines a second
    granted:        clocks secret=api-key http=http://enricher:8080
    delivery:       exactly-once
    on failure:     5 attempts, 100ms to 10s apart, park-key, then dead-letter to quake-alert.dead-letters
    revision:       3, rolled back to 1 by operator
    component:      120.6 KiB, sha256 3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a
    deployed at:    2018-01-30T00:00:00.000Z
    imports:        wasi:logging
    lag:            6
    dead letters:   5 records in quake-alert.dead-letters
    counting since: 2018-01-30T00:00:01.000Z
    calls:          6, p50 180 µs, p99 2.2 ms

    TOPIC        PARTITION  BROKER  COMMITTED  LAG  TRIED  OUT  TRIED/S     P50     P99  RETRIES  FAILURES  NEW DEAD  SKIPPED  PARKED  TIMERS   MEMORY  STATE
    earthquakes          0       1        430    3    427   21       40  180 µs  2.2 ms        4         0         2        0       1       2  1.1 MiB  running
    earthquakes          1       1        430    3    427   21       40  180 µs  2.2 ms        4         0         2        0       1       2  1.1 MiB  backing-off after 2 failures: trap: unreachable
    ---
    {
      "name": "quake-alert",
      "inputs": [
        "earthquakes"
      ],
      "outputs": [
        {
          "name": "alerts",
          "topic": "alerts"
        }
      ],
      "config": [
        {
          "name": "min-mag",
          "value": "4.5"
        },
        {
          "name": "min-mga",
          "value": "5"
        }
      ],
      "start": "earliest",
      "limits": {
        "memory_bytes": 67108864,
        "deadline_ms": 1000,
        "outputs_per_record": 1000,
        "log_lines_per_second": 100,
        "state_bytes": 4294967296
      },
      "grants": [
        "clocks",
        "secret=api-key",
        "http=http://enricher:8080"
      ],
      "delivery": "exactly-once",
      "on_failure": {
        "attempts": 5,
        "first_back_off_ms": 100,
        "longest_back_off_ms": 10000,
        "on_retry": "park-key",
        "finally": "dead-letter",
        "dead_letter_topic": "quake-alert.dead-letters"
      },
      "revision": 3,
      "digest": "3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a3f2a",
      "component_bytes": 123456,
      "deployed_at_ms": 1517270400000,
      "imports": [
        "wasi:logging/logging@0.1.0-draft"
      ],
      "lag": 6,
      "workers": [
        {
          "topic": "earthquakes",
          "partition": 0,
          "state": "running",
          "attempts": null,
          "reason": null,
          "committed_offset": 430,
          "lag": 3,
          "records_in": 427,
          "records_out": 21,
          "failures": 0,
          "dead_letters": 2,
          "skipped": 0,
          "parked": 1,
          "timers": 2,
          "memory_bytes": 1179648,
          "broker_id": 1,
          "records_per_second": 40,
          "calls": 3,
          "call_latency": {
            "p50_us": 180,
            "p99_us": 2250
          },
          "retries": 4,
          "started_at_ms": 1517270401000
        },
        {
          "topic": "earthquakes",
          "partition": 1,
          "state": "backing-off",
          "attempts": 2,
          "reason": "trap: unreachable",
          "committed_offset": 430,
          "lag": 3,
          "records_in": 427,
          "records_out": 21,
          "failures": 0,
          "dead_letters": 2,
          "skipped": 0,
          "parked": 1,
          "timers": 2,
          "memory_bytes": 1179648,
          "broker_id": 1,
          "records_per_second": 40,
          "calls": 3,
          "call_latency": {
            "p50_us": 180,
            "p99_us": 2250
          },
          "retries": 4,
          "started_at_ms": 1517270401000
        }
      ],
      "paused": false,
      "call_latency": {
        "p50_us": 180,
        "p99_us": 2250
      },
      "deployed_by": "operator",
      "change": "rolled-back",
      "rolled_back_to": 1,
      "shadow_of": null,
      "tables": [
        {
          "name": "networks",
          "topic": "seismic-networks",
          "state": "following",
          "reason": null,
          "bytes": 2048,
          "lag": 1,
          "records_read": 12,
          "records_ignored": 2
        }
      ],
      "dead_letters_waiting": 5,
      "config_unasked": [
        "min-mga"
      ]
    }
    "#);
}

#[test]
fn deployments_a_line_each() {
    insta::assert_snapshot!(Deployments::of(&[deployment()]).text(), @r"
    DEPLOYMENT   READS        EMITS          WORKERS  LAG  TRIED  OUT  FAILURES  NEW DEAD  STATE
    quake-alert  earthquakes  alerts=alerts        2    6    854   42         0         4  1 of 2 backing off
    ");
}
