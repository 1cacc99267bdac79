//! Identifiers that must differ between nodes and runs, drawn from a seed given at birth, so that
//! a run can be repeated bit for bit.

use rbd_protocol::ids::GenerationId;

/// `SplitMix64` (Steele, Lea, Flood 2014): 64 bits of state, passes `BigCrush`; ample for naming.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A generation that is none of the reserved values.
    pub(crate) fn generation(&mut self) -> GenerationId {
        loop {
            let value = self.next();
            if value > 15 {
                return GenerationId(value);
            }
        }
    }
}
