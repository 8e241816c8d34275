//! Retention and deletion of records: the log's start moves up.

use millstream_log::ChangeError;
use millstream_replication::Input;

use super::{Broker, NOTHING, Trouble};
use crate::cluster::env::Env;
use crate::cluster::plan::Retention;

impl Broker {
    /// Lets go what has outlived its retention, of what is committed: every replica for itself.
    pub(crate) fn retain(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let now_ms = self.now_ms(env);
        let retention = self.retention;
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition.as_mut()) else {
            return Ok(());
        };
        let high_watermark = partition.replica.high_watermark();
        let log = &mut partition.log;
        let start = log.log_start_offset();
        let retained = match retention {
            Retention::None => return Ok(()),
            Retention::Bytes(_) => match log.plan_retention(high_watermark, now_ms) {
                Some(plan) => log.apply_retention(plan, now_ms),
                None => return Ok(()),
            },
            Retention::Deletions => {
                // Now and then everything goes, and else a part, perhaps up to within a batch.
                let before = match env.dice.happens(250) {
                    true => high_watermark,
                    false => start + env.dice.below(high_watermark.saturating_sub(start) + 1),
                };
                log.delete_records(before)
            }
        };
        match retained {
            Ok(retained) if retained > start => {
                env.report.retentions += 1;
                env.oracle.retained(self.id, retained);
            }
            Ok(_) | Err(ChangeError::StorageFull) => return Ok(()),
            Err(ChangeError::Damaged(_)) => return Err(Trouble::Damaged),
            Err(ChangeError::Poisoned(_) | ChangeError::OutOfRange { .. }) => {
                return Err(Trouble::Stop);
            }
        }
        let start = log.start_border();
        self.step(env, Input::Retained { start }, &NOTHING)
    }
}
