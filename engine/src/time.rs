//! Points in time, as the hands tell them. Nothing here knows a clock.

/// Monotonic time in nanoseconds, from an origin of the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// This time plus so many milliseconds.
    #[must_use]
    pub fn plus_ms(self, milliseconds: u64) -> Self {
        Self(
            self.0
                .saturating_add(milliseconds.saturating_mul(1_000_000)),
        )
    }

    /// Whole milliseconds from `earlier` to this time, 0 if it is not earlier.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}
