//! The fetch stream.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use millstream::{ErrorCode, Offset, WireError};
use millstream_protocol::api::fetch::{FetchOpened, FetchPartition, Fetched, OpenFetch};
use millstream_transport::{FrameReceiver, FrameSender};

use super::serve::Here;
use super::{Shared, State, error};

/// Who may answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Leader,
    Replica,
}

pub(super) async fn serve(
    here: Here,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
    open: OpenFetch,
    from: From,
) {
    let shared = &here.shared;
    let opened = shared.change(|state| match from {
        From::Leader => opened(state, here.number, &open),
        From::Replica => opened_here(state, here.number, &open),
    });
    let leader = opened.as_ref().ok().map(|(leader, _)| *leader);
    let opened = opened.map(|(_, opened)| opened);
    if sender.send(&opened).await.is_err() {
        return;
    }
    let Some(leader) = leader else { return };
    shared.change(|state| {
        state.open_fetches.push(open.clone());
        state.fetched_at.push(here.number);
    });
    let stopped = sender.stopped();
    tokio::select! {
        () = push(&mut sender, shared, (leader, from), &open) => {}
        _ = stopped => {}
        _ = receiver.receive::<()>(0) => {}
        () = shared.until(|state| state.down.contains(&leader).then_some(())) => {}
    }
    shared.change(|state| {
        let mut both = state.open_fetches.iter().zip(&state.fetched_at);
        let index = both.position(|(other, at)| *other == open && *at == here.number);
        state.open_fetches.remove(index.unwrap());
        state.fetched_at.remove(index.unwrap());
    });
}

/// The leader of all partitions, and its answer.
fn opened(state: &mut State, at: u32, open: &OpenFetch) -> Result<(u32, FetchOpened), WireError> {
    if let Some(refused) = state.faults.refuse_fetch.pop_front() {
        return Err(refused);
    }
    let mut topic_ids = Vec::new();
    let mut leaders = BTreeSet::new();
    for wanted in &open.partitions {
        let partition = state.partition(&wanted.topic, wanted.partition)?;
        if !(partition.log_start_offset..=partition.end_offset).contains(&wanted.offset) {
            return Err(error(ErrorCode::OffsetOutOfRange, "out of range"));
        }
        leaders.insert(state.leader(at, &wanted.topic, wanted.partition)?);
        topic_ids.push(state.topic(&wanted.topic)?.id);
    }
    match leaders.pop_first() {
        Some(leader) if leaders.is_empty() => Ok((leader, FetchOpened { topic_ids })),
        _ => Err(error(ErrorCode::NotLeader, "not all have the same leader")),
    }
}

/// The same of a replica that need not lead.
fn opened_here(
    state: &mut State,
    at: u32,
    open: &OpenFetch,
) -> Result<(u32, FetchOpened), WireError> {
    if let Some(refused) = state.faults.refuse_fetch.pop_front() {
        return Err(refused);
    }
    if !state.replicas.contains(&at) || state.untrusted.contains(&at) {
        return Err(error(ErrorCode::NotLeader, "there is no replica here"));
    }
    let topics = open.partitions.iter();
    let topics = topics.map(|wanted| Ok(state.topic(&wanted.topic)?.id));
    let topic_ids = topics.collect::<Result<_, WireError>>()?;
    Ok((at, FetchOpened { topic_ids }))
}

/// Pushes what there is and what comes, partitions in turn.
async fn push(
    sender: &mut FrameSender,
    shared: &Shared,
    (leader, of): (u32, From),
    open: &OpenFetch,
) {
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
                        (leader, of),
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
    (leader, of): (u32, From),
    wanted: &FetchPartition,
    index: usize,
    from: Offset,
    max_bytes: usize,
) -> Result<Option<(Fetched, Bytes)>, WireError> {
    let from_followers = state.faults.fetch_from_followers || of == From::Replica;
    let partition = state.partition(&wanted.topic, wanted.partition)?;
    if partition.leader != leader && !from_followers {
        return Err(error(ErrorCode::NotLeader, "another broker leads now"));
    }
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
