//! What a leader's log knows of its producers, for a replica whose log is to begin late.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_log::limits::MAX_PRODUCERS_BYTES;
use millstream_peer::{Links, PeerService};
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use millstream_replication::BrokerId;

use super::wire::{ClusterRequest, PRODUCERS_PIECE_BYTES, ProducersWanted};
use crate::clock;
use crate::config::ASK_LIMIT;
use crate::errors;
use crate::partition::Partition;

/// A piece of what a log knew at an offset, behind how many bytes that is altogether.
pub(super) async fn piece(
    partition: Partition,
    wanted: ProducersWanted,
) -> Result<Bytes, WireError> {
    let name = partition.name();
    let reader = partition.shared.reader.clone();
    let read = millstream_offload::run(move || reader.producers_at(wanted.at)).await;
    let known = read.map_err(errors::unfinished)?.map_err(|error| {
        WireError::new(
            ErrorCode::NotReady,
            format!("what {name} knows of its producers cannot be told: {error}"),
        )
    })?;
    let from = (wanted.have as usize).min(known.len());
    let until = known.len().min(from + PRODUCERS_PIECE_BYTES);
    let mut answer = BytesMut::with_capacity(4 + until - from);
    answer.extend_from_slice(&u32::try_from(known.len()).unwrap_or(u32::MAX).to_be_bytes());
    answer.extend_from_slice(&known[from..until]);
    Ok(answer.freeze())
}

/// Asks a partition's leader for all of it.
pub(crate) async fn fetch(
    links: Arc<Links>,
    from: BrokerId,
    partition: TopicPartition,
    at: Offset,
) -> Result<Bytes, WireError> {
    let mut known = BytesMut::new();
    loop {
        let wanted = ProducersWanted {
            partition,
            at,
            have: known.len() as u32,
        };
        let request = ClusterRequest::Producers(wanted).encode(clock::now_ms())?;
        let called = links.call(from, PeerService::Cluster, request.into(), ASK_LIMIT);
        let answer = called
            .await
            .map_err(|error| WireError::new(ErrorCode::NotReady, error.to_string()))?;
        let malformed = || {
            WireError::new(
                ErrorCode::Internal,
                format!("broker {from} answers with what are no producers"),
            )
        };
        let (total, piece) = answer.split_first_chunk().ok_or_else(malformed)?;
        let total = u32::from_be_bytes(*total) as usize;
        if total > MAX_PRODUCERS_BYTES || known.len() + piece.len() > total {
            return Err(malformed());
        }
        known.extend_from_slice(piece);
        if known.len() == total {
            return Ok(known.freeze());
        }
        if piece.is_empty() {
            return Err(malformed());
        }
    }
}
