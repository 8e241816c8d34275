//! Mistakes that can be planted, to prove that a simulation finds them. They exist only where the
//! crate is compiled with `--cfg planted`; otherwise this module is empty.

/// A mistake.
#[cfg(planted)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
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
