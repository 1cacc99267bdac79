//! When to look for completions a little longer before going to sleep.
//!
//! Going to sleep and being woken costs more than a fast disk or a near peer takes. So while
//! little is in flight and completions have lately come soon, the loop looks again and again for a
//! bounded time. It does not when idle; nor with much in flight, when there is always something
//! to do and waking up late makes larger batches; nor where others want the processor.

use std::time::{Duration, Instant};

/// Decides about looking before sleeping.
#[derive(Debug)]
pub(super) struct Pace {
    is_allowed: bool,
    /// How long completions lately let wait, smoothed.
    usual_wait: Duration,
    /// Until then the processor is left to the others who want it.
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

    /// How long to look before sleeping, with so many operations and requests in flight.
    pub(super) fn spin(&self, in_flight: usize, now: Instant) -> Duration {
        let is_worth_it = (1..=DEPTH).contains(&in_flight) && self.usual_wait <= LIMIT;
        let is_free = self.not_before.is_none_or(|time| now >= time);
        if self.is_allowed && is_worth_it && is_free {
            LIMIT
        } else {
            Duration::ZERO
        }
    }

    /// A wait of this length is over; `was_interrupted` if another thread took the processor
    /// from one that looked.
    pub(super) fn waited(&mut self, waited: Duration, was_interrupted: bool, end: Instant) {
        if was_interrupted {
            self.not_before = Some(end + PAUSE);
        }
        self.usual_wait = (self.usual_wait * 7 + waited.min(LONG)) / 8;
    }
}

/// Longest look. On an idle machine it halves the latency of single requests.
const LIMIT: Duration = Duration::from_micros(50);

/// What counts as long, so that one long pause is forgotten after a few short ones.
const LONG: Duration = Duration::from_micros(200);

/// With more in flight than this there is no hurry. A single replicated write counts as two.
const DEPTH: usize = 4;

/// After a look during which another thread took the processor.
const PAUSE: Duration = Duration::from_millis(100);
