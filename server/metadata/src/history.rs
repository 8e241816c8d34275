//! What a deployment was before: its earlier revisions, a bounded number of them.

use std::collections::BTreeSet;

use millstream_protocol::api::plugin::DeploymentSpec;

use crate::deployment::Deployment;
use crate::image::Image;

impl Image {
    /// The earlier revisions of the deployment of this name that are kept, the oldest first.
    pub fn history(&self, name: &str) -> &[Deployment] {
        self.history.get(name).map_or(&[], Vec::as_slice)
    }

    /// The digests of the components that a deployment has, or had in a revision that is kept.
    pub fn artefacts(&self) -> BTreeSet<&str> {
        let earlier = self.history.values().flatten();
        self.deployments()
            .chain(earlier)
            .map(|deployment| deployment.plugin.digest.as_str())
            .collect()
    }

    pub(crate) fn apply_deployment_put(&mut self, deployment: &Deployment, history: u32) {
        let name = &deployment.spec.name;
        if let Some(before) = self.deployments.insert(name.clone(), deployment.clone()) {
            let earlier = self.history.entry(name.clone()).or_default();
            earlier.push(before);
            let too_many = earlier.len().saturating_sub(history as usize);
            earlier.drain(..too_many);
        }
    }
}

impl Deployment {
    /// The names of the settings in which this revision is not as an earlier one.
    pub fn differs_in(&self, before: &Self) -> Vec<&'static str> {
        let DeploymentSpec {
            name: _,
            inputs,
            outputs,
            config,
            start,
            limits,
            delivery,
            on_failure,
            grants,
            tables,
        } = &before.spec;
        let now = &self.spec;
        [
            ("component", self.plugin.digest == before.plugin.digest),
            ("inputs", now.inputs == *inputs),
            ("outputs", now.outputs == *outputs),
            ("config", now.config == *config),
            ("from", now.start == *start),
            ("limits", now.limits == *limits),
            ("delivery", now.delivery == *delivery),
            ("on-failure", now.on_failure == *on_failure),
            ("grants", now.grants == *grants),
            ("tables", now.tables == *tables),
        ]
        .into_iter()
        .filter_map(|(setting, same)| (!same).then_some(setting))
        .collect()
    }
}
