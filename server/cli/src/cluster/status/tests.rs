use millstream::cluster::{
    BrokerReport, ChangingPartition, DiskSpace, OfflinePartition, QuorumDescription,
    UnderReplicated,
};
use uuid::Uuid;

use super::*;
use crate::output::both_forms;

const ID: Uuid = Uuid::from_u128(0x0189_dcd0_11aa_7000_8000_0000_0000_0001);

fn listed<T>(first: Vec<T>) -> Listed<T> {
    Listed {
        count: first.len() as u64,
        first,
    }
}

fn broker(broker_id: u32) -> ClusterBroker {
    ClusterBroker {
        broker_id,
        address: format!("10.0.0.{broker_id}:9092"),
        rack: (broker_id == 1).then(|| "a".to_owned()),
        directory_id: ID,
        incarnation: 2,
        state: BrokerState::Live,
        silent_ms: Some(40),
        leads: 2,
        active: Some(2),
        keeps: 6,
        stuck: 0,
        report: Some(BrokerReport {
            software: "millstream/0.1.0".to_owned(),
            uptime_ms: 125_000,
            disk: Some(DiskSpace {
                used_bytes: 3 << 20,
                free_bytes: 40 << 30,
                total_bytes: 100 << 30,
            }),
            largest_lag: Some(1_200),
        }),
    }
}

fn cluster() -> ClusterDescription {
    let member = |broker_id| QuorumMember {
        broker_id,
        votes: broker_id < 3,
        behind: Some(0),
    };
    ClusterDescription {
        cluster_id: Some(ID),
        feature_level: 1,
        told_by: 1,
        controller: Some(1),
        quorum: QuorumDescription {
            term: 4,
            leader: Some(1),
            members: (1..=3).map(member).collect(),
            majority_silent_ms: Some(12),
        },
        brokers: (1..=3).map(broker).collect(),
        partitions: 6,
        offline: listed(Vec::new()),
        under_replicated: listed(Vec::new()),
        changing: listed(Vec::new()),
    }
}

#[test]
fn a_cluster_in_which_all_is_well() {
    insta::assert_snapshot!(ClusterView::of(&cluster()).text(), @r"
    all is well

    cluster:         0189dcd0-11aa-7000-8000-000000000001
    looked after by: broker 1
    metadata:        led by broker 1 in term 4, voters 1,2, learners 3
    partitions:      6, 0 offline, 0 under-replicated, 0 changing

    BROKER  STATE  ADDRESS        RACK  SILENT  LEADS  KEEPS    LAG     LOGS  DISK FREE  QUORUM   SOFTWARE
         1  live   10.0.0.1:9092  a      40 ms      2      6  1,200  3.0 MiB   40.0 GiB  voter    millstream/0.1.0
         2  live   10.0.0.2:9092  -      40 ms      2      6  1,200  3.0 MiB   40.0 GiB  voter    millstream/0.1.0
         3  live   10.0.0.3:9092  -      40 ms      2      6  1,200  3.0 MiB   40.0 GiB  learner  millstream/0.1.0
    ");
}

#[test]
fn a_broker_that_is_behind_and_one_without_room_are_named() {
    let mut cluster = cluster();
    let reports = cluster
        .brokers
        .iter_mut()
        .filter_map(|it| it.report.as_mut());
    let small = DiskSpace {
        used_bytes: 24 << 20,
        free_bytes: 6 << 20,
        total_bytes: 48 << 20,
    };
    let full = DiskSpace {
        free_bytes: 24 << 10,
        ..small
    };
    for (report, (lag, disk)) in reports.zip([(10_001, small), (10_000, full)]) {
        report.largest_lag = Some(lag);
        report.disk = Some(disk);
    }
    assert_eq!(
        problems(&cluster),
        [
            "broker 1 is 10,001 records behind in a partition: it does not take over there at once",
            "the disk of broker 2 is full, or nearly so: 24.0 KiB are free",
        ]
    );
}

#[test]
fn what_is_wrong_comes_first() {
    let mut cluster = cluster();
    cluster.brokers[1] = ClusterBroker {
        state: BrokerState::Gone,
        silent_ms: Some(75_000),
        active: Some(0),
        report: None,
        ..broker(2)
    };
    cluster.brokers[2] = ClusterBroker {
        state: BrokerState::Draining,
        active: Some(1),
        stuck: 1,
        ..broker(3)
    };
    cluster.quorum.members[1].behind = Some(1_500);
    let offline = |partition, reason| OfflinePartition {
        topic: "orders".to_owned(),
        partition,
        leader: 2,
        leader_epoch: 7,
        reason,
    };
    let not_leading = OfflineReason::NotLeading {
        for_ms: 1_250,
        attempts: 1,
    };
    cluster.offline = listed(vec![
        offline(0, OfflineReason::NoLeader),
        offline(1, OfflineReason::NoMajority),
        offline(2, not_leading),
    ]);
    cluster.partitions = 600;
    cluster.under_replicated = Listed {
        count: 502,
        first: vec![UnderReplicated {
            topic: "orders".to_owned(),
            partition: 0,
            missing: vec![2, 3],
        }],
    };
    cluster.changing = listed(vec![ChangingPartition {
        topic: "orders".to_owned(),
        partition: 4,
        from: vec![3, 1],
        to: vec![2, 1],
    }]);
    insta::assert_snapshot!(both_forms(&ClusterView::of(&cluster)), @r#"
    3 of 600 partitions take no records
    502 of 600 partitions have fewer whole replicas than they should
    broker 2 is gone for 1m 15s
    broker 3 is to be emptied, and there is nowhere to go for 1 replica of it

    cluster:         0189dcd0-11aa-7000-8000-000000000001
    looked after by: broker 1
    metadata:        led by broker 1 in term 4, voters 1,2, learners 3
    partitions:      600, 3 offline, 502 under-replicated, 1 changing

    BROKER  STATE     ADDRESS        RACK  SILENT   LEADS  KEEPS      LAG     LOGS  DISK FREE  QUORUM               SOFTWARE
         1  live      10.0.0.1:9092  a      40 ms       2      6    1,200  3.0 MiB   40.0 GiB  voter                millstream/0.1.0
         2  gone      10.0.0.2:9092  -     1m 15s  0 of 2      6  unknown  unknown    unknown  voter, 1,500 behind  unknown
         3  draining  10.0.0.3:9092  -      40 ms  1 of 2      6    1,200  3.0 MiB   40.0 GiB  learner              millstream/0.1.0

    OFFLINE  PARTITION  LEADER  EPOCH  WHY
    orders           0       2      7  its leader is not there
    orders           1       2      7  too few of its replicas are there and whole
    orders           2       2      7  its leader has not begun to lead for 1.2 s

    UNDER-REPLICATED  PARTITION  MISSING ON
    orders                    0  2,3
    and 501 more

    CHANGING  PARTITION  FROM  TO
    orders            4  3,1   2,1
    ---
    {
      "problems": [
        "3 of 600 partitions take no records",
        "502 of 600 partitions have fewer whole replicas than they should",
        "broker 2 is gone for 1m 15s",
        "broker 3 is to be emptied, and there is nowhere to go for 1 replica of it"
      ],
      "cluster_id": "0189dcd0-11aa-7000-8000-000000000001",
      "feature_level": 1,
      "told_by": 1,
      "controller": 1,
      "quorum": {
        "term": 4,
        "leader": 1,
        "voters": [
          1,
          2
        ],
        "learners": [
          3
        ],
        "majority_silent_ms": 12
      },
      "brokers": [
        {
          "broker_id": 1,
          "address": "10.0.0.1:9092",
          "rack": "a",
          "directory_id": "0189dcd0-11aa-7000-8000-000000000001",
          "incarnation": 2,
          "state": "live",
          "silent_ms": 40,
          "leads": 2,
          "active": 2,
          "keeps": 6,
          "stuck": 0,
          "quorum": "voter",
          "metadata_behind": 0,
          "software": "millstream/0.1.0",
          "uptime_ms": 125000,
          "largest_lag": 1200,
          "disk_used_bytes": 3145728,
          "disk_free_bytes": 42949672960,
          "disk_total_bytes": 107374182400
        },
        {
          "broker_id": 2,
          "address": "10.0.0.2:9092",
          "rack": null,
          "directory_id": "0189dcd0-11aa-7000-8000-000000000001",
          "incarnation": 2,
          "state": "gone",
          "silent_ms": 75000,
          "leads": 2,
          "active": 0,
          "keeps": 6,
          "stuck": 0,
          "quorum": "voter",
          "metadata_behind": 1500,
          "software": null,
          "uptime_ms": null,
          "largest_lag": null,
          "disk_used_bytes": null,
          "disk_free_bytes": null,
          "disk_total_bytes": null
        },
        {
          "broker_id": 3,
          "address": "10.0.0.3:9092",
          "rack": null,
          "directory_id": "0189dcd0-11aa-7000-8000-000000000001",
          "incarnation": 2,
          "state": "draining",
          "silent_ms": 40,
          "leads": 2,
          "active": 1,
          "keeps": 6,
          "stuck": 1,
          "quorum": "learner",
          "metadata_behind": 0,
          "software": "millstream/0.1.0",
          "uptime_ms": 125000,
          "largest_lag": 1200,
          "disk_used_bytes": 3145728,
          "disk_free_bytes": 42949672960,
          "disk_total_bytes": 107374182400
        }
      ],
      "partitions": 600,
      "offline": {
        "count": 3,
        "first": [
          {
            "topic": "orders",
            "partition": 0,
            "leader": 2,
            "leader_epoch": 7,
            "reason": "no_leader",
            "for_ms": null,
            "attempts": null
          },
          {
            "topic": "orders",
            "partition": 1,
            "leader": 2,
            "leader_epoch": 7,
            "reason": "no_majority",
            "for_ms": null,
            "attempts": null
          },
          {
            "topic": "orders",
            "partition": 2,
            "leader": 2,
            "leader_epoch": 7,
            "reason": "not_leading",
            "for_ms": 1250,
            "attempts": 1
          }
        ]
      },
      "under_replicated": {
        "count": 502,
        "first": [
          {
            "topic": "orders",
            "partition": 0,
            "missing": [
              2,
              3
            ]
          }
        ]
      },
      "changing": {
        "count": 1,
        "first": [
          {
            "topic": "orders",
            "partition": 4,
            "from": [
              3,
              1
            ],
            "to": [
              2,
              1
            ]
          }
        ]
      }
    }
    "#);
}

#[test]
fn what_nobody_tells_is_unknown() {
    let mut cluster = cluster();
    cluster.controller = None;
    cluster.told_by = 2;
    cluster.quorum.leader = None;
    cluster.quorum.majority_silent_ms = None;
    for member in &mut cluster.quorum.members {
        member.behind = None;
    }
    for broker in &mut cluster.brokers {
        broker.silent_ms = None;
        broker.active = None;
        broker.report = None;
    }
    insta::assert_snapshot!(ClusterView::of(&cluster).text(), @r"
    nobody who looks after the cluster can be asked: this is what broker 2 has heard last

    cluster:         0189dcd0-11aa-7000-8000-000000000001
    looked after by: unknown
    metadata:        led by nobody that is known in term 4, voters 1,2, learners 3
    partitions:      6, 0 offline, 0 under-replicated, 0 changing

    BROKER  STATE  ADDRESS        RACK   SILENT  LEADS  KEEPS      LAG     LOGS  DISK FREE  QUORUM   SOFTWARE
         1  live   10.0.0.1:9092  a     unknown      2      6  unknown  unknown    unknown  voter    unknown
         2  live   10.0.0.2:9092  -     unknown      2      6  unknown  unknown    unknown  voter    unknown
         3  live   10.0.0.3:9092  -     unknown      2      6  unknown  unknown    unknown  learner  unknown
    ");
}

#[test]
fn a_cluster_that_can_decide_nothing_is_not_well() {
    let mut cluster = cluster();
    cluster.quorum.majority_silent_ms = Some(9_000);
    for broker in &mut cluster.brokers[1..] {
        broker.silent_ms = Some(9_100);
        broker.report = None;
    }
    insta::assert_snapshot!(ClusterView::of(&cluster).text(), @r"
    no majority of the metadata quorum has answered for 9.0 s: nothing can be decided, not even that a broker is gone
    nothing was heard of broker 2 for 9.1 s
    nothing was heard of broker 3 for 9.1 s

    cluster:         0189dcd0-11aa-7000-8000-000000000001
    looked after by: broker 1
    metadata:        led by broker 1 in term 4, voters 1,2, learners 3
    partitions:      6, 0 offline, 0 under-replicated, 0 changing

    BROKER  STATE  ADDRESS        RACK  SILENT  LEADS  KEEPS      LAG     LOGS  DISK FREE  QUORUM   SOFTWARE
         1  live   10.0.0.1:9092  a      40 ms      2      6    1,200  3.0 MiB   40.0 GiB  voter    millstream/0.1.0
         2  live   10.0.0.2:9092  -      9.1 s      2      6  unknown  unknown    unknown  voter    unknown
         3  live   10.0.0.3:9092  -      9.1 s      2      6  unknown  unknown    unknown  learner  unknown
    ");
}
