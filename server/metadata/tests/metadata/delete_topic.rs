//! Topics, deleted.

use millstream_metadata::{Actor, Command};
use millstream_protocol::ErrorCode;

use super::cluster::{Cluster, spec};

fn delete(name: &str) -> Command {
    Command::DeleteTopic {
        topic: name.into(),
        actor: Actor::User,
    }
}

#[test]
fn a_topic_made_again_is_another() {
    let mut cluster = Cluster::with_topics(&["orders", "other"]);
    let first = cluster.image.topic("orders").unwrap().topic_id;
    cluster.run(delete("orders"));
    assert_eq!(cluster.image.topic("orders"), None);
    assert_eq!(cluster.image.topic_by_id(first), None);
    assert_eq!(cluster.image.topics().count(), 1);
    let second = cluster.create("orders", 1);
    assert_ne!(first, second);
    assert_eq!(cluster.image.topic("orders").unwrap().topic_id, second);
}

#[test]
fn what_is_not_there_or_not_the_users_is_refused() {
    let cluster = Cluster::with_topics(&["orders"]);
    cluster.refused(
        delete("nothing"),
        ErrorCode::UnknownTopic,
        "no topic is named nothing",
    );
    cluster.refused(
        delete("__offsets"),
        ErrorCode::InvalidRequest,
        "topic __offsets is the broker's own: names that begin with __ are reserved",
    );
}

#[test]
fn a_topic_in_use_stays() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    cluster.deploy(spec("alert", &["in"], &["out"]));
    for topic in ["in", "out"] {
        let says = format!("topic {topic} is used by the deployment alert");
        cluster.refused(delete(topic), ErrorCode::TopicInUse, &says);
    }
    cluster.run(Command::RemoveDeployment {
        name: "alert".into(),
    });
    cluster.run(delete("in"));
}
