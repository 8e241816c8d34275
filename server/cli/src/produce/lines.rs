//! Lines of files or standard input, read on a thread of their own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use millstream_protocol::limits::MAX_RECORD_BYTES;
use tokio::sync::mpsc;

/// Bytes of a chunk of lines, unless a single line is longer.
const CHUNK_BYTES: usize = 256 * 1024;

/// Lines of a chunk.
const CHUNK_LINES: usize = 8 * 1024;

/// Chunks that may wait to be sent.
const CHUNKS_AHEAD: usize = 4;

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// `-` is standard input.
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdin
        } else {
            Self::File(path.to_owned())
        }
    }

    fn name(&self) -> Arc<str> {
        match self {
            Self::Stdin => "standard input".into(),
            Self::File(path) => path.display().to_string().into(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Stdin => Box::new(io::stdin()),
            Self::File(path) => Box::new(File::open(path)?),
        })
    }

    /// The bytes to read, if that is known.
    fn size(&self) -> Option<u64> {
        match self {
            Self::Stdin => None,
            Self::File(path) => path
                .metadata()
                .ok()
                .filter(|metadata| metadata.is_file())
                .map(|metadata| metadata.len()),
        }
    }
}

/// The bytes of all sources, if that is known.
pub(super) fn total_bytes(sources: &[Source]) -> Option<u64> {
    sources.iter().map(Source::size).sum()
}

/// Lines that follow each other in one source, without their ends.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// What the source is called.
    pub(crate) source: Arc<str>,
    /// The first line's number, counted from 1.
    first_number: u64,
    text: Vec<u8>,
    lines: Vec<Line>,
    /// Bytes read for it, line ends included.
    pub(super) bytes_read: u64,
}

#[derive(Clone, Debug)]
enum Line {
    Text(Range<usize>),
    /// Longer than any record.
    TooLong,
}

/// The line is longer than any record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Chunk {
    fn new(source: &Arc<str>, first_number: u64) -> Self {
        Self {
            source: Arc::clone(source),
            first_number,
            text: Vec::new(),
            lines: Vec::new(),
            bytes_read: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_BYTES || self.lines.len() >= CHUNK_LINES
    }

    /// The lines and their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u64, Result<&[u8], TooLong>)> {
        (self.first_number..)
            .zip(&self.lines)
            .map(|(number, line)| {
                let text = match line {
                    Line::Text(range) => self.text.get(range.clone()).ok_or(TooLong),
                    Line::TooLong => Err(TooLong),
                };
                (number, text)
            })
    }

    /// Reads one line into the chunk; false at the end.
    fn read_line(&mut self, reader: &mut impl BufRead) -> io::Result<bool> {
        let start = self.text.len();
        let mut too_long = false;
        loop {
            let available = reader.fill_buf()?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            too_long |= self.text.len() - start + part.len() > MAX_RECORD_BYTES;
            if too_long {
                self.text.truncate(start);
            } else {
                self.text.extend_from_slice(part);
            }
            let at_end = available.is_empty();
            let read = part.len() + usize::from(end.is_some());
            reader.consume(read);
            self.bytes_read += read as u64;
            if end.is_none() && !at_end {
                continue;
            }
            // The last line needs no end, and behind the last end there is no line.
            if at_end && self.text.len() == start && !too_long {
                return Ok(false);
            }
            self.lines.push(if too_long {
                Line::TooLong
            } else {
                Line::Text(start..self.text.len())
            });
            return Ok(!at_end);
        }
    }
}

/// What was read, or which source cannot be.
pub(crate) type ReadChunk = Result<Chunk, (Arc<str>, io::Error)>;

/// Reads the sources one after the other, as far ahead as they are asked for. It ends with the first
/// error.
pub(crate) fn read(sources: Vec<Source>) -> mpsc::Receiver<ReadChunk> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
    // Not a thread of the runtime: a read from a terminal cannot be interrupted, and the program
    // must not wait for it at its end.
    thread::spawn(move || {
        for source in sources {
            let name = source.name();
            let read = source
                .open()
                .and_then(|input| read_one(&name, input, &chunks));
            let failed = match read {
                Ok(Receiver::Listens) => continue,
                Ok(Receiver::Gone) => return,
                Err(error) => Err((name, error)),
            };
            // Whether or not anybody still listens, this is the end.
            let _ = chunks.blocking_send(failed);
            return;
        }
    });
    receiver
}

enum Receiver {
    Listens,
    Gone,
}

fn read_one(
    name: &Arc<str>,
    input: impl Read,
    chunks: &mpsc::Sender<ReadChunk>,
) -> io::Result<Receiver> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, input);
    let mut number = 1;
    let mut more = true;
    while more {
        let mut chunk = Chunk::new(name, number);
        while more && !chunk.is_full() {
            more = chunk.read_line(&mut reader)?;
            // What was typed goes out at once, whatever is behind it without an end; what comes fast goes together.
            if !reader.buffer().contains(&b'\n') {
                break;
            }
        }
        number += chunk.lines.len() as u64;
        if !chunk.lines.is_empty() && chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(Receiver::Gone);
        }
    }
    Ok(Receiver::Listens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<(u64, Result<Vec<u8>, TooLong>)> {
        let (sender, mut receiver) = mpsc::channel(64);
        let read = read_one(&"test".into(), input, &sender).unwrap();
        assert!(matches!(read, Receiver::Listens));
        drop(sender);
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(chunk) = receiver.blocking_recv() {
            let chunk = chunk.unwrap();
            bytes += chunk.bytes_read;
            lines.extend(
                chunk
                    .lines()
                    .map(|(number, line)| (number, line.map(<[u8]>::to_vec))),
            );
        }
        assert_eq!(bytes, input.len() as u64);
        lines
    }

    fn texts(input: &str) -> Vec<String> {
        let text =
            |(_, line): (u64, Result<Vec<u8>, TooLong>)| String::from_utf8(line.unwrap()).unwrap();
        lines(input.as_bytes()).into_iter().map(text).collect()
    }

    #[test]
    fn a_last_line_needs_no_end() {
        assert!(texts("").is_empty());
        assert_eq!(texts("a\nb"), ["a", "b"]);
        assert_eq!(texts("a\nb\n"), ["a", "b"]);
        assert_eq!(texts("\n\nb\n"), ["", "", "b"]);
    }

    #[test]
    fn lines_keep_their_numbers_over_chunks() {
        let count = CHUNK_LINES as u64 * 3 + 5;
        let input: String = (1..=count)
            .map(|number| format!("line {number}\n"))
            .collect();
        let lines = lines(input.as_bytes());
        assert_eq!(lines.len() as u64, count);
        for (number, line) in lines {
            assert_eq!(line.unwrap(), format!("line {number}").into_bytes());
        }
    }

    #[test]
    fn a_whole_line_does_not_wait_for_the_end_of_the_next_one() {
        /// The second part comes once the line in the first was seen.
        struct Typed {
            parts: Vec<&'static [u8]>,
            chunks: mpsc::Receiver<ReadChunk>,
            seen: Vec<u64>,
        }

        impl Read for Typed {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                while let Ok(chunk) = self.chunks.try_recv() {
                    self.seen
                        .extend(chunk.unwrap().lines().map(|(number, _)| number));
                }
                let expected: &[u64] = match self.parts.len() {
                    2 => &[],
                    1 => &[1],
                    _ => &[1, 2],
                };
                assert_eq!(self.seen, expected);
                let part = self.parts.pop().unwrap_or_default();
                buffer[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
        }

        let (sender, chunks) = mpsc::channel(64);
        let typed = Typed {
            parts: vec![b"d\ne", b"b\nc"],
            chunks,
            seen: Vec::new(),
        };
        read_one(&"test".into(), typed, &sender).unwrap();
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut input = vec![b'x'; MAX_RECORD_BYTES + 1];
        input.extend_from_slice(b"\nshort\n");
        let lines = lines(&input);
        assert_eq!(lines, [(1, Err(TooLong)), (2, Ok(b"short".to_vec()))]);
        assert_eq!(
            super::tests::lines(&vec![b'x'; MAX_RECORD_BYTES + 1]),
            [(1, Err(TooLong))]
        );
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        let mut chunks = read(vec![Source::File("/nonexistent/input".into())]);
        let (name, error) = chunks.recv().await.unwrap().err().unwrap();
        assert_eq!(
            (&*name, error.kind()),
            ("/nonexistent/input", io::ErrorKind::NotFound)
        );
        assert!(chunks.recv().await.is_none());
    }
}
