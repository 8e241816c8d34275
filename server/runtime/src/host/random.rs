//! `wasi:random`: a stream of bytes that is a function of the position, unless real randomness is
//! granted.

use millstream_protocol::{Offset, PartitionIndex};
use sha2::{Digest as _, Sha256};
use wasmtime::{bail, format_err};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::HostState;

/// Random bytes that one call may ask for.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// SHA-256 in counter mode over (deployment, topic, partition, offset): the same whenever the same
/// records are handled, different everywhere else. Anyone who knows the position knows the bytes.
pub(super) struct RandomStream {
    worker: Sha256,
    position: Offset,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl RandomStream {
    pub(super) fn new(deployment: &str, topic: &str, partition: PartitionIndex) -> Self {
        let mut worker = Sha256::new();
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        for part in [
            deployment.as_bytes(),
            topic.as_bytes(),
            &partition.to_be_bytes(),
        ] {
            worker.update((part.len() as u64).to_be_bytes());
            worker.update(part);
        }
        let block = [0; 32];
        Self {
            worker,
            position: 0,
            counter: 0,
            block,
            used: block.len(),
        }
    }

    /// Begins the stream of one position.
    pub(super) fn seek(&mut self, position: Offset) {
        self.position = position;
        self.counter = 0;
        self.used = self.block.len();
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let block = self
                    .worker
                    .clone()
                    .chain_update(self.position.to_be_bytes());
                self.block = block
                    .chain_update(self.counter.to_be_bytes())
                    .finalize()
                    .into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }

    fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > MAX_RANDOM_BYTES {
            bail!("{len} random bytes asked for, more than {MAX_RANDOM_BYTES}");
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes);
        Ok(bytes)
    }
}

impl HostState {
    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let mut bytes = self.random.bytes(len)?;
        if self.grants.grants.real_randomness {
            getrandom::fill(&mut bytes)
                .map_err(|error| format_err!("the system gives no random bytes: {error}"))?;
        }
        Ok(bytes)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        let bytes = self.random_bytes(8)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

impl random::Host for HostState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.quota.count()?;
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.quota.count()?;
        self.random_u64()
    }
}

impl insecure::Host for HostState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.quota.count()?;
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.quota.count()?;
        self.random_u64()
    }
}

impl insecure_seed::Host for HostState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.quota.count()?;
        Ok((self.random_u64()?, self.random_u64()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stream: &mut RandomStream, position: Offset) -> Vec<u8> {
        stream.seek(position);
        stream.bytes(100).unwrap()
    }

    #[test]
    fn the_position_decides_the_bytes() {
        let mut stream = RandomStream::new("alert", "quakes", 3);
        let first = at(&mut stream, 7);
        assert_ne!(first[..32], first[32..64], "blocks differ");
        assert_ne!(at(&mut stream, 8), first);
        assert_eq!(at(&mut stream, 7), first);
        assert_eq!(at(&mut RandomStream::new("alert", "quakes", 3), 7), first);
        assert_ne!(at(&mut RandomStream::new("alert", "quakes", 4), 7), first);
        assert_ne!(at(&mut RandomStream::new("alertq", "uakes", 3), 7), first);
    }

    #[test]
    fn a_guest_cannot_ask_for_too_much() {
        let mut stream = RandomStream::new("alert", "quakes", 3);
        assert!(stream.bytes(MAX_RANDOM_BYTES).is_ok());
        assert!(stream.bytes(MAX_RANDOM_BYTES + 1).is_err());
    }
}
