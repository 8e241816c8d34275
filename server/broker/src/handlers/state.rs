//! What the workers of a deployment remember, as a stream.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::api::state::{
    OpenState, StateEntrySize, StateFrame, StateOrigin, StateQuery,
};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::limits::MAX_STATE_PAYLOAD_BYTES;
use millstream_protocol::{ErrorCode, WireError};
use millstream_state::{Entry, Page, PageRequest, Snapshot};
use millstream_transport::FrameSender;
use tokio::time::timeout;

use crate::cluster::ask::unreachable;
use crate::config::{MAX_STATE_READERS, STATE_READER_PATIENCE, STATE_READER_STALL_LIMIT};
use crate::context::Context;
use crate::errors;
use crate::handlers::StreamEnd;

/// Serves a stream of state. A worker goes on meanwhile; who reads too slowly is sent away, because a
/// snapshot takes memory and room in the file.
pub(crate) async fn open(
    context: &Context,
    hops: u8,
    request: OpenState,
    sender: &mut FrameSender,
) -> Result<(), StreamEnd> {
    let reading = context.state_readers.acquire();
    let reading = timeout(STATE_READER_PATIENCE, reading).await;
    let _reading = reading
        .map_err(|_| {
            let busy =
                format!("{MAX_STATE_READERS} readers are at the states of deployments already");
            WireError::new(ErrorCode::Busy, busy)
        })?
        .map_err(errors::stopping)?;
    let asked = request.clone();
    let OpenState {
        name,
        topic,
        partition,
        query,
    } = request;
    let wanted = |at: &str, number| {
        topic.as_deref().is_none_or(|topic| topic == at)
            && partition.is_none_or(|partition| partition == number)
    };
    let workers = context.deployments.stores(&name, wanted);
    let (workers, mut missing) = match workers {
        Ok(workers) => (workers, None),
        // Others may have some.
        Err(error) if hops == 0 && error.code != ErrorCode::UnknownDeployment => {
            (Vec::new(), Some(error))
        }
        Err(error) => return Err(error.into()),
    };
    for (topic, partition, store) in workers {
        let snapshot = Arc::new(store.snapshot());
        drop(store);
        let origin = StateOrigin {
            topic,
            partition,
            offset: snapshot.stands_for().input_offset,
        };
        send(sender, StateFrame::Worker(origin), Vec::new()).await?;
        match &query {
            StateQuery::Key(key) => send_entry(sender, &snapshot, key).await?,
            StateQuery::Prefix { prefix, limit } => {
                send_entries(sender, &snapshot, prefix, *limit).await?;
            }
        }
    }
    let others = match hops {
        0 => context.cluster.others(),
        _ => Vec::new(),
    };
    for broker in others {
        match pass_on(context, broker, &asked, sender).await? {
            Passed::Frames => missing = None,
            Passed::Refused(error) if error.code == ErrorCode::NotReady => {
                missing = missing.map(|_| error);
            }
            Passed::Refused(error) => {
                tracing::debug!(broker, %error, "a broker does not tell the state of its workers");
            }
        }
    }
    missing.map_or(Ok(()), |error| Err(error.into()))
}

/// What another broker had to tell.
enum Passed {
    Frames,
    Refused(WireError),
}

/// Passes on what another broker's workers remember.
async fn pass_on(
    context: &Context,
    broker: u32,
    request: &OpenState,
    sender: &mut FrameSender,
) -> Result<Passed, StreamEnd> {
    let request = RequestFrame::from_client(Request::OpenState(request.clone()));
    let opened = context.cluster.open(broker, request, Bytes::new()).await;
    let (mut asking, mut receiver) = match opened {
        Ok(streams) => streams,
        Err(error) => return Ok(Passed::Refused(error)),
    };
    // Nothing follows. It may have answered already.
    let _ = asking.finish().await;
    let mut any = false;
    loop {
        let frame = receiver
            .receive::<Result<StateFrame, WireError>>(MAX_STATE_PAYLOAD_BYTES)
            .await;
        match frame {
            Ok(None) => return Ok(Passed::Frames),
            Ok(Some(frame)) => match frame.body {
                Ok(body) => send(sender, body, vec![frame.payload.freeze()]).await?,
                Err(error) if !any => return Ok(Passed::Refused(error)),
                Err(error) => return Err(error.into()),
            },
            Err(error) if !any => return Ok(Passed::Refused(unreachable(broker, &error))),
            Err(error) => return Err(unreachable(broker, &error).into()),
        }
        any = true;
    }
}

async fn send_entry(
    sender: &mut FrameSender,
    snapshot: &Arc<Snapshot>,
    key: &[u8],
) -> Result<(), StreamEnd> {
    let (snapshot, wanted) = (Arc::clone(snapshot), key.to_vec());
    let found = millstream_offload::run(move || snapshot.get(&wanted)).await;
    let found = found.map_err(errors::unfinished)?;
    match found.map_err(|error| errors::from_state(&error))? {
        Some(value) => {
            send_page(
                sender,
                vec![Entry {
                    key: key.to_vec(),
                    value,
                }],
            )
            .await
        }
        None => Ok(()),
    }
}

async fn send_entries(
    sender: &mut FrameSender,
    snapshot: &Arc<Snapshot>,
    prefix: &[u8],
    limit: u64,
) -> Result<(), StreamEnd> {
    let mut left = limit;
    let mut after: Option<Vec<u8>> = None;
    while left > 0 {
        let (snapshot, prefix, last) = (Arc::clone(snapshot), prefix.to_vec(), after.take());
        let page = millstream_offload::run(move || {
            snapshot.page(PageRequest {
                prefix: &prefix,
                after: last.as_deref(),
                limit: usize::try_from(left).unwrap_or(usize::MAX),
            })
        });
        let page = page.await.map_err(errors::unfinished)?;
        let Page { entries, more } = page.map_err(|error| errors::from_state(&error))?;
        left = left.saturating_sub(entries.len() as u64);
        after = entries.last().map(|entry| entry.key.clone());
        if !entries.is_empty() {
            send_page(sender, entries).await?;
        }
        if !more || after.is_none() {
            break;
        }
    }
    Ok(())
}

async fn send_page(sender: &mut FrameSender, entries: Vec<Entry>) -> Result<(), StreamEnd> {
    let mut payload = Vec::with_capacity(2 * entries.len());
    let mut sizes = Vec::with_capacity(entries.len());
    for Entry { key, value } in entries {
        sizes.push(StateEntrySize {
            key_bytes: key.len() as u32,
            value_bytes: value.len() as u32,
        });
        payload.extend([Bytes::from(key), Bytes::from(value)]);
    }
    send(sender, StateFrame::Entries(sizes), payload).await
}

async fn send(
    sender: &mut FrameSender,
    frame: StateFrame,
    payload: Vec<Bytes>,
) -> Result<(), StreamEnd> {
    let frame = Ok::<_, WireError>(frame);
    let sending = sender.send_with_payload(&frame, payload);
    match timeout(STATE_READER_STALL_LIMIT, sending).await {
        Ok(sent) => Ok(sent?),
        // Nothing can be said to who does not read.
        Err(_) => Err(StreamEnd::Gone),
    }
}
