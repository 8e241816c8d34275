//! A segment file as it was found.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_protocol::Offset;

use crate::damage::Damage;
use crate::error::{Attempt, OpenError, StorageFailure};
use crate::files::Files;
use crate::format::DecodeError;
use crate::format::names;
use crate::format::segment::{Density, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::index::SparseIndex;
use crate::segment::{Extent, Segment};
use crate::truncate;

/// A segment file as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) base_offset: Offset,
    /// `None` when it cannot be read, or is not this log's.
    pub(super) header: Option<SegmentHeader>,
    pub(super) file_bytes: u64,
    /// What a scan has covered: all that is sound, up to the index's end position.
    pub(super) scanned: Option<SparseIndex>,
}

impl Found {
    /// A segment that was just created, and is empty.
    pub(super) fn new(header: SegmentHeader, index_interval_bytes: u32) -> Self {
        Self {
            base_offset: header.base_offset,
            header: Some(header),
            file_bytes: SEGMENT_HEADER_BYTES as u64,
            scanned: Some(SparseIndex::new(header.base_offset, index_interval_bytes)),
        }
    }

    pub(super) fn load(files: &Files, base_offset: Offset) -> Result<Self, OpenError> {
        let path = files.path(&names::segment(base_offset));
        let file = files.storage.open(&path).attempt("open", &path)?;
        let file_bytes = file.length().attempt("read", &path)?;
        let raw = file
            .read_at(0, SEGMENT_HEADER_BYTES)
            .attempt("read", &path)?;
        let header = match SegmentHeader::decode(&raw, &files.identity) {
            Ok(header) => Some(header).filter(|header| header.base_offset == base_offset),
            Err(DecodeError::Broken) => None,
            Err(DecodeError::OtherPartition) => return Err(OpenError::OtherPartition { path }),
            Err(DecodeError::Version(version)) => {
                return Err(OpenError::Version { path, version });
            }
        };
        Ok(Self {
            base_offset,
            header,
            file_bytes,
            scanned: None,
        })
    }

    /// Makes it durable and reads it again from the disk: what a failed sync has left in memory is not
    /// there. All of the file, because the cache goes by whole pages.
    pub(super) fn read_again(&mut self, files: &Files) -> Result<(), StorageFailure> {
        let path = self.path(files);
        let file = files.storage.open(&path).attempt("open", &path)?;
        file.sync_data().attempt("sync", &path)?;
        file.forget_cached(0).attempt("read", &path)?;
        self.file_bytes = file.length().attempt("read", &path)?;
        let raw = file
            .read_at(0, SEGMENT_HEADER_BYTES)
            .attempt("read", &path)?;
        let known = self.header.take();
        let header = SegmentHeader::decode(&raw, &files.identity).ok();
        self.header = header.filter(|header| Some(*header) == known);
        Ok(())
    }

    pub(super) fn path(&self, files: &Files) -> PathBuf {
        files.path(&names::segment(self.base_offset))
    }

    /// Says that the header is broken.
    pub(super) fn broken_header(&self, files: &Files) -> Damage {
        Damage {
            offset: self.base_offset,
            what: format!("{} has a broken header", self.path(files).display()),
        }
    }

    /// Cuts the file so that no batch reaches beyond `to`. It is not open anywhere.
    pub(super) fn cut_to(&mut self, files: &Arc<Files>, to: Offset) -> Result<(), StorageFailure> {
        let Some(header) = self.header else {
            // A header that was being written when the power went: the scan sees to it.
            return Ok(());
        };
        let extent = Extent {
            bytes: self.file_bytes,
            end_offset: Offset::MAX,
        };
        let segment = Segment::sealed(Arc::clone(files), header, extent, None);
        let end = truncate::find_cut(files, &segment, to)?.end_position;
        let path = self.path(files);
        if header.compacted.is_some() {
            // It says where it ends, and so needs another header.
            let grown = SegmentHeader {
                compacted: None,
                ..header
            };
            let (_, waiting) = truncate::copy_entries(files, &segment, &grown, end)?;
            let renamed = files.storage.rename(&waiting, &path);
            renamed.attempt("rename", &path)?;
            self.header = Some(grown);
        } else if end < self.file_bytes {
            let file = segment.file()?;
            file.set_length(end).attempt("cut", &path)?;
            file.sync_data().attempt("sync", &path)?;
        }
        self.file_bytes = end;
        Ok(())
    }

    /// The segment as readers see it, up to `end_offset`.
    pub(super) fn into_segment(
        self,
        files: &Arc<Files>,
        end_offset: Offset,
        is_active: bool,
    ) -> Result<Segment, StorageFailure> {
        let files_of_log = Arc::clone(files);
        let Some(header) = self.header else {
            let damage = self.broken_header(files);
            let extent = Extent {
                bytes: SEGMENT_HEADER_BYTES as u64,
                end_offset,
            };
            let header = placeholder(files, self.base_offset);
            return Ok(Segment::sealed(files_of_log, header, extent, None).broken(damage));
        };
        let compacted_end = header.compacted.map(|part| part.end_offset);
        let extent = Extent {
            bytes: match &self.scanned {
                Some(index) => index.end_position,
                None => self.file_bytes,
            },
            end_offset: compacted_end.unwrap_or(end_offset),
        };
        match self.scanned {
            // If the end of the log is missing, what is there is not to grow.
            Some(index)
                if is_active && index.end_offset == end_offset && compacted_end.is_none() =>
            {
                let path = files.path(&names::segment(self.base_offset));
                let file = files.storage.open(&path).attempt("open", &path)?;
                Ok(Segment::active(files_of_log, header, file, index))
            }
            scanned => Ok(Segment::sealed(files_of_log, header, extent, scanned)),
        }
    }
}

/// Stands for a header that cannot be read.
pub(super) fn placeholder(files: &Files, base_offset: Offset) -> SegmentHeader {
    SegmentHeader {
        base_offset,
        previous_base: None,
        created_ms: 0,
        salt: files.salt,
        density: Density::Dense,
        compacted: None,
    }
}
