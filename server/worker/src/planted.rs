//! The mistakes that can be planted in this crate, to prove that a simulation finds them.

millstream_planted::mistakes! {
    /// A commit counts as settled whether its outputs have arrived or not.
    SettleUnsent,
    /// A journal that is read back does not say which sequences were used.
    ForgetSequences,
}
