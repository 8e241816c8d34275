//! Retention and deletion of records: the log's start moves up.

use millstream_log::ChangeError;
use millstream_protocol::{Offset, TopicPartition};
use millstream_replication::Input;

use super::{Broker, NOTHING, Partition, Trouble};
use crate::cluster::env::Env;
use crate::cluster::plan::Retention;

impl Broker {
    /// Lets go what has outlived its retention, of what is committed: every replica for itself. Or asks a
    /// leader to have records deleted.
    pub(crate) fn retain(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let now_ms = self.now_ms(env);
        let retention = self.retention;
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return Ok(());
        };
        let high_watermark = partition.replica.high_watermark();
        let start = shown_from(partition);
        // Now and then everything goes, and else a part, perhaps up to within a batch.
        let mut anywhere = || match env.dice.happens(250) {
            true => high_watermark,
            false => start + env.dice.below(high_watermark.saturating_sub(start) + 1),
        };
        let log = &mut partition.log;
        let retained = match retention {
            Retention::None => return Ok(()),
            Retention::Bytes(_) => match log.plan_retention(high_watermark, now_ms) {
                Some(plan) => log.apply_retention(plan, now_ms),
                None => return Ok(()),
            },
            Retention::Any => log.delete_records(anywhere()),
            Retention::Requests => {
                let below = anywhere();
                if !partition.replica.is_settled() || below <= start {
                    return Ok(());
                }
                env.report.deletions_asked += 1;
                env.oracles.of(at).may_go(below);
                partition.deleting.push(below);
                return self.step(env, at, Input::Delete { below }, &NOTHING);
            }
        };
        match retained {
            Ok(retained) if retained > start => {
                env.report.retentions += 1;
                env.oracles.of(at).retained(self.id, retained);
            }
            Ok(_) | Err(ChangeError::StorageFull) => return Ok(()),
            Err(ChangeError::Damaged(_)) => return Err(Trouble::Damaged(at)),
            Err(ChangeError::Poisoned(_) | ChangeError::OutOfRange { .. }) => {
                return Err(Trouble::Stop);
            }
        }
        let start = log.start_border();
        self.step(env, at, Input::Retained { start }, &NOTHING)
    }

    /// Has the log begin where records are deleted up to, as the disk says.
    pub(super) fn forget(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return Ok(());
        };
        let deleted = partition.replica.durable().deleted;
        if deleted <= partition.log.log_start_offset() {
            return Ok(());
        }
        match partition.log.delete_records(deleted) {
            Ok(_) => env.report.deletions += 1,
            // It is tried again.
            Err(ChangeError::StorageFull) => return Ok(()),
            Err(ChangeError::Damaged(_)) => return Err(Trouble::Damaged(at)),
            Err(ChangeError::Poisoned(_) | ChangeError::OutOfRange { .. }) => {
                return Err(Trouble::Stop);
            }
        }
        let start = partition.log.start_border();
        self.input(env, at, Input::Retained { start });
        self.perform(env, at, &NOTHING)
    }

    /// Tells whom it concerns what is deleted on a majority.
    pub(super) fn tell_deleted(&mut self, env: &mut Env, at: TopicPartition) {
        let id = self.id;
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return;
        };
        let (deleted, epoch) = (partition.replica.deleted(), partition.replica.leading());
        let done = partition.deleting.extract_if(.., |it| *it <= deleted);
        if let (Some(below), Some(epoch)) = (done.max(), epoch) {
            env.report.deletions_acked += 1;
            env.oracles.of(at).deleted(id, epoch, below);
        }
    }
}

/// The first offset that may be seen.
pub(super) fn shown_from(partition: &Partition) -> Offset {
    let start = partition.log.log_start_offset();
    start.max(partition.replica.hidden())
}
