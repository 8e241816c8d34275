//! Mistakes that can be planted, to prove that a simulation finds them. They exist only where the
//! crate is compiled with `--cfg planted`; otherwise this module is empty.

/// A mistake.
#[cfg(planted)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A commit counts as settled whether its outputs have arrived or not.
    SettleUnsent,
    /// A journal that is read back does not say which sequences were used.
    ForgetSequences,
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
