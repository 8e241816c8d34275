//! The names of a log's files.
//!
//! | name | what it is |
//! |---|---|
//! | `checkpoint` | where the log stands, see [`super::checkpoint`] |
//! | `{base_offset:020}.log` | a segment, see [`super::segment`] |
//! | `{base_offset:020}.index` | its sparse index, a cache, see [`super::index`] |
//! | `{offset:020}.snapshot` | producers and epochs at an offset, see [`super::snapshot`] |
//! | `{offset:020}.snapshot.restart` | the snapshot of a log that is to begin there |
//! | `….tmp`, `….compacting` | unfinished; removed when the log is opened |

use millstream_protocol::Offset;

pub(crate) const CHECKPOINT: &str = "checkpoint";

/// What a name says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Checkpoint,
    Segment(Offset),
    Index(Offset),
    Snapshot(Offset),
    /// A snapshot that counts once the log has begun anew.
    Restart(Offset),
    /// Something that a crash has left behind.
    Unfinished,
    /// Nothing of the log's.
    Foreign,
}

pub(crate) fn segment(base_offset: Offset) -> String {
    format!("{base_offset:020}.log")
}

pub(crate) fn compacting(base_offset: Offset) -> String {
    format!("{base_offset:020}.log.compacting")
}

pub(crate) fn index(base_offset: Offset) -> String {
    format!("{base_offset:020}.index")
}

pub(crate) fn snapshot(offset: Offset) -> String {
    format!("{offset:020}.snapshot")
}

pub(crate) fn restart(offset: Offset) -> String {
    format!("{offset:020}.snapshot.restart")
}

pub(crate) fn unfinished(name: &str) -> String {
    format!("{name}.tmp")
}

pub(crate) fn kind(name: &str) -> FileKind {
    if name == CHECKPOINT {
        return FileKind::Checkpoint;
    }
    let Some((stem, extension)) = name.split_once('.') else {
        return FileKind::Foreign;
    };
    if extension.ends_with("tmp") || extension == "log.compacting" {
        return FileKind::Unfinished;
    }
    if stem.len() != 20 || !stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return FileKind::Foreign;
    }
    let Ok(offset) = stem.parse() else {
        return FileKind::Foreign;
    };
    match extension {
        "log" => FileKind::Segment(offset),
        "index" => FileKind::Index(offset),
        "snapshot" => FileKind::Snapshot(offset),
        "snapshot.restart" => FileKind::Restart(offset),
        _ => FileKind::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised() {
        for (name, expected) in [
            (segment(7), FileKind::Segment(7)),
            (index(7), FileKind::Index(7)),
            (snapshot(u64::MAX), FileKind::Snapshot(u64::MAX)),
            (restart(7), FileKind::Restart(7)),
            (unfinished(&restart(7)), FileKind::Unfinished),
            (compacting(7), FileKind::Unfinished),
            (unfinished(CHECKPOINT), FileKind::Unfinished),
            (unfinished(&snapshot(7)), FileKind::Unfinished),
            (CHECKPOINT.to_owned(), FileKind::Checkpoint),
            ("7.log".to_owned(), FileKind::Foreign),
            ("lost+found".to_owned(), FileKind::Foreign),
            ("99999999999999999999.log".to_owned(), FileKind::Foreign),
        ] {
            assert_eq!(kind(&name), expected, "{name}");
        }
    }

    #[test]
    fn names_sort_by_offset() {
        assert!(segment(9) < segment(10) && segment(10) < segment(u64::MAX));
    }
}
