//! Has the workers on this broker be as the metadata has them.
//!
//! A change of a deployment is a change of the metadata and nothing else; every broker follows it by
//! itself, one that was away as well. Whoever makes a change waits until all that are there have followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_metadata::{Deployment, Image};
use millstream_protocol::WireError;
use millstream_protocol::api::lifecycle::Activity;

use super::Deployments;
use crate::errors;
use crate::workers::deployment::RunningDeployment;

/// How long deployments that did not start wait before they are tried again, at first; it doubles.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// How often it is looked whether workers that were steered are to be let go.
const STEERED_CHECK: Duration = Duration::from_secs(1);

impl Deployments {
    /// Follows the image until this broker ends. What cannot be started now, as when compiling takes too
    /// long on a busy machine, is tried again.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut images = self.controller.quorum.watch();
        let mut back_off = FIRST_BACK_OFF;
        let sweeping = Arc::clone(&self);
        tokio::spawn(async move { sweeping.sweep().await });
        loop {
            let applied = images.borrow_and_update().clone();
            let all = self.follow_image(&applied.image).await;
            self.followed.send_replace(applied.index);
            let wait = match (all, self.any_steered()) {
                (_, true) => STEERED_CHECK,
                (false, false) => back_off,
                (true, false) => LONGEST_BACK_OFF,
            };
            tokio::select! {
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    back_off = FIRST_BACK_OFF;
                }
                () = self.again.notified() => back_off = FIRST_BACK_OFF,
                () = tokio::time::sleep(wait) => back_off = (2 * back_off).min(LONGEST_BACK_OFF),
            }
        }
    }

    /// Waits until the workers here are as the metadata has them at an index, as far as they can be.
    pub(crate) async fn followed(&self, index: u64) {
        let mut followed = self.followed.subscribe();
        // The sender is here.
        let _ = followed.wait_for(|followed| *followed >= Some(index)).await;
    }

    /// Tries once more to have a deployment at work that is not, and says why if it is not then.
    pub(super) async fn ensure_running(&self, name: &str) -> Result<(), WireError> {
        if self.running.lock().contains_key(name) {
            return Ok(());
        }
        let mut followed = self.followed.subscribe();
        followed.mark_unchanged();
        self.again.notify_one();
        // What was under way when it was woken may not have looked at it.
        for _ in 0..2 {
            if self.running.lock().contains_key(name) {
                return Ok(());
            }
            let _ = followed.changed().await;
            self.again.notify_one();
        }
        let failure = self.failures.lock().get(name).cloned();
        failure.map_or(Ok(()), Err)
    }

    /// Whether all of them are as the image has them.
    async fn follow_image(&self, image: &Image) -> bool {
        let gone = self.take_gone(image);
        let any_gone = !gone.is_empty();
        // None goes on while another one ends.
        gone.iter().for_each(RunningDeployment::begin_stop);
        for deployment in gone {
            deployment.stop().await;
        }
        let mut all = true;
        let mut any_new = false;
        for deployment in image.deployments() {
            let name = &deployment.spec.name;
            match self.follow_one(deployment).await {
                Ok(is_new) => {
                    any_new |= is_new;
                    self.failures.lock().remove(name);
                }
                Err(error) => {
                    tracing::error!(deployment = name, %error, "deployment not started: it is tried again");
                    self.failures.lock().insert(name.clone(), error);
                    all = false;
                }
            }
        }
        if any_gone || any_new {
            self.forget_tables().await;
            self.forget_compiled().await;
            self.forget_lost_states();
        }
        all
    }

    /// Takes out those that the image has no more.
    fn take_gone(&self, image: &Image) -> Vec<RunningDeployment> {
        let mut running = self.running.lock();
        self.failures
            .lock()
            .retain(|name, _| image.deployment(name).is_some());
        let gone = running.extract_if(.., |name, _| image.deployment(name).is_none());
        let gone: BTreeMap<_, _> = gone.collect();
        gone.into_values().collect()
    }

    /// Has one as the image has it. Whether it was not at work before in this revision.
    async fn follow_one(&self, deployment: &Deployment) -> Result<bool, WireError> {
        let name = &deployment.spec.name;
        let resting = {
            let running = self.running.lock();
            running
                .get(name)
                .filter(|it| it.is(deployment))
                .map(|it| it.follow(deployment.activity))
        };
        if let Some(resting) = resting {
            if let Some(resting) = resting {
                resting.await;
            }
            self.end_steering(deployment);
            return Ok(false);
        }
        let shared = self.prepare(deployment).await?;
        // Two versions never work on the same partition: the next one finds in the journal what
        // this one has come to.
        let before = self.running.lock().remove(name);
        if let Some(before) = before {
            before.stop().await;
        }
        let started = RunningDeployment::start(shared);
        self.running.lock().insert(name.clone(), started);
        Ok(true)
    }

    fn any_steered(&self) -> bool {
        let running = self.running.lock();
        running.values().any(RunningDeployment::is_steered)
    }

    /// Whoever has steered it may be gone: then it goes on as the image has it.
    fn end_steering(&self, deployment: &Deployment) {
        let running = self.running.lock();
        let Some(running) = running.get(&deployment.spec.name) else {
            return;
        };
        let is_over = running
            .shared
            .steered_until
            .lock()
            .take_if(|until| *until <= Instant::now())
            .is_some();
        if is_over {
            tracing::info!(
                deployment = deployment.spec.name,
                "nobody steers its workers any more: they go on"
            );
            let replay = deployment.shadow.as_ref().map(|shadow| &shadow.replay);
            running.bound(Arc::new(self.bounds(replay)));
            if deployment.activity == Activity::Active {
                running.let_go();
            }
        }
    }

    /// Forgets the machine code of components that no revision needs.
    pub(super) async fn forget_compiled(&self) {
        // A broker that has not run any plugin has no cache open.
        if self.runtime.get().is_none() {
            return;
        }
        let image = self.controller.image();
        let needed: std::collections::BTreeSet<String> =
            image.artefacts().into_iter().map(str::to_owned).collect();
        let forget = move |runtime: &millstream_runtime::Runtime| {
            runtime.forget_unless(|it| needed.contains(it))
        };
        if let Err(error) = self.with_runtime(forget).await {
            tracing::warn!(%error, "compiled components that no deployment needs remain");
        }
    }
}

impl RunningDeployment {
    /// Whether it is this revision of this deployment.
    pub(super) fn is(&self, deployment: &Deployment) -> bool {
        self.shared.deployment_id == deployment.deployment_id
            && self.shared.revision == deployment.revision
    }

    /// Has its workers stand still, or go on, where the metadata wants something else than before; what
    /// waits until they stand still.
    fn follow(&self, activity: Activity) -> Option<impl Future<Output = ()> + use<>> {
        let before = std::mem::replace(&mut *self.shared.activity.lock(), activity);
        match activity {
            Activity::Paused if before != activity => Some(self.hold()),
            Activity::Active if before != activity => {
                self.let_go();
                None
            }
            Activity::Paused | Activity::Active => None,
        }
    }

    fn is_steered(&self) -> bool {
        self.shared.steered_until.lock().is_some()
    }
}

/// A deployment is known, and not at work here.
pub(super) fn not_running(name: &str) -> WireError {
    errors::not_ready(format!("deployment {name} is not running yet"))
}
