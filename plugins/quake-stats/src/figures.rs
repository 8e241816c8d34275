//! Count, mean and maximum.

/// Bytes of figures in the state: the count, the sum and the maximum, 8 each, big-endian.
const BYTES: usize = 24;

/// What is known of the magnitudes of a window. There is at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    count: u64,
    sum: f64,
    max: f64,
}

impl Figures {
    /// Those of one magnitude.
    pub(crate) fn of(mag: f64) -> Self {
        Self {
            count: 1,
            sum: mag,
            max: mag,
        }
    }

    pub(crate) fn add(self, mag: f64) -> Self {
        Self {
            count: self.count + 1,
            sum: self.sum + mag,
            max: self.max.max(mag),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// To three decimals: more is not known of a magnitude.
    pub(crate) fn mean(&self) -> f64 {
        (self.sum / self.count as f64 * 1e3).round() / 1e3
    }

    pub(crate) fn max(&self) -> f64 {
        self.max
    }

    pub(crate) fn encode(&self) -> [u8; BYTES] {
        let parts = [self.count, self.sum.to_bits(), self.max.to_bits()];
        let mut bytes = [0; BYTES];
        for (place, part) in bytes.as_chunks_mut().0.iter_mut().zip(parts) {
            *place = part.to_be_bytes();
        }
        bytes
    }

    /// `None`: these are no figures.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (parts, []) = bytes.as_chunks() else {
            return None;
        };
        let [count, sum, max] = parts else {
            return None;
        };
        Some(Self {
            count: u64::from_be_bytes(*count),
            sum: f64::from_be_bytes(*sum),
            max: f64::from_be_bytes(*max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_back() {
        let figures = Figures::of(-0.8).add(5.3).add(1.35);
        assert_eq!((figures.count(), figures.max()), (3, 5.3));
        assert_eq!(figures.mean(), 1.95);
        assert_eq!(Figures::decode(&figures.encode()), Some(figures));
        assert_eq!(Figures::decode(&figures.encode()[1..]), None);
        assert_eq!(Figures::decode(b""), None);
    }
}
