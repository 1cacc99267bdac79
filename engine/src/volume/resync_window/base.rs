//! How long a request takes that nothing else of the resync is in the way of.

/// How long a block takes that is asked for alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base {
    pub(super) nanoseconds: u64,
    /// How many have been, at most [`FIRST_PROBES`].
    pub(super) probes: u8,
}

impl Base {
    /// It took so long this time.
    pub(super) fn learn(&mut self, took: u64) {
        let known = self.nanoseconds;
        // The first may still have met what was under way before.
        self.nanoseconds = match self.probes {
            0 => took,
            probes if probes < FIRST_PROBES => known.min(took),
            // The average of many, without what has met a stall.
            _ if !self.is_far() && took >= known / 2 => {
                known / 16 * 15 + took.min(known.saturating_mul(4)) / 16
            }
            // Near the average of what comes now sooner and now later by chance: next to the least
            // every request would seem to wait.
            _ if took < known => known / 4 * 3 + took / 4,
            _ => known / 8 * 7 + took / 8,
        };
        self.probes = (self.probes + 1).min(FIRST_PROBES);
    }

    /// Many that were not alone took no longer than this: by itself none does.
    pub(super) fn limit(&mut self, usual: u64) {
        self.nanoseconds = self.nanoseconds.min(usual);
    }

    /// Whether waking up makes no difference.
    pub(super) fn is_far(&self) -> bool {
        self.nanoseconds >= FAR
    }
}

/// So many lone blocks show what the way costs when clients appear, and soon.
pub(super) const FIRST_PROBES: u8 = 4;

/// A way is far on which a lone block takes so many nanoseconds that it makes no difference who is
/// asleep.
const FAR: u64 = 1_000_000;
