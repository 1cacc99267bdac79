//! How a resource's thread comes to its end: in order when it can, in time in any case.
//!
//! Clients get the replies to what they have asked, the engine demotes, disconnects and writes its
//! last metadata, links close. Each step has a deadline, after which the next one begins.

use rbd_engine::{Command, Time};

use super::Interpreter;
use super::control::Purpose;

/// How the thread comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// Clients get the replies to what they have asked.
    Finishing {
        until: Time,
    },
    /// The engine has been asked to stop and gets ready.
    Stopping {
        until: Time,
    },
    /// The engine would not stop: links are closed, what is in flight on disks comes back.
    Leaving {
        until: Time,
    },
    Over,
}

impl Ending {
    /// When the next step is due at the latest.
    pub(super) fn deadline(self) -> Option<Time> {
        match self {
            Self::No | Self::Over => None,
            Self::Finishing { until } | Self::Stopping { until } | Self::Leaving { until } => {
                Some(until)
            }
        }
    }

    /// The end after the engine's consent, which it has given just now.
    pub(super) fn agreed(now: Time) -> Self {
        let until = now.plus_ms(SHUTDOWN_MS);
        Self::Stopping { until }
    }
}

impl Interpreter {
    /// Begins the end, unless it has begun.
    pub(super) fn shut_down(&mut self) {
        if self.ending == Ending::No {
            let until = self.now.plus_ms(SHUTDOWN_MS);
            self.ending = Ending::Finishing { until };
            self.clients.dismiss(None, until);
            self.kernel.drain();
        }
    }

    /// Goes without the engine's consent.
    pub(super) fn leave(&mut self) {
        self.links.drop_all(self.now);
        let until = self.now.plus_ms(LEAVE_MS);
        self.ending = Ending::Leaving { until };
    }

    /// Whether everything asked of this node was answered before it went.
    pub(super) fn ended_in_order(&self) -> bool {
        self.engine.is_stopped() && self.kernel.in_flight() == 0 && !self.kernel.has_kept()
    }

    /// Once a turn: takes the next step if it is time.
    pub(super) fn advance_ending(&mut self) {
        let is_served = !self.clients.is_empty() || self.kernel.in_flight() > 0;
        let is_quiet = self.disks.in_flight() == 0 && self.links.is_empty() && !is_served;
        match self.ending {
            Ending::No | Ending::Over => {}
            Ending::Finishing { until } => {
                if self.clients.is_empty() && self.kernel.in_flight() == 0 {
                    self.ending = Ending::Stopping { until };
                    self.call(Command::Stop, None, Purpose::Stop);
                    self.handle_waiting();
                    self.settle();
                    self.advance_ending(); // nothing may have been left to stop
                } else if self.now >= until {
                    self.leave();
                    self.settle();
                }
            }
            Ending::Stopping { until } => {
                if is_quiet && self.engine.is_stopped() {
                    self.ending = Ending::Over;
                } else if self.now >= until {
                    self.leave();
                    self.settle();
                }
            }
            Ending::Leaving { until } => {
                if is_quiet || self.now >= until {
                    self.ending = Ending::Over;
                }
            }
        }
    }
}

/// How long requests in flight may take when the thread is to end.
const SHUTDOWN_MS: u64 = 10_000;

/// How long the last packets, metadata and closing of links may take after that.
const LEAVE_MS: u64 = 3_000;
