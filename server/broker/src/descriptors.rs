//! How many files this process may have open, and what follows from it.

use millstream_metadata::Limits;
use millstream_runtime::MAX_HTTP_CONNECTIONS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that one partition may have open: its active segment, a sealed one that is read, and the store that
/// is made from it: of a worker's state, or of a table.
const FILES_PER_PARTITION: u64 = 3;

/// Files that have nothing to do with partitions: the connections of plugins' requests, and the broker's own.
/// Where there are few, they get half of them.
const OTHER_FILES: u64 = MAX_HTTP_CONNECTIONS as u64 + 128;

/// The limits of the metadata, with no more partitions than there can be files for.
///
/// The system grants a process fewer files than it may ask for; all of them are asked for here.
pub(crate) fn limits() -> Limits {
    let usual = Limits::default();
    let Some(files) = raise() else {
        return usual;
    };
    let partitions = usize::try_from((files - OTHER_FILES.min(files / 2)) / FILES_PER_PARTITION)
        .unwrap_or(usize::MAX);
    if partitions < usual.partitions {
        tracing::info!(
            files,
            partitions,
            "the number of partitions is bounded by the files that may be open (`ulimit -Hn`)"
        );
    }
    Limits {
        partitions: usual.partitions.min(partitions),
        ..usual
    }
}

/// The files that may be open from now on; `None` when there is no bound.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        // As on systems where "no bound" is more than the kernel takes.
        Err(_) => current,
    }
}
