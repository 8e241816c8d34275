//! The codecs, each bounded while it inflates.
//!
//! What a peer compressed is decompressed piece by piece into a buffer that grows with what comes
//! out, and stops at the limit; a length that the compressed bytes claim is never believed beyond
//! what they could hold. A codec's own window is bounded too.

use std::io::{self, Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::attributes::Compression;
use super::error::BatchError;
use super::header::BATCH_HEADER_BYTES;
use crate::limits::MAX_DECOMPRESSED_BATCH_BYTES;

/// What the records of one batch may take after decompression.
const MAX_SECTION_BYTES: usize = MAX_DECOMPRESSED_BATCH_BYTES - BATCH_HEADER_BYTES;

/// zstd's own default: about as dense as gzip, several times as fast.
const ZSTD_LEVEL: i32 = 3;

/// The largest window a zstd frame may ask for, as a power of two: what one batch may take.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
const _: () = assert!(1 << ZSTD_WINDOW_LOG_MAX <= MAX_DECOMPRESSED_BATCH_BYTES);

/// The formats of today: the decoders know older ones, which no batch has.
const LZ4_FRAME_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const ZSTD_FRAME_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// What snappy-java writes before its blocks: a magic, a version and the lowest compatible version
/// (the latter two are not looked at).
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";
const XERIAL_VERSIONS_BYTES: usize = 8;

/// Three bytes of snappy copy at most 64.
const SNAPPY_MAX_RATIO: usize = 64 / 3 + 1;

/// What is guessed for the ratio of a batch, and then doubled as needed.
const USUAL_RATIO: usize = 4;

/// Compresses the records of `batch` and puts them behind a copy of its header; `None` when that
/// is not smaller.
pub(super) fn compress(
    compression: Compression,
    batch: &[u8],
) -> Result<Option<Vec<u8>>, BatchError> {
    let Some((header, section)) = batch.split_at_checked(BATCH_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut compressed = Vec::with_capacity(BATCH_HEADER_BYTES + section.len() / USUAL_RATIO);
    compressed.extend_from_slice(header);
    let failed = |error: io::Error| codec_error(compression, &error);
    match compression {
        Compression::None => return Ok(None),
        Compression::Gzip | Compression::Snappy => {
            return Err(BatchError::Codec {
                compression,
                reason: "is read, not written".to_owned(),
            });
        }
        Compression::Lz4 => compressed = lz4(section, compressed).map_err(failed)?,
        Compression::Zstd => {
            compressed
                .extend_from_slice(&zstd::bulk::compress(section, ZSTD_LEVEL).map_err(failed)?);
        }
    }
    Ok((compressed.len() < batch.len()).then_some(compressed))
}

/// Frames as Kafka's own producer writes them: independent blocks of 64 KiB, no checksums (the
/// batch has its own).
fn lz4(section: &[u8], out: Vec<u8>) -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(section)?;
    Ok(encoder.finish()?)
}

/// Decompresses the records of a batch; what is not compressed is returned as it is.
pub(super) fn decompress(compression: Compression, section: Bytes) -> Result<Bytes, BatchError> {
    let inflated = match compression {
        Compression::None => return Ok(section),
        Compression::Gzip => inflate(
            flate2::bufread::MultiGzDecoder::new(&section[..]),
            section.len(),
        ),
        Compression::Snappy => unsnappy(&section),
        Compression::Lz4 => unlz4(&section),
        Compression::Zstd => unzstd(&section),
    };
    inflated.map(Bytes::from).map_err(|fault| match fault {
        Fault::TooLarge => BatchError::TooLarge {
            limit: MAX_DECOMPRESSED_BATCH_BYTES,
        },
        Fault::Codec(error) => codec_error(compression, &error),
    })
}

enum Fault {
    TooLarge,
    Codec(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Codec(error)
    }
}

fn codec_error(compression: Compression, error: &io::Error) -> BatchError {
    BatchError::Codec {
        compression,
        reason: error.to_string(),
    }
}

fn malformed(what: &'static str) -> Fault {
    Fault::Codec(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Reads `reader` to its end, up to [`MAX_SECTION_BYTES`], into a buffer that only grows when it
/// is full.
fn inflate(mut reader: impl Read, compressed_bytes: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut room = compressed_bytes
        .saturating_mul(USUAL_RATIO)
        .clamp(1, MAX_SECTION_BYTES);
    loop {
        out.reserve_exact(room);
        let read = reader.by_ref().take(room as u64).read_to_end(&mut out)?;
        if read < room {
            return Ok(out);
        }
        room = out.len().min(MAX_SECTION_BYTES - out.len());
        if room == 0 {
            return match reader.read(&mut [0])? {
                0 => Ok(out),
                _ => Err(Fault::TooLarge),
            };
        }
    }
}

fn unlz4(section: &[u8]) -> Result<Vec<u8>, Fault> {
    if !section.starts_with(&LZ4_FRAME_MAGIC) {
        return Err(malformed("not an lz4 frame"));
    }
    let mut decoder = FrameDecoder::new(section);
    let out = inflate(&mut decoder, section.len())?;
    if decoder.get_ref().is_empty() {
        Ok(out)
    } else {
        Err(malformed("stray bytes behind the lz4 frame"))
    }
}

fn unzstd(section: &[u8]) -> Result<Vec<u8>, Fault> {
    if !section.starts_with(&ZSTD_FRAME_MAGIC) {
        return Err(malformed("not a zstd frame"));
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(section)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    let out = inflate(&mut decoder, section.len())?;
    if decoder.finish().is_empty() {
        Ok(out)
    } else {
        Err(malformed("stray bytes behind the zstd frame"))
    }
}

/// Snappy comes raw, or in snappy-java's framing: blocks of raw snappy, each after its length in 4
/// bytes, big-endian.
fn unsnappy(section: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let Some(framed) = section.strip_prefix(XERIAL_MAGIC) else {
        unsnappy_block(section, &mut out)?;
        return Ok(out);
    };
    let truncated = || malformed("truncated snappy framing");
    let mut rest = framed.get(XERIAL_VERSIONS_BYTES..).ok_or_else(truncated)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or_else(truncated)?;
        let (block, behind) = behind
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(truncated)?;
        unsnappy_block(block, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

/// Appends one block of raw snappy, decompressed, to `out`.
fn unsnappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let failed = |error: snap::Error| Fault::Codec(error.into());
    let claimed = snap::raw::decompress_len(block).map_err(failed)?;
    if claimed > MAX_SECTION_BYTES - out.len() {
        return Err(Fault::TooLarge);
    }
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(malformed("snappy block claims more than it can hold"));
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(failed)?;
    out.truncate(start + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_stream_is_read_to_the_limit_only() {
        let endless = io::repeat(0);
        assert!(matches!(inflate(endless, 1), Err(Fault::TooLarge)));
    }

    #[test]
    fn memory_is_bounded_by_the_limit() {
        for compressed_bytes in [0, 1, 1_000, MAX_SECTION_BYTES, usize::MAX] {
            let most = io::repeat(0).take(MAX_SECTION_BYTES as u64);
            let out = inflate(most, compressed_bytes).ok().unwrap();
            assert_eq!(out.len(), MAX_SECTION_BYTES);
            assert!(out.capacity() <= MAX_SECTION_BYTES);
        }
    }

    #[test]
    fn little_is_reserved_for_little() {
        let out = inflate(&[0; 1_000][..], 100).ok().unwrap();
        assert_eq!(out.len(), 1_000);
        assert!(out.capacity() <= 2_000);
    }
}
