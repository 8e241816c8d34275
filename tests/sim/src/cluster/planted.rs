//! Mistakes of the simulation's own shells, which brokers' shells might make as well. They exist only where the
//! crate is compiled with `--cfg planted`; otherwise this module is empty.

/// A mistake.
#[cfg(planted)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// What a coordinator says goes out before its records are committed.
    AcknowledgeBeforeCommit,
    /// A worker goes on with its journal in a later epoch than that in which it has read it.
    AppendInAnyEpoch,
    /// A worker sends outputs, and goes on, before their commit counts.
    SendBeforeCommit,
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
            $crate::cluster::planted::is_planted($crate::cluster::planted::Mistake::$mistake)
        }
        #[cfg(not(planted))]
        {
            false
        }
    }};
}
