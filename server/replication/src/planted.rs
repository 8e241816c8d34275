//! Mistakes that can be planted, to prove that a simulation finds them. They exist only where the
//! crate is compiled with `--cfg planted`; otherwise this module is empty.

/// A mistake.
#[cfg(planted)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A follower acknowledges what it has written and not flushed.
    AckBeforeFlush,
    /// A follower cuts its log to its high watermark before it takes entries of a new leader.
    TruncateToHighWatermark,
    /// A promise is answered before it is on the disk.
    AnswerBeforePromise,
    /// A leader counts itself for what it has not flushed.
    CountSelfBeforeFlush,
    /// Entries of older epochs are committed without one of the current epoch.
    NoEpochStart,
    /// A replica whose directory was emptied takes part in seals.
    VoteByEmptyDisk,
    /// A changing set commits with the old replicas.
    CommitWithOldSet,
    /// What is visible is what is written, not what is committed.
    ReadPastCommit,
    /// A new leader deletes what it knows to be deleted, not what a seal says.
    SealWithoutDeletions,
    /// A deletion is acknowledged once the leader has it.
    DeleteAlone,
}

#[cfg(planted)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake in what this thread does from now on, or none.
#[cfg(planted)]
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

#[cfg(planted)]
pub(crate) fn is_planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Whether a mistake is planted.
macro_rules! planted {
    ($mistake:ident) => {{
        #[cfg(planted)]
        {
            $crate::planted::is_planted($crate::planted::Mistake::$mistake)
        }
        #[cfg(not(planted))]
        {
            false
        }
    }};
}
