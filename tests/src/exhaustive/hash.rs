//! Fingerprints of 64 bits. Two states with the same one are taken for the same, so among `n`
//! states about `n² / 2⁶⁵` are missed.

use std::fmt;

/// A fingerprint being made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(pub(super) u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Hash {
    pub(super) fn mix(&mut self, value: u64) {
        let mut x = (self.0.rotate_left(23) ^ value).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 29;
        self.0 = x.wrapping_mul(0x94D0_49BB_1331_11EB) ^ (x >> 32);
    }

    /// Mixes in everything a value shows of itself.
    pub(super) fn mix_debug(&mut self, value: &impl fmt::Debug) {
        fmt::Write::write_fmt(self, format_args!("{value:?}")).expect("hashing cannot fail");
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        Ok(())
    }
}
