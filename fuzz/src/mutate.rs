//! Inputs that resemble known ones, from a seed: what a machine without libFuzzer can do.

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index below `length`, 0 when that is 0.
    pub fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % length).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// An input made of one or two known ones, changed in one to eight places.
pub fn mutant(known: &[Vec<u8>], longest: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = match known.get(chance.index(known.len())) {
        Some(bytes) => bytes.clone(),
        None => Vec::new(),
    };
    for _ in 0..=chance.index(8) {
        change(&mut bytes, known, chance);
    }
    bytes.truncate(longest);
    bytes
}

fn change(bytes: &mut Vec<u8>, known: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.index(bytes.len());
    match chance.index(8) {
        0 => bytes.insert(at.min(bytes.len()), chance.byte()),
        1 => bytes.truncate(at),
        2 if !bytes.is_empty() => {
            bytes.remove(at);
        }
        3 => {
            let other = known.get(chance.index(known.len()));
            let other = other.map_or(&[][..], Vec::as_slice);
            let from = chance.index(other.len()).min(other.len());
            let length = chance.index(64).min(other.len() - from);
            let at = at.min(bytes.len());
            bytes.splice(at..at, other[from..from + length].iter().copied());
        }
        4 => {
            let run = vec![chance.byte(); chance.index(8)];
            bytes.extend(run);
        }
        choice => {
            let new = match choice {
                5 => chance.byte(),
                6 => INTERESTING[chance.index(INTERESTING.len())],
                _ => bytes.get(at).copied().unwrap_or(0) ^ 1 << chance.index(8),
            };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = new;
            }
        }
    }
}

const INTERESTING: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
