//! Serving producers and consumers.

use bytes::{Bytes, BytesMut};
use millstream_log::{AppendError, AppendOutcome, ProducedBatch};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, TopicPartition};
use millstream_replication::Input;

use super::retention::shown_from;
use super::{Broker, NOTHING, READ_BYTES, Trouble, Waiting, trouble_of};
use crate::cluster::env::Env;
use crate::cluster::packet::{Node, Packet, Refusal};

impl Broker {
    pub(super) fn produce(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        (from, request): (Node, u64),
        batch: &Bytes,
    ) -> Result<(), Trouble> {
        let (node, now_ms) = (self.node(), self.now_ms(env));
        let refuse = |env: &mut Env, refusal| {
            let result = Err(refusal);
            env.send(node, from, Packet::Produced { request, result });
        };
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            refuse(env, Refusal::NotLeader(None));
            return Ok(());
        };
        let Some(epoch) = partition.replica.leading() else {
            let leader = partition.replica.appointed_leader();
            refuse(env, Refusal::NotLeader(leader.map(|(leader, _)| leader)));
            return Ok(());
        };
        let Ok(header) = BatchHeader::parse(batch) else {
            return Ok(());
        };
        let bytes = BytesMut::from(&batch[..]);
        let mut outcomes = Vec::with_capacity(1);
        let batches = vec![ProducedBatch { bytes, header }];
        let appended = partition.log.append(batches, epoch, now_ms, &mut outcomes);
        match appended {
            Ok(()) => {}
            Err(AppendError::Poisoned(_)) => return Err(Trouble::Stop),
            Err(AppendError::Damaged(_)) => return Err(Trouble::Damaged(at)),
            Err(_) => {
                refuse(env, Refusal::Busy);
                return Ok(());
            }
        }
        match outcomes.pop() {
            Some(
                AppendOutcome::Appended {
                    base_offset,
                    next_offset,
                }
                | AppendOutcome::Duplicate {
                    base_offset,
                    next_offset,
                },
            ) => {
                let waiting = Waiting {
                    visible_at: next_offset,
                    base_offset,
                    to: from,
                    request,
                };
                // A duplicate waits for no less than what came before it.
                partition.waiting.push_back(waiting);
                let end = partition.log.log_end_offset();
                self.step(env, at, Input::Written { end }, &NOTHING)
            }
            Some(AppendOutcome::Rejected(_)) | None => {
                refuse(env, Refusal::Busy);
                Ok(())
            }
        }
    }

    pub(super) fn read(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        (from, request): (Node, u64),
        offset: Offset,
    ) -> Result<(), Trouble> {
        let node = self.node();
        let Some(partition) = self.partition(at) else {
            return Ok(());
        };
        let start = shown_from(partition);
        if offset < start {
            env.send(node, from, Packet::Begins { request, start });
            return Ok(());
        }
        let visible = partition.replica.high_watermark();
        if offset >= visible {
            return Ok(());
        }
        if let Some(epoch) = partition.replica.leading() {
            env.oracles.of(at).served(self.id, epoch, offset);
        }
        let read = partition.log.reader().read(offset, visible, READ_BYTES);
        let read = read.map_err(|error| trouble_of(&error, at, env))?;
        let packet = Packet::Records {
            request,
            batches: read.batches,
            next_offset: read.next_offset,
        };
        env.send(node, from, packet);
        Ok(())
    }
}
