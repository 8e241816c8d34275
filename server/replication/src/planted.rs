//! The mistakes that can be planted in this crate, to prove that a simulation finds them.

millstream_planted::mistakes! {
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
