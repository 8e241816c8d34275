//! The mistakes that can be planted in this crate, to prove that a simulation finds them.

millstream_planted::mistakes! {
    /// A partition goes to its next owner before the last one has released it.
    AssignBeforeRelease,
    /// A coordinator that reads the log back begins with the first generation.
    ForgetGenerations,
}
