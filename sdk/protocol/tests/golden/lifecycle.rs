//! The life of a deployment, and what it measures.

use millstream_protocol::api::lifecycle::{
    ListRevisions, ListRevisionsResponse, PauseDeployment, RevisionChange, RevisionDescription,
    RollBackDeployment,
};
use millstream_protocol::api::metrics::{
    CallLatency, DescribePluginMetrics, DescribePluginMetricsResponse, GuestMetric, MetricValue,
    WorkerMetrics,
};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::plugin::OnExisting;
use millstream_protocol::api::replay::{
    ComparedOutput, DescribeReplay, PromoteDeployment, Replay, ReplayDeployment, ReplayedRange,
    ReplayedTopic,
};

use crate::cases::{Case, case, request};
use crate::samples::text;

pub(crate) fn requests() -> Vec<Case> {
    let name = text("filter");
    vec![
        request("request/pause-deployment", PauseDeployment { name }),
        request(
            "request/describe-plugin-metrics",
            DescribePluginMetrics {
                name: text("filter"),
                after: Some((text("orders"), 3)),
            },
        ),
        request(
            "request/list-revisions",
            ListRevisions {
                name: text("filter"),
            },
        ),
        request(
            "request/roll-back-deployment",
            RollBackDeployment {
                name: text("filter"),
                to: 2,
                from: 300,
            },
        ),
        request(
            "request/replay-deployment",
            ReplayDeployment {
                name: text("filter"),
                shadow: text("filter.shadow"),
                spec: None,
                from: Position::Earliest,
                until: Some(Position::Time(1_700_000_000_000)),
            },
        ),
        request(
            "request/describe-replay",
            DescribeReplay {
                shadow: text("filter.shadow"),
            },
        ),
        request(
            "request/promote-deployment",
            PromoteDeployment {
                name: text("filter"),
                shadow: text("filter.shadow"),
                partial_state: true,
            },
        ),
    ]
}

pub(crate) fn responses() -> Vec<Case> {
    let guest = |name, value| GuestMetric {
        name: text(name),
        value,
    };
    let worker = WorkerMetrics {
        topic: text("orders"),
        partition: 3,
        calls: 10,
        failures: 5,
        latency: None,
        records_in: 30,
        records_out: 40,
        guest: vec![
            guest("seen", MetricValue::Counter(300)),
            guest("depth", MetricValue::Gauge(-1.5)),
        ],
        dropped: 2,
    };
    let revision = RevisionDescription {
        revision: 3,
        digest: text("e3b0c442"),
        component_bytes: 12_345,
        at_ms: 1_700_000_000_000,
        by: text("operator"),
        change: RevisionChange::RolledBack { to: 1 },
        differs_in: vec![text("component")],
    };
    vec![
        case(
            "response/describe-plugin-metrics",
            DescribePluginMetricsResponse {
                workers: vec![worker],
                more: true,
                latency: Some(latency()),
            },
        ),
        case(
            "response/list-revisions",
            ListRevisionsResponse {
                revisions: vec![revision],
            },
        ),
        case("response/replay", replay()),
    ]
}

fn replay() -> Replay {
    let range = ReplayedRange {
        from: 10,
        until: 300,
    };
    Replay {
        of: text("filter"),
        inputs: vec![ReplayedTopic {
            topic: text("orders"),
            partitions: vec![range],
        }],
        outputs: vec![ComparedOutput {
            output: text("large"),
            live: text("large-orders"),
            shadow: text("large-orders.filter.shadow"),
            live_ends: vec![40, 500],
        }],
        since_ms: Some(-1),
        before_ms: None,
    }
}

/// The variants of small enums.
pub(crate) fn choices() -> Vec<Case> {
    vec![
        case("on-existing/refuse", OnExisting::Refuse),
        case("on-existing/replace", OnExisting::Replace),
        case("on-existing/upgrade", OnExisting::Upgrade),
        case("revision-change/deployed", RevisionChange::Deployed),
        case("revision-change/upgraded", RevisionChange::Upgraded),
        case(
            "revision-change/rolled-back",
            RevisionChange::RolledBack { to: 300 },
        ),
        case(
            "revision-change/promoted",
            RevisionChange::Promoted {
                shadow: text("filter.shadow"),
            },
        ),
    ]
}

pub(crate) fn latency() -> CallLatency {
    CallLatency {
        p50_us: 200,
        p99_us: 3_000,
    }
}
