//! Requests, and their repetition.

use std::time::Duration;

use futures_util::StreamExt;
use millstream::{
    DeploymentSpec, Durability, ErrorCode, OffsetCommit, OutputSpec, Position, TopicSelection,
};
use millstream_protocol::api::Request;

use crate::broker::{Broker, error};

#[tokio::test]
async fn listings_in_several_parts_are_put_together() {
    let broker = Broker::start().await;
    let admin = broker.client().await.admin();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        admin.create_topic(name).await.unwrap();
        let commit = OffsetCommit {
            topic: name.to_owned(),
            partition: 0,
            offset: 1,
            metadata: String::new(),
        };
        admin
            .commit_group_offsets(name, vec![commit])
            .await
            .unwrap();
    }
    let topics = admin.list_topics().await.unwrap();
    let listed: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(listed, names);
    let groups = admin.list_groups().await.unwrap();
    let listed: Vec<_> = groups.iter().map(|group| group.group.as_str()).collect();
    assert_eq!(listed, names);
    let named = admin.describe_topics(["e", "c", "a"]).await.unwrap();
    let listed: Vec<_> = named.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(listed, ["a", "c", "e"]);
}

#[tokio::test]
async fn topics_come_and_go() {
    let broker = Broker::start().await;
    let admin = broker.client().await.admin();
    let created = admin
        .create_topic("orders")
        .partitions(3)
        .durability(Durability::Relaxed)
        .retention(Duration::from_secs(60))
        .retention_bytes(1 << 30)
        .await
        .unwrap();
    assert_eq!(
        (created.name.as_str(), created.partitions.len()),
        ("orders", 3)
    );
    assert_eq!(created.config.durability, Durability::Relaxed);
    assert_eq!(created.config.retention_ms, Some(60_000));

    let exists = admin.create_topic("orders").await.unwrap_err();
    assert_eq!(exists.code(), Some(ErrorCode::TopicExists));

    let altered = admin
        .alter_topic("orders")
        .partitions(5)
        .retention(None)
        .await
        .unwrap();
    assert_eq!(
        (altered.partitions.len(), altered.config.retention_ms),
        (5, None)
    );
    assert_eq!(
        admin.list_topics().await.unwrap(),
        admin
            .select_topics(TopicSelection::AllWithInternal)
            .await
            .unwrap()
    );
    assert_eq!(admin.describe_topic("orders").await.unwrap(), altered);

    admin.delete_topic("orders").await.unwrap();
    assert_eq!(
        admin.delete_topic("orders").await.unwrap_err().code(),
        Some(ErrorCode::UnknownTopic)
    );
}

#[tokio::test]
async fn an_unknown_topic_is_told_at_once() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let unknown = client.admin().describe_topic("orders").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UnknownTopic));
    assert_eq!(unknown.to_string(), "unknown topic orders");
    assert_eq!(
        client.producer("orders").build().await.unwrap_err().code(),
        Some(ErrorCode::UnknownTopic)
    );
    let described = broker
        .state()
        .count(|request| matches!(request, Request::DescribeTopics(_)));
    assert_eq!(described, 2, "what will not change is not asked twice");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let codes = [
        ErrorCode::NotReady,
        ErrorCode::Busy,
        ErrorCode::NotLeader,
        ErrorCode::ShuttingDown,
    ];
    broker.faults(|faults| {
        faults
            .refuse_unary
            .extend(codes.map(|code| error(code, "not now")))
    });
    broker
        .client()
        .await
        .admin()
        .describe_topic("orders")
        .await
        .unwrap();
    assert!(broker.state().faults.refuse_unary.is_empty());
}

#[tokio::test]
async fn a_lost_answer_does_not_turn_success_into_failure() {
    let broker = Broker::start().await;
    let admin = broker.client().await.admin();
    let lose_answer = || broker.faults(|faults| faults.lose_answers = 1);

    lose_answer();
    let created = admin.create_topic("orders").partitions(2).await.unwrap();
    assert_eq!(created.partitions.len(), 2);
    assert_eq!(
        broker
            .state()
            .count(|request| matches!(request, Request::CreateTopic(_))),
        2
    );

    lose_answer();
    admin.delete_topic("orders").await.unwrap();

    lose_answer();
    let deployed = admin
        .deploy_plugin(&b"component"[..], spec("enrich"))
        .await
        .unwrap();
    assert_eq!(deployed.component_bytes, 9);

    lose_answer();
    admin.remove_plugin("enrich").await.unwrap();
}

#[tokio::test]
async fn somebody_elses_topic_is_not_taken_for_ones_own() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 7);
    broker.faults(|faults| faults.lose_answers = 1);
    let exists = broker
        .client()
        .await
        .admin()
        .create_topic("orders")
        .partitions(2)
        .await
        .unwrap_err();
    assert_eq!(exists.code(), Some(ErrorCode::TopicExists));
}

#[tokio::test]
async fn offsets_are_looked_up_and_records_deleted() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    broker.append("orders", 1, ["a", "b", "c"]);
    let admin = broker.client().await.admin();
    assert_eq!(
        admin
            .offset("orders", 1, Position::Latest)
            .await
            .unwrap()
            .offset,
        3
    );
    assert_eq!(admin.delete_records("orders", 1, 2).await.unwrap(), 2);
    let listed = admin
        .list_offsets("orders", [(1, Position::Earliest), (9, Position::Latest)])
        .await
        .unwrap();
    assert_eq!(listed[0].as_ref().unwrap().offset, 2);
    assert_eq!(
        listed[1].as_ref().unwrap_err().code,
        ErrorCode::UnknownPartition
    );
}

#[tokio::test]
async fn groups_are_looked_after() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let admin = broker.client().await.admin();
    let offset = |partition, offset| OffsetCommit {
        topic: "orders".to_owned(),
        partition,
        offset,
        metadata: String::new(),
    };
    // More than one request takes.
    let offsets: Vec<_> = (0..500)
        .map(|partition| offset(partition, u64::from(partition)))
        .collect();
    admin
        .commit_group_offsets("billing", offsets.clone())
        .await
        .unwrap();
    assert_eq!(admin.group_offsets("billing").await.unwrap(), offsets);
    assert_eq!(admin.list_groups().await.unwrap()[0].group, "billing");
    assert_eq!(
        admin.describe_group("billing").await.unwrap().group,
        "billing"
    );
    admin.delete_group("billing").await.unwrap();
    assert_eq!(
        admin.describe_group("billing").await.unwrap_err().code(),
        Some(ErrorCode::UnknownGroup)
    );
}

#[tokio::test]
async fn plugins_are_deployed_with_their_component() {
    let broker = Broker::start().await;
    let admin = broker.client().await.admin();
    let component = vec![7; 5 << 20];
    admin
        .deploy_plugin(component.clone(), spec("enrich"))
        .await
        .unwrap();
    assert_eq!(broker.state().deployments["enrich"].1, component);
    assert_eq!(admin.list_plugins().await.unwrap().len(), 1);
    assert_eq!(
        admin.describe_plugin("enrich").await.unwrap().spec,
        spec("enrich")
    );
    let too_large = admin
        .deploy_plugin(vec![0; (32 << 20) + 1], spec("large"))
        .await;
    assert!(matches!(
        too_large,
        Err(millstream::Error::InvalidArgument(_))
    ));
}

#[tokio::test]
async fn logs_come_line_by_line() {
    let broker = Broker::start().await;
    let admin = broker.client().await.admin();
    admin
        .deploy_plugin(&b"component"[..], spec("enrich"))
        .await
        .unwrap();
    let logs = admin.plugin_logs("enrich").tail(3).await.unwrap();
    let lines: Vec<_> = logs.map(|line| line.unwrap().message).collect().await;
    assert_eq!(lines, ["line 0", "line 1", "line 2"]);

    let mut following = admin.plugin_logs("enrich").tail(1).follow().await.unwrap();
    assert_eq!(following.next().await.unwrap().unwrap().message, "line 0");
    broker.kill_connections();
    assert!(
        following.next().await.unwrap().is_err(),
        "a lost connection is told"
    );
    assert!(following.next().await.is_none());

    let mut unknown = admin.plugin_logs("nothing").await.unwrap();
    assert_eq!(
        unknown.next().await.unwrap().unwrap_err().code(),
        Some(ErrorCode::UnknownDeployment)
    );
}

fn spec(name: &str) -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec!["in".to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: "out".to_owned(),
        }],
        ..DeploymentSpec::new(name)
    }
}
