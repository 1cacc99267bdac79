//! Bytes that tell where they belong: a wrong, stale or shifted block never looks right.

/// A source of numbers that is the same in every run.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Starts a sequence.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0) % limit.max(1)
    }
}

/// The bytes that version `stamp` of the device has from `offset` on.
pub(super) fn stamped(stamp: u64, offset: u64, length: usize) -> Vec<u8> {
    let first = mix(stamp) ^ offset;
    let mut bytes = Vec::with_capacity(length + 8);
    let mut position = 0_u64;
    while bytes.len() < length {
        bytes.extend(mix(first.wrapping_add(position)).to_le_bytes());
        position += 8;
    }
    bytes.truncate(length);
    bytes
}

/// Where two runs of bytes first differ.
pub(super) fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    if left.len() != right.len() {
        return Some(left.len().min(right.len()));
    }
    if left == right {
        return None;
    }
    left.iter().zip(right).position(|(a, b)| a != b)
}

/// The finalizer of splitmix64: every input bit changes about half of the output bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
