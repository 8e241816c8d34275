//! Mistakes that can be planted in a core, to prove that a simulation finds them. They are there only in what is
//! compiled with `--cfg planted`.
//!
//! A crate names its mistakes in a module `planted`, with [`mistakes!`], and asks with [`planted!`] where it would make
//! one. Each thread has the one that was planted in it last.

/// Names the mistakes of a crate, in its module `planted`: an enum `Mistake`, and `plant`, which plants one in what the
/// thread does from then on, or none.
#[macro_export]
macro_rules! mistakes {
    ($($(#[$meaning:meta])+ $mistake:ident,)+) => {
        /// A mistake.
        #[cfg(planted)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake {
            $($(#[$meaning])+ $mistake,)+
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
    };
}

/// Whether a mistake of this crate is planted: never, where it is not compiled with `--cfg planted`.
#[expect(
    clippy::crate_in_macro_def,
    reason = "the mistakes are those of the crate that asks"
)]
#[macro_export]
macro_rules! planted {
    ($mistake:ident) => {{
        #[cfg(planted)]
        {
            crate::planted::is_planted(crate::planted::Mistake::$mistake)
        }
        #[cfg(not(planted))]
        {
            false
        }
    }};
}
