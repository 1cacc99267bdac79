//! Chance, from one seed.

/// `SplitMix64`: every choice of a run is drawn from it, in the order in which they are made.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The chance of one thing among many: what else is drawn in the run does not change it.
    pub(super) fn of(seed: u64, stream: u64, number: u64) -> Self {
        let mut mixed = Self(seed ^ Self(stream ^ Self(number).next()).next());
        Self(mixed.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let value = self.next();
        value.checked_rem(bound).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A number in `low..=high` whose order of magnitude is evenly distributed.
    pub(super) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let (first, last) = (low.max(1).ilog2(), high.max(1).ilog2());
        let order = self.between(first.into(), last.into());
        self.between(1 << order, (2 << order) - 1).clamp(low, high)
    }

    /// One of a few.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let at = self.below(u64::try_from(choices.len()).unwrap_or(0));
        choices.get(usize::try_from(at).ok()?).copied()
    }
}
