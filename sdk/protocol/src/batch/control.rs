//! Control batches: what brokers write among the records, and no consumer sees.
//!
//! A control batch has one record. Its key is a version (2 bytes, 0) and a type (2 bytes), as in
//! Kafka's [control records](https://kafka.apache.org/documentation/#controlbatch); its value is empty.

use bytes::Bytes;

use super::attributes::Compression;
use super::builder::BatchBuilder;
use super::error::BatchError;
use crate::ids::TimestampMs;

const VERSION: [u8; 2] = [0, 0];

/// Kafka's `LEADER_CHANGE`.
const LEADER_CHANGE: [u8; 2] = [0, 2];

/// More than a batch without anything but a key of four bytes takes.
const CONTROL_BATCH_BYTES: usize = 256;

/// The batch with which a leader begins its epoch, at base offset 0 and leader epoch 0.
///
/// # Errors
///
/// The timestamp lies outside the format's range.
pub fn epoch_start(timestamp_ms: TimestampMs) -> Result<Bytes, BatchError> {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&VERSION);
    key[2..].copy_from_slice(&LEADER_CHANGE);
    let mut builder = BatchBuilder::new(Compression::None, CONTROL_BATCH_BYTES);
    let appended = builder.append(timestamp_ms, Some(&key), None, &[]);
    appended.map_err(|_| BatchError::Field {
        field: "timestamp",
        value: timestamp_ms,
    })?;
    builder.finish_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchHeader, validate_produced, verify_crc};

    #[test]
    fn an_epochs_start_is_a_sound_batch_that_no_client_may_send() {
        let batch = epoch_start(1_700_000_000_000).unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(header.control);
        assert_eq!((header.record_count, header.last_offset_delta), (1, 0));
        assert_eq!(header.producer, None);
        assert!(verify_crc(&batch).is_ok());
        assert!(validate_produced(&batch, 1 << 20).is_err());
    }
}
