//! Requests about plugins that no client of ours would send.

use bytes::Bytes;
use millstream::{DeploymentSpec, OutputSpec, Position, ProduceRecord, WorkerDescription};
use millstream_e2e::artifacts::drill;
use millstream_e2e::patience::until;
use millstream_e2e::random::Random;
use millstream_e2e::siege::{Siege, TARGET, throw_damaged};
use millstream_protocol::api::Request;
use millstream_protocol::api::lifecycle::{
    ListRevisions, PauseDeployment, ResumeDeployment, RollBackDeployment,
};
use millstream_protocol::api::metrics::DescribePluginMetrics;
use millstream_protocol::api::plugin::{
    DeployPlugin, DescribeDeployment, Follow, ListDeployments, MissingTopics, OnExisting,
    OpenPluginLogs, RetryDeadLetters,
};
use millstream_protocol::api::replay::{DescribeReplay, PromoteDeployment, ReplayDeployment};
use millstream_protocol::api::secret::{ListSecrets, RemoveSecret, SecretValue, SetSecret};
use millstream_protocol::api::state::{OpenState, StateQuery};

/// Where plugins emit to.
const OUTPUT: &str = "output";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_requests_about_plugins_leave_the_broker_able_to_run_them() {
    let siege = Siege::begin().await;
    let admin = siege.client.admin();
    admin.create_topic(OUTPUT).await.unwrap();
    let component = Bytes::from(std::fs::read(drill()).expect("the component"));
    let spec = |name: &str| DeploymentSpec {
        inputs: vec![TARGET.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        ..DeploymentSpec::new(name)
    };
    let victim = || "victim".to_owned();
    let deployed = admin.deploy_plugin(component.clone(), spec(&victim()));
    deployed.await.unwrap();
    let state = |query| {
        Request::OpenState(OpenState {
            name: victim(),
            topic: None,
            partition: None,
            query,
        })
    };
    let requests: Vec<Request> = vec![
        DeployPlugin {
            spec: spec(&victim()),
            on_existing: OnExisting::Replace,
            missing_topics: MissingTopics::Refuse,
        }
        .into(),
        ListDeployments { after: None }.into(),
        DescribeDeployment { name: victim() }.into(),
        DescribePluginMetrics {
            name: victim(),
            after: None,
        }
        .into(),
        PauseDeployment { name: victim() }.into(),
        ResumeDeployment { name: victim() }.into(),
        ListRevisions { name: victim() }.into(),
        RollBackDeployment {
            name: victim(),
            to: 1,
            from: 1,
        }
        .into(),
        ReplayDeployment {
            name: victim(),
            shadow: "victim.shadow".to_owned(),
            spec: None,
            from: Position::Earliest,
            until: None,
        }
        .into(),
        DescribeReplay {
            shadow: "victim.shadow".to_owned(),
        }
        .into(),
        PromoteDeployment {
            name: victim(),
            shadow: "victim.shadow".to_owned(),
            partial_state: false,
        }
        .into(),
        RetryDeadLetters {
            name: victim(),
            partition: 0,
            before: 1,
        }
        .into(),
        Request::OpenPluginLogs(OpenPluginLogs {
            name: victim(),
            tail: 1,
            follow: Follow::No,
        }),
        state(StateQuery::Key(b"key".to_vec())),
        state(StateQuery::Prefix {
            prefix: b"key".to_vec(),
            limit: 1,
        }),
        SetSecret {
            name: "secret".to_owned(),
            value: SecretValue("value".to_owned()),
        }
        .into(),
        ListSecrets {}.into(),
        RemoveSecret {
            name: "secret".to_owned(),
        }
        .into(),
    ];
    let wire = siege.wire().await;
    throw_damaged(&wire, &requests, &mut Random::seeded(11)).await;
    // Whatever became of that one, another is deployed and works.
    let after = admin.deploy_plugin(component, spec("after")).await;
    after.expect("a deployment");
    let producer = siege.client.producer(TARGET).build().await.unwrap();
    producer.send(ProduceRecord::new("hello")).await.unwrap();
    producer.close().await.unwrap();
    until("its record", async || {
        let described = admin.describe_plugin("after").await.ok()?;
        let done = |worker: &WorkerDescription| worker.lag == 0 && worker.records_in > 0;
        described.workers.iter().any(done).then_some(())
    })
    .await;
    siege.end().await;
}
