//! Deployments of the example plugins, and how far they are.

use std::fs;
use std::path::{Path, PathBuf};

use millstream::Admin;

use crate::artifacts::workspace;
use crate::patience::until;

/// Writes the deployment file of an example plugin into a folder, with a component that is built in
/// place of the plugin's own folder.
pub fn file_of(plugin: &str, component: &Path, folder: &Path) -> PathBuf {
    let source = workspace().join("plugins").join(plugin);
    let text = fs::read_to_string(source.join("deployment.toml")).expect("a deployment file");
    let with_component = text.replace("component = \".\"", &format!("component = {component:?}"));
    assert_ne!(text, with_component);
    let file = folder.join(format!("{plugin}.toml"));
    fs::write(&file, with_component).expect("a file");
    file
}

/// Waits until a deployment has read all there is in so many partitions, and what came of it is on
/// its way.
pub async fn worked_off(admin: &Admin, name: &str, partitions: u32) {
    until("workers without lag", async || {
        // A broker that was just started may not have come to its workers yet.
        let group = admin.describe_group(name).await.ok()?;
        let lags = group.partitions.iter().map(|partition| partition.lag);
        (lags.len() == partitions as usize && lags.sum::<u64>() == 0).then_some(())
    })
    .await;
}

/// How many records a topic has had.
pub async fn records(admin: &Admin, topic: &str) -> u64 {
    let topic = admin.describe_topic(topic).await.expect("a topic");
    let ends = topic
        .partitions
        .iter()
        .map(|it| it.known_log().expect("a leader").high_watermark);
    ends.sum()
}

/// Waits until a topic has had so many records.
pub async fn has_records(admin: &Admin, topic: &str, number: usize) {
    until("all records of a topic", async || {
        (records(admin, topic).await >= number as u64).then_some(())
    })
    .await;
}
