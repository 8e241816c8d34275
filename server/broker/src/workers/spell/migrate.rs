//! Taking over the state that another version of the plugin has left behind.

use millstream_protocol::api::plugin::LogLevel;
use millstream_runtime::Migrated;
use millstream_worker::{Heir, StateWriter};

use super::guest::Caller;
use super::{Spell, Trouble};
use crate::clock;
use crate::partition::PartitionReader;
use crate::workers::journal;
use crate::workers::settle::put_changes;

/// A part of the state that is to be taken over next.
pub(super) struct Migration {
    /// The digest of the component whose state it is.
    from: String,
    /// Where to go on; `None` at the beginning.
    cursor: Option<Vec<u8>>,
}

impl Spell {
    /// What is to be taken over before anything is handled, if anything.
    ///
    /// # Errors
    ///
    /// A component that is not this one has begun to.
    pub(super) fn migration(&self) -> Result<Option<Migration>, Trouble> {
        let own = self.shared.plugin.digest();
        let Some(writer) = self.journal.core().writer() else {
            return Ok(None);
        };
        let cursor = match &writer.heir {
            Some(heir) if heir.digest != own => {
                let StateWriter { digest, .. } = writer;
                return Err(Trouble(format!(
                    "the state of component {digest} is taken over in part by component {}: upgrade to \
                     that one again",
                    heir.digest
                )));
            }
            Some(heir) => Some(heir.cursor.clone()),
            None if writer.digest == own || !self.shared.plugin.migrates_state() => {
                return Ok(None);
            }
            None => None,
        };
        Ok(Some(Migration {
            from: writer.digest.clone(),
            cursor,
        }))
    }

    /// Has the guest take over a part of the state, and makes it count.
    pub(super) async fn migrate(&mut self, migration: Migration) -> Result<(), Trouble> {
        let Migration { from, cursor } = migration;
        let what = format!("taking over the state of component {from}");
        if cursor.is_none() {
            self.log(LogLevel::Info, what.clone());
        }
        let failed = |reason: &dyn std::fmt::Display| Trouble(format!("{what}: {reason}"));
        let core = self.journal.core();
        let moment = (core.next_offset(), core.record_time_ms().max(0));
        let (writer, part) = (from.clone(), cursor);
        let call = move |_: &PartitionReader, caller: &mut Caller<'_>| {
            let mut instance = match caller.instance.take() {
                Some(instance) => instance,
                None => (caller.start)()?,
            };
            let migrated = instance.migrate(&writer, part.as_deref(), moment);
            let migrated = migrated.map_err(|error| error.to_string())?;
            *caller.instance = Some(instance);
            Ok::<_, String>(migrated)
        };
        let migrated = self.on_a_thread(call).await?;
        let Migrated {
            state,
            timers,
            cursor,
        } = migrated.map_err(|reason| failed(&reason))?;
        let admitted = self.state.admit(&state, &self.journal).await?;
        let growth = admitted.map_err(|full| failed(&full))?;
        let own = self.shared.plugin.digest();
        let done = cursor.is_none();
        let mut commit = self.journal.commit(clock::now_ms());
        commit.note_writer(match cursor {
            None => StateWriter::new(own),
            Some(cursor) => StateWriter {
                digest: from,
                heir: Some(Heir {
                    digest: own.to_owned(),
                    cursor,
                }),
            },
        });
        let commit = put_changes(&mut commit, &state, &timers).and_then(|()| commit.finish());
        let commit = commit.map_err(|error| journal::refused(&error))?;
        self.commit(commit, state, growth).await?;
        if done {
            self.log(LogLevel::Info, format!("{what}: done"));
            // What it has read in `init` is not the state any more.
            self.instance = None;
        }
        Ok(())
    }
}
