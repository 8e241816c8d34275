//! Walking over the entries of a segment file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use millstream_planted::planted;
use millstream_protocol::Offset;
use millstream_protocol::batch::verify_crc;

use crate::format::entry::{
    Binding, ENTRY_HEADER_BYTES, ENTRY_PREFIX_BYTES, EntryFault, EntryHeader,
};
use crate::format::segment::Density;
use crate::limits::SCAN_CHUNK_BYTES;
use crate::storage::StorageFile;

/// How a segment's bytes are come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Without a copy if the storage can. For sealed segments only.
    Mapped,
    /// With a copy.
    Read,
}

/// The bytes of one segment file that hold entries, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentBytes {
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) access: Access,
    /// Where the last entry ends.
    pub(crate) end: u64,
    /// The offset at which they end, exclusive.
    pub(crate) end_offset: Offset,
}

impl SegmentBytes {
    /// `bytes` bytes from `position`; fewer if the file is shorter than it should be.
    fn fetch(&self, position: u64, bytes: usize) -> io::Result<Bytes> {
        if self.access == Access::Mapped
            && let Some(mapped) = self.file.map(position..position + bytes as u64)?
        {
            return Ok(mapped);
        }
        self.file.read_at(position, bytes)
    }
}

/// An entry whose header was judged good. Its body was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) header: EntryHeader,
}

impl Entry {
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.entry_bytes() as u64
    }
}

/// One step of a [`Scanner`].
#[derive(Debug)]
pub(crate) enum Step {
    Entry(Entry),
    /// The segment's entries are over.
    End,
    /// What comes is not the entry that should come. The scanner stays where it is.
    Fault(EntryFault),
}

/// Walks over entries one after the other, by their headers.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a SegmentBytes,
    binding: &'a Binding,
    density: Density,
    chunk_bytes: usize,
    position: u64,
    expected: Offset,
    window: Bytes,
    window_start: u64,
}

impl<'a> Scanner<'a> {
    /// Begins at `position` with the entry at `expected`, and reads `chunk_bytes` at once.
    pub(crate) fn new(
        bytes: &'a SegmentBytes,
        binding: &'a Binding,
        density: Density,
        (expected, position): (Offset, u64),
        chunk_bytes: usize,
    ) -> Self {
        Self {
            bytes,
            binding,
            density,
            chunk_bytes: chunk_bytes.max(ENTRY_HEADER_BYTES),
            position,
            expected,
            window: Bytes::new(),
            window_start: position,
        }
    }

    /// Where the next entry begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The base offset that the next entry has (or has at least, in a sparse segment).
    pub(crate) fn expected(&self) -> Offset {
        self.expected
    }

    /// Judges the next entry's header, and steps over the entry if it is good.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.bytes.end {
            return Ok(Step::End);
        }
        let raw = self.view(self.position, ENTRY_HEADER_BYTES)?;
        let header = match self.binding.parse(&raw) {
            Ok(header) => header,
            Err(fault) => return Ok(Step::Fault(fault)),
        };
        let entry = Entry {
            position: self.position,
            header,
        };
        if entry.end() > self.bytes.end {
            return Ok(Step::Fault(EntryFault::Incomplete));
        }
        let got = header.batch.base_offset;
        let follows = match self.density {
            Density::Dense => got == self.expected,
            Density::Sparse => got >= self.expected,
        };
        if !follows {
            return Ok(Step::Fault(EntryFault::Offset {
                expected: self.expected,
                got,
            }));
        }
        self.step_over(&entry);
        Ok(Step::Entry(entry))
    }

    /// Where it stands: the offset expected, and the position in the file.
    pub(crate) fn place(&self) -> (Offset, u64) {
        (self.expected, self.position)
    }

    /// Like [`step`](Self::step), and judges the entry's body too.
    pub(crate) fn step_verified(&mut self) -> io::Result<Step> {
        let (position, expected) = (self.position, self.expected);
        let step = self.step()?;
        if let Step::Entry(entry) = &step
            && let Err(fault) = self.batch(entry)?
        {
            (self.position, self.expected) = (position, expected);
            return Ok(Step::Fault(fault));
        }
        Ok(step)
    }

    /// The batch of an entry, its checksum verified.
    pub(crate) fn batch(&mut self, entry: &Entry) -> io::Result<Result<Bytes, EntryFault>> {
        let position = entry.position + ENTRY_PREFIX_BYTES as u64;
        let batch = self.view(position, entry.header.batch.batch_bytes)?;
        Ok(match verify_crc(&batch) {
            Ok(()) => Ok(batch),
            Err(_) if planted!(NoChecksum) => Ok(batch),
            Err(fault) => Err(fault.into()),
        })
    }

    /// Whether all of an entry has been read already.
    pub(crate) fn has_read(&self, entry: &Entry) -> bool {
        self.offset_in_window(entry.position, entry.header.entry_bytes())
            .is_some()
    }

    /// Looks for the next entry behind a fault and steps over it; `None` when there is none. What
    /// is found is a whole entry of this log with a sound body, at the offset expected or later.
    pub(crate) fn resync(&mut self) -> io::Result<Option<Entry>> {
        let mut at = self.position + 1;
        while at + ENTRY_HEADER_BYTES as u64 <= self.bytes.end {
            let left = usize::try_from(self.bytes.end - at).unwrap_or(usize::MAX);
            let chunk = self.bytes.fetch(at, left.min(SCAN_CHUNK_BYTES))?;
            for (offset, header) in self.binding.search(&chunk) {
                let entry = Entry {
                    position: at + offset as u64,
                    header,
                };
                let possible =
                    header.batch.base_offset >= self.expected && entry.end() <= self.bytes.end;
                if possible && self.batch(&entry)?.is_ok() {
                    self.step_over(&entry);
                    return Ok(Some(entry));
                }
            }
            // An entry's header may lie across the border of two chunks.
            let searched = (chunk.len() + 1).saturating_sub(ENTRY_HEADER_BYTES);
            if searched == 0 {
                break;
            }
            at += searched as u64;
        }
        Ok(None)
    }

    fn step_over(&mut self, entry: &Entry) {
        self.position = entry.end();
        self.expected = entry.header.batch.next_offset();
    }

    /// `bytes` bytes at `position`, or as many as there are.
    fn view(&mut self, position: u64, bytes: usize) -> io::Result<Bytes> {
        if let Some(start) = self.offset_in_window(position, bytes) {
            return Ok(self.window.slice(start..start + bytes));
        }
        let left = usize::try_from(self.bytes.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = bytes.max(self.chunk_bytes).min(left);
        self.window = self.bytes.fetch(position, wanted)?;
        self.window_start = position;
        Ok(self.window.slice(..bytes.min(self.window.len())))
    }

    fn offset_in_window(&self, position: u64, bytes: usize) -> Option<usize> {
        let start = usize::try_from(position.checked_sub(self.window_start)?).ok()?;
        (start.checked_add(bytes)? <= self.window.len()).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::format::segment::SEGMENT_HEADER_BYTES;
    use crate::storage::{MemoryStorage, Storage};
    use crate::testing::{batch_of, identity};

    const START: u64 = SEGMENT_HEADER_BYTES as u64;

    fn binding() -> Binding {
        Binding::new(&identity(), 5)
    }

    /// A batch of one record at `base_offset`.
    fn entry(base_offset: Offset, value: &str) -> Vec<u8> {
        let mut batch = batch_of(&[value]).bytes;
        millstream_protocol::batch::assign(&mut batch, base_offset, 0).expect("a place");
        [&binding().prefix(0, &batch)[..], &batch[..]].concat()
    }

    fn segment(parts: &[&[u8]]) -> SegmentBytes {
        let storage = MemoryStorage::new();
        let file = storage.create(Path::new("/s")).expect("a file");
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_vectored_at(&mut slices, START).expect("a write");
        SegmentBytes {
            end: file.length().expect("a length"),
            end_offset: Offset::MAX,
            access: Access::Read,
            file,
        }
    }

    /// The base offsets found and the faults met; behind a fault the walk goes on with the next
    /// entry.
    fn walk(bytes: &SegmentBytes, density: Density, chunk_bytes: usize) -> Vec<String> {
        let binding = binding();
        let mut scanner = Scanner::new(bytes, &binding, density, (0, START), chunk_bytes);
        let mut seen = Vec::new();
        loop {
            match scanner.step_verified().expect("a read") {
                Step::Entry(entry) => seen.push(entry.header.batch.base_offset.to_string()),
                Step::End => return seen,
                Step::Fault(fault) => {
                    seen.push(fault.to_string());
                    match scanner.resync().expect("a read") {
                        Some(entry) => seen.push(entry.header.batch.base_offset.to_string()),
                        None => return seen,
                    }
                }
            }
        }
    }

    #[test]
    fn entries_are_walked_whatever_is_read_at_once() {
        let entries = [entry(0, "a"), entry(1, &"b".repeat(300)), entry(2, "c")];
        let bytes = segment(&[&entries[0], &entries[1], &entries[2]]);
        for chunk_bytes in [0, 1, 100, 200, 1000] {
            assert_eq!(walk(&bytes, Density::Dense, chunk_bytes), ["0", "1", "2"]);
        }
    }

    #[test]
    fn gaps_are_faults_unless_the_segment_is_sparse() {
        let bytes = segment(&[&entry(0, "a"), &entry(5, "b"), &entry(3, "c")]);
        let gap = "an entry at offset 5 where 1 was expected";
        let back = "an entry at offset 3 where 6 was expected";
        assert_eq!(walk(&bytes, Density::Dense, 0), ["0", gap, "3"]);
        assert_eq!(walk(&bytes, Density::Sparse, 0), ["0", "5", back]);
    }

    #[test]
    fn the_walk_goes_on_behind_a_fault() {
        let (first, last) = (entry(0, "a"), entry(2, "c"));
        let torn = &entry(1, "b")[..50];
        let bytes = segment(&[&first, torn, &last]);
        let fault = "a binding checksum that does not match";
        assert_eq!(walk(&bytes, Density::Dense, 0), ["0", fault, "2"]);
        // An entry of the past, and one whose body is broken, are passed over.
        let mut broken = entry(1, "b");
        *broken.last_mut().expect("a body") ^= 1;
        let bytes = segment(&[&first, torn, &first, &broken, &last]);
        assert_eq!(walk(&bytes, Density::Dense, 0), ["0", fault, "2"]);
        let bytes = segment(&[&first, torn]);
        assert_eq!(
            walk(&bytes, Density::Dense, 0),
            ["0", "an incomplete entry"]
        );
    }

    #[test]
    fn an_entry_across_the_border_of_two_chunks_is_found() {
        let last = entry(1, "b");
        for before_border in [0, 1, ENTRY_HEADER_BYTES - 1, ENTRY_HEADER_BYTES, last.len()] {
            // The search begins one byte behind the fault.
            let noise = vec![3; SCAN_CHUNK_BYTES + 1 - before_border];
            let bytes = segment(&[&noise, &last]);
            let fault = "a binding checksum that does not match";
            assert_eq!(
                walk(&bytes, Density::Dense, 0),
                [fault, "1"],
                "{before_border}"
            );
        }
    }
}
