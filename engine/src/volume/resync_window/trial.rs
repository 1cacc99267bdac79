//! Whether more under way brings more.
//!
//! How long requests take does not always tell whether they wait for each other. Where everything
//! takes now short and now long by chance, a few together wait for the slowest of them, and beside
//! a lucky lone block all of them seem to queue. So bytes a second have the last word. For a while
//! twice as much as before is kept under way, which is right if clearly more comes of it, and then
//! half as much, which is right if hardly less does. A resync cannot starve by that, however long
//! requests take and whatever was measured before; and where the link or a disk is full, more
//! brings nothing, and what is under way stays small.

use super::scaled;
use crate::contract::Time;

/// How much is under way at least, found by trial.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    bytes: u64,
    step: Step,
    /// The same before that step, and how many bytes a second came of it.
    before: (u64, u64),
    since: Option<Time>,
    seen: Seen,
}

/// What is being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: what comes of it as it is? After that more is tried, or less.
    Rest(Turn),
    More,
    Less,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Up,
    Down,
}

/// What has been seen since the step.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    bytes: u64,
    requests: u64,
    /// Bytes times the nanoseconds they were under way.
    occupied: u128,
    /// More would have been asked for, had there been room.
    was_full: bool,
}

impl Trial {
    pub(super) fn from(bytes: u64) -> Self {
        Self {
            bytes,
            step: Step::Rest(Turn::Up),
            before: (0, 0),
            since: None,
            seen: Seen::default(),
        }
    }

    /// So much may be under way whatever requests take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// More would be asked for if there were room.
    pub(super) fn note_full(&mut self) {
        self.seen.was_full = true;
    }

    /// Whether nothing would be lost if it did not go on.
    pub(super) fn is_between_steps(&self) -> bool {
        self.seen.requests == 0
    }

    /// It does not go on for now.
    pub(super) fn pause(&mut self) {
        if self.step == Step::More {
            self.bytes = self.before.0;
        }
        self.rest(Turn::Up, None);
    }

    /// A request has been answered that took so long. Nothing is to be gained beyond `enough` bytes
    /// a second. By how long requests take, so much may be under way as `window` says.
    pub(super) fn answered(
        &mut self,
        (length, took): (u64, u64),
        enough: u64,
        window: u64,
        now: Time,
    ) {
        let since = *self.since.get_or_insert(now);
        self.seen.bytes += length;
        self.seen.requests += 1;
        self.seen.occupied += u128::from(length) * u128::from(took);
        let passed = now.0.saturating_sub(since.0);
        if passed < STEP_TIME || self.seen.requests < STEP_REQUESTS {
            return;
        }
        let rate = scaled(self.seen.bytes, 1_000_000_000, passed);
        let (bytes_before, rate_before) = self.before;
        let turns = u128::from(self.seen.bytes) * u128::from(passed) / self.seen.occupied.max(1);
        if turns >= STEP_TURNS {
            self.judge(rate, enough, window, passed);
            self.begin(Some(now));
        } else if rate < rate_before / 4 {
            // It is another way now, and an end of this step might be far away.
            let fitting = scaled(bytes_before, rate, rate_before);
            self.bytes = fitting.min(self.bytes);
            self.before = (self.bytes, rate);
            self.rest(Turn::Up, Some(now));
        }
    }

    /// The step has shown what comes of it: what is the next one?
    fn judge(&mut self, rate: u64, enough: u64, window: u64, passed: u64) {
        let (bytes_before, rate_before) = self.before;
        let is_near = rate / 3 >= enough / 4;
        if is_near && rate > enough {
            self.bytes = scaled(self.bytes, enough, rate).max(self.bytes / 2);
        }
        if is_near || !self.seen.was_full {
            self.step = Step::Rest(Turn::Up);
            return;
        }
        let turn = match self.step {
            Step::Rest(turn) => turn,
            Step::More if rate / 5 >= rate_before / 4 => Turn::Up,
            Step::Less if rate / 3 >= rate_before / 4 => Turn::Down,
            Step::More => {
                self.bytes = bytes_before;
                self.step = Step::Rest(Turn::Down);
                return;
            }
            Step::Less => {
                self.bytes = bytes_before;
                self.step = Step::Rest(Turn::Up);
                return;
            }
        };
        self.before = (self.bytes, rate);
        if turn == Turn::Up || self.bytes == 0 {
            let used = self.seen.occupied / u128::from(passed.max(1));
            let used = u64::try_from(used).unwrap_or(u64::MAX).min(window);
            self.bytes = self.bytes.max(used).saturating_mul(2);
            self.step = Step::More;
        } else {
            self.bytes /= 2;
            self.step = Step::Less;
        }
    }

    fn rest(&mut self, turn: Turn, now: Option<Time>) {
        self.step = Step::Rest(turn);
        self.begin(now);
    }

    fn begin(&mut self, now: Option<Time>) {
        self.since = now;
        self.seen = Seen::default();
    }
}

/// A step takes at least so long, in nanoseconds, …
const STEP_TIME: u64 = 100_000_000;

/// … so many answered requests, …
const STEP_REQUESTS: u64 = 8;

/// … and so many times what is under way: the first still shows what came before it.
const STEP_TURNS: u128 = 3;
