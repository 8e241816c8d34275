//! The mistakes that can be planted in this crate, to prove that a simulation finds them.

millstream_planted::mistakes! {
    /// A sync that has failed is tried again, and its success believed.
    RetryFailedSync,
    /// The names of new files are not made durable.
    NoDirectorySync,
    /// A follower does not note the producers of what it appends.
    ForgetProducers,
    /// A log that begins late does not know the producers from before.
    RestartWithoutProducers,
    /// What is read from the disk is not compared with its checksum.
    NoChecksum,
}
