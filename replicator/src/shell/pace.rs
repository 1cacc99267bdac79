//! When to look for completions a little longer before going to sleep.
//!
//! Going to sleep and being woken costs more than a fast disk or a near peer takes. So while
//! something is expected soon, and completions have lately come soon, the loop looks again and
//! again for a bounded time. It never does so when idle, nor where it would take the only
//! processor from the one it waits for.

use std::time::{Duration, Instant};

/// Decides about looking before sleeping.
#[derive(Debug)]
pub(super) struct Pace {
    is_allowed: bool,
    /// How long completions lately let wait, smoothed.
    usual_wait: Duration,
    /// Not before this time again: the last look was cut short by another thread.
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism();
        Self {
            is_allowed: processors.is_ok_and(|count| count.get() >= 2),
            usual_wait: LONG,
            not_before: None,
        }
    }

    /// How long to look before sleeping, now that `is_expecting` operations to complete.
    pub(super) fn spin(&mut self, is_expecting: bool, now: Instant) -> Duration {
        if !self.is_allowed || !is_expecting || self.usual_wait > LIMIT {
            return Duration::ZERO;
        }
        if self.not_before.is_some_and(|time| now < time) {
            return Duration::ZERO;
        }
        LIMIT
    }

    /// A wait is over: it took so long, and `spun` of it was to be spent looking.
    pub(super) fn waited(&mut self, waited: Duration, spun: Duration, end: Instant) {
        if !spun.is_zero() && waited > LIMIT * 20 {
            self.not_before = Some(end + PAUSE);
        }
        // Never below a part of the limit, so that a few long waits end the looking.
        let waited = waited.clamp(Duration::ZERO, LONG);
        self.usual_wait = (self.usual_wait * 7 + waited) / 8;
    }
}

/// Longest look. Measured: halves the latency of single requests for a tenth more processor time.
const LIMIT: Duration = Duration::from_micros(50);

/// What counts as long, so that one long pause is forgotten after a few short ones.
const LONG: Duration = Duration::from_micros(200);

/// After a look during which another thread took the processor.
const PAUSE: Duration = Duration::from_millis(100);
