//! `ListOffsets` and `DeleteRecords`.

use millstream_protocol::WireError;
use millstream_protocol::api::offsets::{
    DeleteRecords, DeleteRecordsResponse, ListOffsets, ListOffsetsResponse, ListedOffset,
};
use millstream_protocol::limits::MAX_ITEMS_PER_REQUEST;

use crate::context::Context;
use crate::handlers::check_items;

pub(crate) async fn list(
    context: &Context,
    request: ListOffsets,
) -> Result<ListOffsetsResponse, WireError> {
    check_items("positions", request.positions.len(), MAX_ITEMS_PER_REQUEST)?;
    context.topic(&request.topic)?;
    let mut offsets = Vec::with_capacity(request.positions.len());
    for (number, position) in request.positions {
        let listed = async {
            let partition = context.partition(&request.topic, None, number)?;
            let offset = partition.resolve(position).await?;
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
    Ok(ListOffsetsResponse { offsets })
}

pub(crate) async fn delete_records(
    context: &Context,
    request: DeleteRecords,
) -> Result<DeleteRecordsResponse, WireError> {
    let partition = context.writable_partition(&request.topic, None, request.partition)?;
    let log_start_offset = partition.delete_records(request.before_offset).await?;
    Ok(DeleteRecordsResponse { log_start_offset })
}
