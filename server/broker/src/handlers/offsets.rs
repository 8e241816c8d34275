//! `ListOffsets` and `DeleteRecords`.

use millstream_protocol::api::offsets::{
    DeleteRecords, DeleteRecordsResponse, ListOffsets, ListOffsetsResponse, ListedOffset,
};
use millstream_protocol::limits::MAX_ITEMS_PER_REQUEST;
use millstream_protocol::{ErrorCode, WireError};

use crate::context::{Context, ReadFrom};
use crate::handlers::{check_items, forward};
use crate::partition::Standing;

pub(crate) async fn list(
    context: &Context,
    hops: u8,
    request: ListOffsets,
) -> Result<ListOffsetsResponse, WireError> {
    check_items("positions", request.positions.len(), MAX_ITEMS_PER_REQUEST)?;
    context.topic(&request.topic)?;
    let asked = request.positions.iter();
    let asked = asked.map(|(number, _)| (&*request.topic, *number));
    let parts = forward::by_leader(context, asked);
    let mut offsets = Vec::new();
    offsets.resize_with(request.positions.len(), || None);
    for (leader, places) in parts {
        let positions = places.iter().map(|place| request.positions[*place]);
        let part = ListOffsets {
            topic: request.topic.clone(),
            positions: positions.collect(),
        };
        let listed = if leader == context.me() {
            list_here(context, part, ReadFrom::Leader).await
        } else {
            // What one broker cannot say, the others still can.
            let count = part.positions.len();
            let answer = context.cluster.ask(leader, hops, part.clone()).await;
            match answer.map(|answer: ListOffsetsResponse| answer.offsets) {
                Err(error) if error.code == ErrorCode::NotReady => {
                    list_here(context, part, ReadFrom::Anybody).await
                }
                answer => answer.unwrap_or_else(|error| vec![Err(error); count]),
            }
        };
        for (place, listed) in places.into_iter().zip(listed) {
            offsets[place] = Some(listed);
        }
    }
    let unanswered = || {
        Err(WireError::new(
            ErrorCode::NotReady,
            "its leader has not said",
        ))
    };
    let offsets = offsets.into_iter();
    Ok(ListOffsetsResponse {
        offsets: offsets.map(|it| it.unwrap_or_else(unanswered)).collect(),
    })
}

/// Lists offsets of partitions that are led here; or that would be if the cluster were there: then only what
/// is so whatever else is committed.
async fn list_here(
    context: &Context,
    request: ListOffsets,
    from: ReadFrom,
) -> Vec<Result<ListedOffset, WireError>> {
    let mut offsets = Vec::with_capacity(request.positions.len());
    for (number, position) in request.positions {
        let listed = async {
            let partition = context.readable(&request.topic, None, number, from)?;
            let offset = match partition.visible().standing {
                Standing::Leading(_) | Standing::ReadOnly => partition.resolve(position).await?,
                Standing::Following => partition.resolve_for_sure(position).await?,
            };
            let visible = partition.visible();
            Ok(ListedOffset {
                partition: number,
                offset,
                log_start_offset: visible.log_start_offset,
                high_watermark: visible.high_watermark,
            })
        };
        offsets.push(listed.await);
    }
    offsets
}

pub(crate) async fn delete_records(
    context: &Context,
    request: DeleteRecords,
) -> Result<DeleteRecordsResponse, WireError> {
    let partition = context.writable_partition(&request.topic, None, request.partition)?;
    let log_start_offset = partition.delete_records(request.before_offset).await?;
    Ok(DeleteRecordsResponse { log_start_offset })
}
