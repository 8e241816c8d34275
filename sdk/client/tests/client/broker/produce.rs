//! The produce stream.

use millstream::{ErrorCode, WireError};
use millstream_protocol::api::produce::{OpenProduce, ProduceAck, ProduceBatch, ProduceOpened};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_transport::{CloseCode, FrameReceiver, FrameSender};

use super::serve::Here;
use super::{State, error};

/// What becomes of a batch.
enum Verdict {
    Acknowledge(ProduceAck),
    Refuse(WireError),
    Silence,
    Die,
}

pub(super) async fn serve(
    here: Here,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
    open: OpenProduce,
) {
    let shared = &here.shared;
    let opened = shared.change(|state| opened(state, here.number, &open));
    let leader = opened.as_ref().ok().map(|(leader, _)| *leader);
    let opened = opened.map(|(_, opened)| opened);
    if sender.send(&opened).await.is_err() {
        return;
    }
    let Some(leader) = leader else { return };
    shared.change(|state| {
        state.produce_streams += 1;
        state.max_produce_streams = state.max_produce_streams.max(state.produce_streams);
    });
    loop {
        shared
            .until(|state| (!state.faults.is_deaf(here.number)).then_some(()))
            .await;
        let received = tokio::select! {
            received = receiver.receive::<ProduceBatch>(MAX_BATCH_BYTES) => received,
            () = shared.until(|state| state.down.contains(&leader).then_some(())) => break,
        };
        let Ok(Some(frame)) = received else {
            break;
        };
        shared
            .until(|state| (!state.faults.is_deaf(here.number)).then_some(()))
            .await;
        match shared.change(|state| judge(state, leader, &open, frame.payload.freeze())) {
            Verdict::Acknowledge(ack) => {
                if sender.send(&Ok::<_, WireError>(ack)).await.is_err() {
                    break;
                }
            }
            Verdict::Refuse(refusal) => {
                let _ = sender.send(&Err::<ProduceAck, _>(refusal)).await;
                break;
            }
            Verdict::Silence => {}
            Verdict::Die => here
                .connection
                .close(CloseCode::Dropped, "killed by the test"),
        }
    }
    shared.change(|state| state.produce_streams -= 1);
}

/// The partition's leader, and its answer.
fn opened(
    state: &mut State,
    at: u32,
    open: &OpenProduce,
) -> Result<(u32, ProduceOpened), WireError> {
    if let Some(refused) = state.faults.refuse_produce.pop_front() {
        return Err(refused);
    }
    let leader = state.leader(at, &open.topic, open.partition)?;
    let topic = state.topic(&open.topic)?;
    if open.topic_id.is_some_and(|id| id != topic.id) {
        return Err(error(ErrorCode::UnknownTopic, "another topic of this name"));
    }
    let opened = ProduceOpened {
        topic_id: topic.id,
        leader_epoch: 1,
        max_batch_bytes: topic.config.max_batch_bytes,
    };
    Ok((leader, opened))
}

fn judge(state: &mut State, leader: u32, open: &OpenProduce, batch: bytes::Bytes) -> Verdict {
    if let Some(refusal) = state.faults.refuse_batches.pop_front() {
        return Verdict::Refuse(refusal);
    }
    let partition = state.partition(&open.topic, open.partition);
    let appended = partition.and_then(|partition| match partition.leader == leader {
        true => partition.produce(batch),
        false => Err(error(ErrorCode::NotLeader, "another broker leads now")),
    });
    let base_offset = match appended {
        Ok(base_offset) => base_offset,
        Err(refusal) => return Verdict::Refuse(refusal),
    };
    state.faults.appends += 1;
    if state
        .faults
        .die_after_appends
        .is_some_and(|after| state.faults.appends.is_multiple_of(after))
    {
        return Verdict::Die;
    }
    if state.faults.silent {
        return Verdict::Silence;
    }
    Verdict::Acknowledge(ProduceAck {
        base_offset,
        appended_at_ms: 0,
    })
}
