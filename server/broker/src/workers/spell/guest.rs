//! A worker's guest, on a thread of the broker's guests.

use std::sync::Arc;

use millstream_protocol::api::plugin::FailureAction;
use millstream_runtime::{CallError, Instance};

use super::{Spell, Trouble};
use crate::partition::PartitionReader;
use crate::workers::deployment::{Surroundings, setup};
use crate::workers::input::Input;
use crate::workers::logs::WorkerLog;
use crate::workers::settle::Unsettled;
use crate::workers::threads::TurnLost;
use crate::workers::turn::{Setting, TurnError};

/// A guest, ready to be called on a thread that may block.
pub(super) struct Caller<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) instance: &'a mut Option<Instance>,
    pub(super) start: &'a dyn Fn() -> Result<Instance, String>,
}

/// What came of it, and the guest, if it is still of use.
pub(super) type Ran<T> = Result<(T, Option<Instance>), TurnLost>;

impl Spell {
    /// Does something with the guest, on a thread of the broker's guests.
    pub(super) async fn on_a_thread<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&PartitionReader, &mut Caller<'_>) -> T + Send + 'static,
    ) -> Result<T, Trouble> {
        let ran = self.begin_on_a_thread(call).await;
        self.returned(ran)
    }

    /// The same, beside what else is done: the guest is away until it has [returned](Self::returned).
    pub(super) fn begin_on_a_thread<T: Send + 'static, C>(
        &mut self,
        call: C,
    ) -> impl Future<Output = Ran<T>> + use<T, C>
    where
        C: FnOnce(&PartitionReader, &mut Caller<'_>) -> T + Send + 'static,
    {
        let (shared, input) = (Arc::clone(&self.shared), self.input.clone());
        let (reader, state) = (self.reader.clone(), self.state.reader());
        let mut instance = self.instance.take();
        let (progress, waits) = (self.progress.clone(), Arc::clone(&self.waits));
        let (its, given_up) = (Arc::clone(&shared), Arc::clone(&waits));
        let run = move || {
            let setting = Setting {
                outputs: &shared.outputs,
                input_partition: input.id().partition,
                holds_back: shared.spec.on_failure.holds_back,
                pauses_after: match shared.spec.on_failure.finally {
                    FailureAction::Pause => Some(shared.spec.on_failure.attempts),
                    FailureAction::DeadLetter { .. } | FailureAction::Skip => None,
                },
                progress: &progress,
            };
            let start = || {
                let log = WorkerLog {
                    logs: Arc::clone(&shared.logs),
                    topic: input.topic().to_string(),
                    partition: input.id().partition,
                };
                let surroundings = Surroundings {
                    log,
                    state: Arc::clone(&state),
                    metrics: Arc::clone(progress.guest()),
                    tables: shared.tables.readers(),
                    secrets: Arc::clone(&shared.secrets),
                    waits: Arc::clone(&waits),
                };
                let setup = setup(&shared.spec, surroundings);
                shared
                    .plugin
                    .start(setup)
                    .map_err(|error| error.to_string())
            };
            let mut caller = Caller {
                setting: &setting,
                instance: &mut instance,
                start: &start,
            };
            let came = call(&reader, &mut caller);
            (came, instance)
        };
        async move { its.threads.run(&its.share, given_up.given_up(), run).await }
    }

    /// Takes the guest back.
    pub(super) fn returned<T>(&mut self, ran: Ran<T>) -> Result<T, Trouble> {
        let (came, instance) = ran.map_err(|lost| {
            self.begin_again = matches!(lost, TurnLost::GivenUp);
            Trouble(lost.to_string())
        })?;
        if let Some(instance) = &instance {
            let memory_bytes = instance.memory_bytes();
            self.progress
                .change(|progress| progress.memory_bytes = memory_bytes);
        }
        self.instance = instance;
        Ok(came)
    }

    /// Calls the guest. The inner error: the guest failed.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&PartitionReader, &mut Caller<'_>) -> Result<T, TurnError> + Send + 'static,
    ) -> Result<Result<T, Unsettled>, Trouble> {
        match self.on_a_thread(call).await? {
            Ok(came) => Ok(Ok(came)),
            Err(error) => self.failed(error).map(Err),
        }
    }

    /// What is left of a call that failed, unless it is not the guest that did.
    pub(super) fn failed(&mut self, error: TurnError) -> Result<Unsettled, Trouble> {
        match error {
            TurnError::Start(reason) => Err(Trouble(reason)),
            TurnError::Input(error) => Err(error.into()),
            TurnError::Call {
                error: error @ (CallError::StateUnavailable(_) | CallError::TableUnavailable(_)),
                ..
            } => Err(Trouble(error.to_string())),
            TurnError::Call {
                error: error @ CallError::Interrupted,
                ..
            } => {
                self.begin_again = true;
                Err(Trouble(error.to_string()))
            }
            TurnError::TooManyFail(first) => {
                self.bite.limit(first);
                self.begin_again = true;
                let what =
                    format!("of more records than the first {first}, too many fail together");
                Err(Trouble(what))
            }
            TurnError::Call { input, error } => Ok(failed_whole(input, error.to_string())),
            TurnError::NotDeterministic(offset) => {
                let what = format!(
                    "offset {offset}: the plugin is not deterministic: handled twice, the same records \
                     came to something else; deploy it without `deterministic`"
                );
                self.pause = Some(what.clone());
                Ok(failed_whole(Input::default(), what))
            }
        }
    }
}

/// A call that failed before anything was known of its records.
pub(super) fn failed_whole(input: Input, reason: String) -> Unsettled {
    Unsettled {
        input,
        failed: Vec::new(),
        reason,
    }
}
