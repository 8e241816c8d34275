//! The mistakes of all cores.

use millstream_group::planted as group;
use millstream_log::planted as log;
use millstream_replication::planted as replication;
use millstream_worker::planted as worker;

use crate::cluster::planted as shell;

/// A mistake of one of the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Of replication.
    Replication(replication::Mistake),
    /// Of the log.
    Log(log::Mistake),
    /// Of the groups' coordinator.
    Group(group::Mistake),
    /// Of workers' journals.
    Worker(worker::Mistake),
    /// Of the simulation's own shells.
    Shell(shell::Mistake),
}

/// All of them, by what they do.
pub const MISTAKES: [(&str, Mistake); 22] = {
    use Mistake::{Group, Log, Replication, Shell, Worker};
    use group::Mistake as G;
    use log::Mistake as L;
    use replication::Mistake as R;
    use shell::Mistake as S;
    use worker::Mistake as W;
    [
        ("ack before flush", Replication(R::AckBeforeFlush)),
        (
            "truncate to the high watermark",
            Replication(R::TruncateToHighWatermark),
        ),
        (
            "answer before the promise is synced",
            Replication(R::AnswerBeforePromise),
        ),
        (
            "count oneself before the flush",
            Replication(R::CountSelfBeforeFlush),
        ),
        ("commit without EpochStart", Replication(R::NoEpochStart)),
        ("vote by an empty disk", Replication(R::VoteByEmptyDisk)),
        (
            "commit with the old replicas",
            Replication(R::CommitWithOldSet),
        ),
        ("read past the commit", Replication(R::ReadPastCommit)),
        (
            "seal without what is deleted",
            Replication(R::SealWithoutDeletions),
        ),
        ("delete on the leader alone", Replication(R::DeleteAlone)),
        ("retry a failed sync", Log(L::RetryFailedSync)),
        ("no sync of the directory", Log(L::NoDirectorySync)),
        ("no producers on a follower", Log(L::ForgetProducers)),
        (
            "no producers where a log begins late",
            Log(L::RestartWithoutProducers),
        ),
        ("no checksum on reading", Log(L::NoChecksum)),
        ("assign before the release", Group(G::AssignBeforeRelease)),
        ("forget generations", Group(G::ForgetGenerations)),
        (
            "acknowledge before the commit",
            Shell(S::AcknowledgeBeforeCommit),
        ),
        ("settle what was not sent", Worker(W::SettleUnsent)),
        ("forget sequences of outputs", Worker(W::ForgetSequences)),
        ("append in any epoch", Shell(S::AppendInAnyEpoch)),
        ("send before the commit", Shell(S::SendBeforeCommit)),
    ]
};

/// Plants a mistake in what this thread does from now on, or none.
pub fn plant(mistake: Option<Mistake>) {
    let (mut in_log, mut in_replication) = (None, None);
    let (mut in_group, mut in_worker, mut in_shell) = (None, None, None);
    match mistake {
        None => {}
        Some(Mistake::Log(mistake)) => in_log = Some(mistake),
        Some(Mistake::Replication(mistake)) => in_replication = Some(mistake),
        Some(Mistake::Group(mistake)) => in_group = Some(mistake),
        Some(Mistake::Worker(mistake)) => in_worker = Some(mistake),
        Some(Mistake::Shell(mistake)) => in_shell = Some(mistake),
    }
    log::plant(in_log);
    replication::plant(in_replication);
    group::plant(in_group);
    worker::plant(in_worker);
    shell::plant(in_shell);
}
