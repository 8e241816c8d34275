//! A fetch stream of partitions that several brokers lead, for a client that knows one address alone: a stream
//! to each of these brokers, and the one to the client that their frames go into.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, select_all, try_join_all};
use millstream_protocol::api::fetch::{FetchOpened, Fetched, OpenFetch};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::limits::{MAX_FETCH_BYTES, MAX_PARTITIONS_PER_FETCH_STREAM};
use millstream_protocol::{ErrorCode, TopicId, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::context::{Context, ReadFrom};
use crate::errors;
use crate::handlers::fetch::Cursors;
use crate::handlers::{StreamEnd, check_items, forward};

/// What is pushed for one partition.
type Frame = (Fetched, Vec<Bytes>);

/// The part of a stream that one broker answers.
struct Part {
    topic_ids: Vec<TopicId>,
    /// The places of its partitions in the client's request.
    places: Vec<usize>,
    source: Source,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each leader of a request, and it lasts"
)]
enum Source {
    Here(Cursors),
    There(There),
}

/// What another broker answers.
struct There {
    leader: u32,
    /// What it was asked: it answers as long as it leads all of that.
    request: Request,
    cluster: Arc<Cluster>,
    /// Held: its end would be the stream's.
    _sender: FrameSender,
    receiver: FrameReceiver,
}

pub(super) async fn open(
    context: &Context,
    hops: u8,
    request: OpenFetch,
    (sender, receiver): (&mut FrameSender, &mut FrameReceiver),
) -> Result<(), StreamEnd> {
    check_items(
        "partitions of a fetch stream",
        request.partitions.len(),
        MAX_PARTITIONS_PER_FETCH_STREAM,
    )?;
    let parts = forward::parts(context, &request.partitions).into_iter();
    let opening = parts.map(|(leader, places)| part(context, hops, leader, &request, places));
    let parts = try_join_all(opening).await?;
    let opened = parts
        .iter()
        .flat_map(|part| part.places.iter().zip(&part.topic_ids));
    let mut topic_ids: Vec<(usize, TopicId)> = opened.map(|(place, id)| (*place, *id)).collect();
    topic_ids.sort_unstable_by_key(|(place, _)| *place);
    let topic_ids = topic_ids.into_iter().map(|(_, id)| id).collect();
    sender
        .send(&Ok::<_, WireError>(FetchOpened { topic_ids }))
        .await?;

    // One at a time: what the client does not read is not read from others.
    let (frames, mut queue) = mpsc::channel(1);
    let pumps = parts.into_iter().map(|part| part.pump(frames.clone()));
    let mut ended = select_all(pumps);
    loop {
        tokio::select! {
            frame = queue.recv() => {
                let Some((fetched, payload)) = frame else { return Ok(()) };
                // The others wait meanwhile.
                sender
                    .send_with_payload(&Ok::<_, WireError>(fetched), payload)
                    .await?;
            }
            (Err(error), ..) = &mut ended => return Err(error.into()),
            // The client sends nothing after its request: what comes is the end of the stream.
            _ = receiver.receive::<()>(0) => return Ok(()),
            _ = sender.stopped() => return Ok(()),
        }
    }
}

/// Opens what one broker answers.
async fn part(
    context: &Context,
    hops: u8,
    leader: u32,
    request: &OpenFetch,
    places: Vec<usize>,
) -> Result<Part, WireError> {
    let partitions = places
        .iter()
        .map(|place| request.partitions[*place].clone());
    let request = OpenFetch {
        partitions: partitions.collect(),
        max_bytes: request.max_bytes,
    };
    let from = if leader == context.me() {
        ReadFrom::Leader
    } else {
        let asked = Request::OpenFetch(request.clone());
        let frame = RequestFrame {
            hops,
            request: asked.clone(),
        };
        match forward::open(context, leader, frame, Bytes::new()).await {
            Ok((sender, receiver)) => {
                let mut there = There {
                    leader,
                    request: asked,
                    cluster: Arc::clone(&context.cluster),
                    _sender: sender,
                    receiver,
                };
                let (FetchOpened { topic_ids }, _) = there.receive().await?;
                return Ok(Part {
                    topic_ids,
                    places,
                    source: Source::There(there),
                });
            }
            Err(error) if error.code == ErrorCode::NotReady => ReadFrom::Anybody,
            Err(error) => return Err(error),
        }
    };
    let cursors = Cursors::open(context, &request, from).await?;
    Ok(Part {
        topic_ids: cursors.topic_ids(),
        places,
        source: Source::Here(cursors),
    })
}

impl Part {
    /// Brings its frames until it ends.
    fn pump(
        self,
        frames: mpsc::Sender<Frame>,
    ) -> BoxFuture<'static, Result<Infallible, WireError>> {
        match self.source {
            Source::Here(cursors) => pump_here(cursors, self.places, frames).boxed(),
            Source::There(there) => pump_there(there, self.places, frames).boxed(),
        }
    }
}

async fn pump_here(
    mut cursors: Cursors,
    places: Vec<usize>,
    frames: mpsc::Sender<Frame>,
) -> Result<Infallible, WireError> {
    loop {
        while let Some((mut fetched, batches)) = cursors.ready().await? {
            fetched.index = placed(&places, fetched.index)?;
            push(&frames, (fetched, batches)).await?;
        }
        cursors.changed().await;
    }
}

async fn pump_there(
    mut there: There,
    places: Vec<usize>,
    frames: mpsc::Sender<Frame>,
) -> Result<Infallible, WireError> {
    loop {
        let (mut fetched, payload): (Fetched, _) = there.receive().await?;
        fetched.index = placed(&places, fetched.index)?;
        push(&frames, (fetched, vec![payload])).await?;
    }
}

async fn push(frames: &mpsc::Sender<Frame>, frame: Frame) -> Result<(), WireError> {
    frames
        .send(frame)
        .await
        .map_err(|_| errors::shutting_down())
}

/// A partition's place in the client's request.
fn placed(places: &[usize], index: u32) -> Result<u32, WireError> {
    let place = places.get(index as usize).ok_or_else(|| {
        let what = "another broker has sent records of a partition that it was not asked for";
        WireError::new(ErrorCode::Internal, what)
    })?;
    Ok(*place as u32)
}

impl There {
    /// The next frame.
    async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Bytes), WireError> {
        tokio::select! {
            received = receive(&mut self.receiver, self.leader) => received,
            () = forward::moved(&self.cluster, self.leader, &self.request) => {
                Err(forward::answers_no_more(self.leader))
            }
        }
    }
}

/// A frame of another broker.
async fn receive<T: DeserializeOwned>(
    receiver: &mut FrameReceiver,
    from: u32,
) -> Result<(T, Bytes), WireError> {
    let gone = |reason: &dyn std::fmt::Display| {
        WireError::new(
            ErrorCode::NotReady,
            format!(
                "broker {from} leads some of the partitions, and has ended the stream: {reason}"
            ),
        )
    };
    let received = receiver
        .receive::<Result<T, WireError>>(MAX_FETCH_BYTES)
        .await;
    let frame = received.map_err(|error| gone(&error))?;
    let frame = frame.ok_or_else(|| gone(&"it is over"))?;
    Ok((frame.body?, frame.payload.freeze()))
}
