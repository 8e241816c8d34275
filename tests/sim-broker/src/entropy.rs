//! Randomness from a seed: for a run's own dice, and for all in its thread that asks the system for some. So the
//! keys of hash maps, identifiers and waits of a broker are the same each time.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::slice;
use std::thread::LocalKey;
use std::time::Duration;

use rustix::rand::GetRandomFlags;

thread_local! {
    /// The run's own dice.
    static DICE: Cell<Option<u64>> = const { Cell::new(None) };
    /// What the system is asked for. Whoever asks once more or less changes nothing for the dice.
    static SYSTEM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// What a program gets from the C library when it asks the system for randomness fails so.
const FAILED: isize = -1;

/// From now on, all randomness of this thread comes of `seed`.
pub fn seed(seed: u64) {
    DICE.set(Some(seed));
    SYSTEM.set(Some(!seed));
}

/// The next number of this thread, whose seed is set (SplitMix64, Steele et al. 2014).
pub fn number() -> u64 {
    next(&DICE).expect("a seed")
}

/// A number below `bound`, which is not zero.
pub fn below(bound: u64) -> u64 {
    number() % bound
}

/// A time between two, milliseconds.
pub fn between((from, to): (u64, u64)) -> Duration {
    Duration::from_millis(from + below(to - from))
}

/// True once in so many times.
pub fn once_in(times: u64) -> bool {
    below(times) == 0
}

fn next(stream: &'static LocalKey<Cell<Option<u64>>>) -> Option<u64> {
    // A thread that ends may ask after its state is gone.
    let state = stream.try_with(Cell::get).ok()??;
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    stream.set(Some(state));
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(mixed ^ (mixed >> 31))
}

/// Stands in for the C library's function of this name, through which the standard library, and crates that need
/// randomness, ask the system. Threads without a seed get the system's.
///
/// # Safety
///
/// `buffer` is valid for writes of `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, bytes: usize, flags: u32) -> isize {
    // SAFETY: the caller says that so many bytes may be written there. They have a value when the slice is made.
    let buffer = unsafe {
        buffer.write_bytes(0, bytes);
        slice::from_raw_parts_mut(buffer, bytes)
    };
    for chunk in buffer.chunks_mut(size_of::<u64>()) {
        match next(&SYSTEM) {
            Some(number) => {
                let bytes = number.to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
            None => {
                let flags = GetRandomFlags::from_bits_retain(flags);
                let filled = rustix::rand::getrandom(buffer, flags);
                return filled.map_or(FAILED, |bytes| bytes as isize);
            }
        }
    }
    bytes as isize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;

    /// The order of a hash map's keys, in a thread of its own.
    fn order(seeded: Option<u64>) -> Vec<u32> {
        let ordering = move || {
            if let Some(with) = seeded {
                seed(with);
            }
            let map: HashMap<u32, ()> = (0..100).map(|key| (key, ())).collect();
            map.into_keys().collect()
        };
        thread::spawn(ordering).join().unwrap()
    }

    #[test]
    fn hash_maps_of_one_seed_have_one_order() {
        assert_eq!(order(Some(7)), order(Some(7)));
        assert_ne!(order(Some(7)), order(Some(8)));
        assert_ne!(order(None), order(None));
    }
}
