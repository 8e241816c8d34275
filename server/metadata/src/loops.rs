//! Deployments that feed themselves.
//!
//! A record that comes back to where it came from goes round for ever. Deployments are edges from
//! their input topics to their output topics and their dead-letter topic; a new one may not close a circle, on its own or
//! through others.

use std::collections::{BTreeMap, VecDeque};

use millstream_protocol::api::plugin::DeploymentSpec;

use crate::image::Image;

/// The shortest circle that `spec` would close: a topic, the deployment that reads it, the topic
/// that this one writes, and so on back to the first topic. A deployment of the same name does not
/// count, as `spec` takes its place.
pub(crate) fn find_loop(image: &Image, spec: &DeploymentSpec) -> Option<Vec<String>> {
    // From each topic reached: the deployment and the topic that lead to it.
    let mut came_from: BTreeMap<&str, Option<(&str, &str)>> = BTreeMap::new();
    let mut queue = VecDeque::new();
    for topic in spec.written_topics() {
        if came_from.insert(topic, None).is_none() {
            queue.push_back(topic);
        }
    }
    while let Some(topic) = queue.pop_front() {
        if spec.inputs.iter().any(|input| input == topic) {
            return Some(path(spec, topic, &came_from));
        }
        let readers = image.deployments().map(|deployment| &deployment.spec);
        for reader in readers.filter(|reader| reader.name != spec.name) {
            if !reader.inputs.iter().any(|input| input == topic) {
                continue;
            }
            for written in reader.written_topics() {
                if !came_from.contains_key(written) {
                    came_from.insert(written, Some((&reader.name, topic)));
                    queue.push_back(written);
                }
            }
        }
    }
    None
}

fn path(
    spec: &DeploymentSpec,
    input: &str,
    came_from: &BTreeMap<&str, Option<(&str, &str)>>,
) -> Vec<String> {
    let mut backwards = vec![input];
    let mut topic = input;
    while let Some(&Some((deployment, from))) = came_from.get(topic) {
        backwards.extend([deployment, from]);
        topic = from;
    }
    backwards.extend([spec.name.as_str(), input]);
    backwards.into_iter().rev().map(str::to_owned).collect()
}
