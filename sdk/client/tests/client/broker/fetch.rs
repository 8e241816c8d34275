//! The fetch stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream::{ErrorCode, Offset, WireError};
use millstream_protocol::api::fetch::{FetchOpened, FetchPartition, Fetched, OpenFetch};
use millstream_transport::{FrameReceiver, FrameSender};

use super::{Shared, State, error};

pub(super) async fn serve(
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
    shared: Arc<Shared>,
    open: OpenFetch,
) {
    let opened = shared.change(|state| opened(state, &open));
    if sender.send(&opened).await.is_err() || opened.is_err() {
        return;
    }
    shared.change(|state| state.open_fetches.push(open.clone()));
    let stopped = sender.stopped();
    tokio::select! {
        () = push(&mut sender, &shared, &open) => {}
        _ = stopped => {}
        _ = receiver.receive::<()>(0) => {}
    }
    shared.change(|state| {
        let index = state.open_fetches.iter().position(|other| *other == open);
        state.open_fetches.remove(index.unwrap());
    });
}

fn opened(state: &mut State, open: &OpenFetch) -> Result<FetchOpened, WireError> {
    if let Some(refused) = state.faults.refuse_fetch.pop_front() {
        return Err(refused);
    }
    let mut topic_ids = Vec::new();
    for wanted in &open.partitions {
        let partition = state.partition(&wanted.topic, wanted.partition)?;
        if !(partition.log_start_offset..=partition.end_offset).contains(&wanted.offset) {
            return Err(error(ErrorCode::OffsetOutOfRange, "out of range"));
        }
        topic_ids.push(state.topic(&wanted.topic)?.id);
    }
    Ok(FetchOpened { topic_ids })
}

/// Pushes what there is and what comes, partitions in turn.
async fn push(sender: &mut FrameSender, shared: &Shared, open: &OpenFetch) {
    let mut next: Vec<Offset> = open
        .partitions
        .iter()
        .map(|partition| partition.offset)
        .collect();
    let mut turn = 0;
    loop {
        let (index, answer) = shared
            .until(|state| {
                let turns = (0..next.len()).map(|step| (turn + step) % next.len());
                let mut found = turns.filter_map(|index| {
                    let read = read(
                        state,
                        &open.partitions[index],
                        index,
                        next[index],
                        open.max_bytes as usize,
                    );
                    read.transpose().map(|read| (index, read))
                });
                found.next()
            })
            .await;
        turn = index + 1;
        let sent = match answer {
            Ok((fetched, payload)) => {
                next[index] = fetched.next_offset;
                sender
                    .send_with_payload(&Ok::<_, WireError>(fetched), [payload])
                    .await
            }
            Err(refused) => {
                let _ = sender.send(&Err::<Fetched, _>(refused)).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read(
    state: &mut State,
    wanted: &FetchPartition,
    index: usize,
    from: Offset,
    max_bytes: usize,
) -> Result<Option<(Fetched, Bytes)>, WireError> {
    let partition = state.partition(&wanted.topic, wanted.partition)?;
    let mut payload = BytesMut::new();
    let mut next_offset = from;
    while let Some((batch, next)) = partition.read(next_offset) {
        if !payload.is_empty() && payload.len() + batch.len() > max_bytes {
            break;
        }
        payload.extend_from_slice(&batch);
        next_offset = next;
    }
    let fetched = Fetched {
        index: index as u32,
        high_watermark: partition.end_offset,
        log_start_offset: partition.log_start_offset,
        next_offset,
    };
    Ok((!payload.is_empty()).then(|| (fetched, payload.freeze())))
}
