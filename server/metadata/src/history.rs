//! What a deployment was before: its earlier revisions, a bounded number of them.

use std::collections::BTreeSet;

use crate::deployment::Deployment;
use crate::difference::{Difference, differences, of_component};
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
        let mut settings: Vec<_> = self
            .differences(before)
            .into_iter()
            .map(|it| it.setting)
            .collect();
        settings.dedup();
        settings
    }

    /// In what this revision differs from an earlier one.
    pub fn differences(&self, before: &Self) -> Vec<Difference> {
        let component = of_component(&before.plugin.digest, &self.plugin.digest);
        let settings = differences(&before.spec, &self.spec);
        component.into_iter().chain(settings).collect()
    }
}
