//! The produce stream.

use std::sync::Arc;

use millstream::WireError;
use millstream_protocol::api::produce::{OpenProduce, ProduceAck, ProduceBatch, ProduceOpened};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_transport::{CloseCode, Connection, FrameReceiver, FrameSender};

use super::{Shared, State, error};

/// What becomes of a batch.
enum Verdict {
    Acknowledge(ProduceAck),
    Refuse(WireError),
    Silence,
    Die,
}

pub(super) async fn serve(
    connection: Connection,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
    shared: Arc<Shared>,
    open: OpenProduce,
) {
    let opened = shared.change(|state| opened(state, &open));
    if sender.send(&opened).await.is_err() || opened.is_err() {
        return;
    }
    shared.change(|state| {
        state.produce_streams += 1;
        state.max_produce_streams = state.max_produce_streams.max(state.produce_streams);
    });
    loop {
        shared
            .until(|state| (!state.faults.deaf).then_some(()))
            .await;
        let Ok(Some(frame)) = receiver.receive::<ProduceBatch>(MAX_BATCH_BYTES).await else {
            break;
        };
        match shared.change(|state| judge(state, &open, frame.payload.freeze())) {
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
            Verdict::Die => connection.close(CloseCode::Dropped, "killed by the test"),
        }
    }
    shared.change(|state| state.produce_streams -= 1);
}

fn opened(state: &mut State, open: &OpenProduce) -> Result<ProduceOpened, WireError> {
    if let Some(refused) = state.faults.refuse_produce.pop_front() {
        return Err(refused);
    }
    state.partition(&open.topic, open.partition)?;
    let topic = state.topic(&open.topic)?;
    if open.topic_id.is_some_and(|id| id != topic.id) {
        return Err(error(
            millstream::ErrorCode::UnknownTopic,
            "another topic of this name",
        ));
    }
    Ok(ProduceOpened {
        topic_id: topic.id,
        leader_epoch: 1,
        max_batch_bytes: topic.config.max_batch_bytes,
    })
}

fn judge(state: &mut State, open: &OpenProduce, batch: bytes::Bytes) -> Verdict {
    if let Some(refusal) = state.faults.refuse_batches.pop_front() {
        return Verdict::Refuse(refusal);
    }
    let appended = state
        .partition(&open.topic, open.partition)
        .and_then(|partition| partition.produce(batch));
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
