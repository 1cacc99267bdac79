//! How much of a resync may be under way at once, so that it takes what the link and the disks
//! have to spare and nothing that a client is waiting for.
//!
//! The target steers. It sees how long each of its requests takes until the data is on its disk,
//! and it sees most of what clients do. A request made while no other is under way shows what the
//! way costs by itself; whatever requests take longer than that is a queue which the resync itself
//! has made, and in which clients' writes wait as well. So the window is set, round after round,
//! to what makes requests take just so much longer: some milliseconds while no client is there,
//! which fills any link; a third longer, and little in absolute terms, while one is. There is
//! no speed to be configured and none to be guessed.
//!
//! How long a lone block takes says little of one among many where the way is so short that most
//! of it is programs going to sleep and waking up: several requests keep them awake, and seem
//! to queue nowhere when they do. On such a way there is one request at a time while clients are
//! about, as large as may be under way, and a lone block among every few of them.
//!
//! Where requests take long for other reasons than a queue that would make next to nothing of a
//! resync. So it is also tried out whether more under way brings more (`trial`): always while no
//! client is there, up to some bytes a second while one is. At least one block is always under way.
//!
//! What is asked for, and where, is the business of `resync_target`.

use core::ops::RangeInclusive;

use rbd_protocol::control::ResyncOptions;
use rbd_protocol::ids::BLOCK_SIZE;
use rbd_protocol::state::ResyncLimit;

use base::{Base, FIRST_PROBES};
use trial::Trial;

use super::resync_pace::Pace;
use crate::contract::Time;

/// The window of one resync, at its target.
#[derive(Clone, Debug)]
pub(crate) struct ResyncWindow {
    /// How much may be under way.
    bytes: u64,
    /// When a client was last seen at work.
    clients_seen: Option<Time>,
    mood: Mood,
    /// How long a lone block takes while nobody, and while somebody, else is about.
    idle_base: Base,
    busy_base: Base,
    /// What is under way at least in either mood.
    idle_trial: Trial,
    busy_trial: Trial,
    /// The window when clients were last about.
    busy_bytes: u64,
    round: Round,
    /// How long requests took in the last round.
    usual: u64,
    /// When a request was last made to learn how long it takes by itself.
    probed: Option<Time>,
    /// With a limited rate, when the next request may be made.
    not_before: Time,
    /// That is what kept the last request that could not be made from being made.
    held_by_rate: bool,
}

/// What the queue may be, and for whose sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Nobody is waiting behind the resync.
    Idle,
    /// Clients are at work.
    Busy,
}

/// What has been seen since the window was last set.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    number: u32,
    /// Time and number of the requests made and finished in it, and their bytes.
    time: u64,
    count: u64,
    bytes: u64,
    /// More would have been asked for, had the window been larger.
    was_full: bool,
}

/// What is remembered of a request until its data is on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Time,
    round: u32,
    is_probe: bool,
}

impl ResyncWindow {
    pub(crate) fn new() -> Self {
        Self {
            bytes: FIRST_WINDOW,
            clients_seen: None,
            mood: Mood::Idle,
            idle_base: Base::default(),
            busy_base: Base::default(),
            idle_trial: Trial::from(0),
            busy_trial: Trial::from(FIRST_BUSY_WINDOW),
            busy_bytes: 0,
            round: Round::default(),
            usual: 0,
            probed: None,
            not_before: Time(0),
            held_by_rate: false,
        }
    }

    /// What keeps the resync from being faster, given where its requests spend their time.
    pub(crate) fn bottleneck(&self, pace: &Pace) -> Option<ResyncLimit> {
        match self.mood {
            _ if self.held_by_rate => Some(ResyncLimit::Configured),
            Mood::Busy => Some(ResyncLimit::Clients),
            Mood::Idle => pace.slowest(self.usual),
        }
    }

    /// How much the next request may ask for, with so many requests and bytes under way: nothing,
    /// or some whole blocks.
    pub(crate) fn room(
        &mut self,
        (requests, bytes): (usize, u64),
        options: &ResyncOptions,
        now: Time,
    ) -> Option<u32> {
        self.notice_peace(now);
        if requests > 0 && self.is_probe_due(now) {
            return None;
        }
        self.held_by_rate = now < self.not_before;
        if requests >= REQUEST_LIMIT || self.held_by_rate {
            return None;
        }
        let window = self.window(options);
        let mut length = match self.mood {
            _ if self.is_probe_due(now) => 0,
            Mood::Idle => (window / 4).max(IDLE_REQUEST),
            Mood::Busy => self.busy_request(window),
        };
        length = length.min(LARGEST_REQUEST);
        if let Some(rate) = rate_limit(options) {
            length = length.min(in_time(rate, RATE_STEP));
        }
        let block = u64::from(BLOCK_SIZE);
        let length = length.max(block) / block * block;
        // A smaller request would fit sooner, and soon all would be small.
        if requests > 0 && bytes + length > window {
            self.round.was_full = true;
            self.trial().note_full();
            return None;
        }
        u32::try_from(length).ok()
    }

    /// A request of so many bytes is being made.
    pub(crate) fn ask(
        &mut self,
        length: u64,
        is_alone: bool,
        options: &ResyncOptions,
        now: Time,
    ) -> Asked {
        let is_probe = is_alone && self.is_probe_due(now);
        if is_probe {
            self.probed = Some(now);
        }
        if let Some(rate) = rate_limit(options) {
            let earliest = Time(now.0.saturating_sub(RATE_STEP));
            let due = self.not_before.max(earliest).0;
            self.not_before = Time(due.saturating_add(time_for(length, rate)));
        }
        Asked {
            at: now,
            round: self.round.number,
            is_probe,
        }
    }

    /// What was asked for is on the disk.
    pub(crate) fn answered(
        &mut self,
        asked: Asked,
        length: u64,
        options: &ResyncOptions,
        now: Time,
    ) {
        let took = now.0.saturating_sub(asked.at.0).max(1);
        if asked.is_probe {
            self.base().learn(took);
        }
        let enough = self.enough(options);
        let window = match self.mood {
            Mood::Idle => self.bytes.max(self.busy_trial.bytes()).max(IDLE_REQUEST),
            Mood::Busy => self.bytes,
        };
        self.trial().answered((length, took), enough, window, now);
        if asked.round != self.round.number {
            return;
        }
        self.round.time = self.round.time.saturating_add(took);
        self.round.count += 1;
        self.round.bytes += length;
        let is_enough = !self.is_near() || self.round.count >= NEAR_ROUND;
        if is_enough && self.round.bytes >= self.bytes / 2 {
            self.end_round(options);
        }
    }

    /// A client of either node is at work on something the resync stands in the way of.
    pub(crate) fn clients_at_work(&mut self, options: &ResyncOptions, now: Time) {
        if options.min_rate == Some(0) {
            return;
        }
        self.clients_seen = Some(now);
        if self.mood == Mood::Busy {
            return;
        }
        self.change_mood(Mood::Busy);
        // What is left when requests take a quarter longer than a lone one.
        let guess = scaled(
            self.bytes,
            self.idle_base.nanoseconds / 4,
            self.usual.max(1),
        );
        let known = if self.busy_bytes > 0 {
            self.busy_bytes
        } else {
            guess
        };
        self.bytes = known.min(self.bytes).max(SMALLEST_WINDOW);
        self.next_round();
        // What a request costs now is not known.
        self.busy_base.probes = 0;
    }

    /// The options have changed: what the old ones held back may go.
    pub(crate) fn options_changed(&mut self, now: Time) {
        self.not_before = self.not_before.min(now);
    }

    /// When [`room`](Self::room) is to be asked again although nothing has come back.
    pub(crate) fn due(&self, now: Time) -> Option<Time> {
        (now < self.not_before).then_some(self.not_before)
    }

    /// With so many bytes a second, more than what a short queue needs is not tried.
    fn enough(&self, options: &ResyncOptions) -> u64 {
        let is_limited = self.mood == Mood::Busy || options.delay_ms.is_some();
        let least = options.min_rate.filter(|rate| *rate > 0);
        if is_limited {
            least.unwrap_or(LEAST_RATE)
        } else {
            u64::MAX
        }
    }

    fn base(&mut self) -> &mut Base {
        match self.mood {
            Mood::Idle => &mut self.idle_base,
            Mood::Busy => &mut self.busy_base,
        }
    }

    fn trial(&mut self) -> &mut Trial {
        match self.mood {
            Mood::Idle => &mut self.idle_trial,
            Mood::Busy => &mut self.busy_trial,
        }
    }

    fn change_mood(&mut self, mood: Mood) {
        self.trial().pause();
        self.mood = mood;
    }

    fn notice_peace(&mut self, now: Time) {
        let is_peace = self
            .clients_seen
            .is_none_or(|seen| now.ms_since(seen) >= PEACE_MS);
        if self.mood == Mood::Busy && is_peace && self.busy_trial.is_between_steps() {
            self.busy_bytes = self.bytes;
            self.change_mood(Mood::Idle);
            self.next_round();
        }
    }

    /// Now and then the window is let run empty, so that a request is alone once more.
    fn is_probe_due(&self, now: Time) -> bool {
        let (pause, rounds) = match self.mood {
            Mood::Idle => IDLE_PROBE,
            Mood::Busy => match self.busy_base.probes {
                0 => return true,
                1..FIRST_PROBES => FIRST_PROBE,
                _ if self.is_near() => NEAR_PROBE,
                _ => BUSY_PROBE,
            },
        };
        let pause = pause.max(self.usual.saturating_mul(rounds));
        self.probed
            .is_none_or(|probed| now.0.saturating_sub(probed.0) >= pause)
    }

    /// Clients are at work, and what a lone block takes is waking up more than anything else.
    fn is_near(&self) -> bool {
        self.mood == Mood::Busy && !self.busy_base.is_far()
    }

    /// How large a request is made beside clients.
    fn busy_request(&self, window: u64) -> u64 {
        let most = if self.is_near() { window } else { FAR_REQUEST };
        self.bytes.min(most).min(window).max(window / 4)
    }

    /// The window as the options leave it.
    fn window(&self, options: &ResyncOptions) -> u64 {
        let least = self.busy_trial.bytes();
        let demanded = options.min_rate.map_or(0, |rate| self.demanded(rate));
        let wanted = match (self.mood, options.fill_bytes) {
            (Mood::Idle, Some(fill)) => fill,
            (Mood::Idle, None) => self.bytes.max(self.idle_trial.bytes()).max(least),
            (Mood::Busy, fill) => {
                let wanted = self.bytes.max(least).min(fill.unwrap_or(u64::MAX));
                wanted.max(demanded)
            }
        };
        wanted.clamp(SMALLEST_WINDOW, LARGEST_WINDOW)
    }

    /// What makes such a rate of requests that take what they do. Whoever has written it wants it
    /// at the cost of clients, but not a queue that grows because the way has no such rate.
    fn demanded(&self, rate: u64) -> u64 {
        let base = self.busy_base.nanoseconds.saturating_mul(2);
        in_time(rate, base.saturating_add(DEMANDED_QUEUE).min(self.usual))
    }

    /// Sets the window so that requests take what they may: with a queue they take as long as the
    /// window is large, without one a larger window costs nothing.
    fn end_round(&mut self, options: &ResyncOptions) {
        let usual = self.round.time / self.round.count.max(1);
        self.usual = usual;
        if self.round.count >= u64::from(FIRST_PROBES) * 2 {
            self.base().limit(usual);
        }
        let limit = self.limit(options);
        let before = self.bytes;
        let mut fitting = scaled(before, limit, usual.max(1)).clamp(before / 4, before * 2);
        if self.is_near() {
            // Most of what it takes does not depend on how large it is.
            fitting = before / 2 + fitting / 2;
        }
        if fitting < before || self.round.was_full {
            self.bytes = fitting.clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
        }
        self.next_round();
    }

    /// How long a request may take, in nanoseconds.
    fn limit(&self, options: &ResyncOptions) -> u64 {
        match self.mood {
            Mood::Idle => {
                let base = self.idle_base.nanoseconds;
                let queue = match options.delay_ms {
                    Some(delay) => u64::from(delay).saturating_mul(1_000_000),
                    None => (base / 2).clamp(*IDLE_QUEUE.start(), *IDLE_QUEUE.end()),
                };
                base.saturating_add(queue)
            }
            Mood::Busy => {
                let base = self.busy_base.nanoseconds;
                base.saturating_add((base / 16 * 5).min(BUSY_QUEUE))
            }
        }
    }

    fn next_round(&mut self) {
        self.round = Round {
            number: self.round.number.wrapping_add(1),
            ..Round::default()
        };
    }
}

/// The speed that is never exceeded, in bytes a second.
fn rate_limit(options: &ResyncOptions) -> Option<u64> {
    let limits = [options.fixed_rate, options.max_rate];
    limits.into_iter().flatten().filter(|rate| *rate > 0).min()
}

/// How much such a rate makes in so many nanoseconds.
fn in_time(rate: u64, nanoseconds: u64) -> u64 {
    scaled(rate, nanoseconds, 1_000_000_000)
}

/// How long so many bytes take at such a rate.
fn time_for(bytes: u64, rate: u64) -> u64 {
    scaled(bytes, 1_000_000_000, rate.max(1))
}

/// `value * by / of` without overflow.
fn scaled(value: u64, by: u64, of: u64) -> u64 {
    let exact = u128::from(value) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// Where a resync begins: little, because nothing is known of the link yet. It doubles with every
/// round that shows no queue.
const FIRST_WINDOW: u64 = 128 << 10;

/// The same while clients are at work: no more than a slow link can bear until it is known better.
const FIRST_BUSY_WINDOW: u64 = 32 << 10;

/// One block is always under way.
const SMALLEST_WINDOW: u64 = BLOCK_SIZE as u64;

/// Enough for 10 Gbit/s with 20 ms from request to disk. Both nodes hold it in memory.
const LARGEST_WINDOW: u64 = 32 << 20;

/// What clients leave to a resync as far as it is to be had, in bytes a second.
const LEAST_RATE: u64 = 4 << 20;

/// How long the queue may be, in nanoseconds, for the sake of a least rate that was written.
const DEMANDED_QUEUE: u64 = 8_000_000;

/// Requests under way at once: many tiny ones cost time rather than bandwidth.
const REQUEST_LIMIT: usize = 512;

/// A request is a quarter of the window. Each costs something, so it is no smaller than this while
/// nobody has to wait for it.
const IDLE_REQUEST: u64 = 16 << 10;

/// Beside clients on a far way a request is no larger than this or a quarter of the window.
const FAR_REQUEST: u64 = 32 << 10;

/// Beside clients on a near way a round has so many requests: each meets some of them by chance.
const NEAR_ROUND: u64 = 16;

/// No request is larger: both nodes hold it in one piece.
const LARGEST_REQUEST: u64 = 256 << 10;

/// How long the queue may be, in nanoseconds, while nobody waits in it: the first write of a client
/// does. It is half as long as the way by itself, within these: a disk with more before it than it
/// needs to be kept busy is slower, and over a long way hiccups are longer as well.
const IDLE_QUEUE: RangeInclusive<u64> = 4_000_000..=20_000_000;

/// How long it may be at most while clients are at work, however slow the way is by itself.
const BUSY_QUEUE: u64 = 2_000_000;

/// So long after the last sign of a client the resync is alone again.
const PEACE_MS: u64 = 1_000;

/// How often a lone block shows what the way costs at first, as below.
const FIRST_PROBE: (u64, u64) = (0, 4);

/// How often a lone block shows what the way costs, in nanoseconds and in times a usual request
/// takes: letting the window run empty costs about one of these.
const IDLE_PROBE: (u64, u64) = (2_000_000_000, 64);
const BUSY_PROBE: (u64, u64) = (100_000_000, 20);

/// The same on a near way, where each request is alone and a small one costs little.
const NEAR_PROBE: (u64, u64) = (0, 8);

/// How far a limited rate may be ahead of itself, in nanoseconds, and how much of it one request
/// takes: timers are no finer than some milliseconds.
const RATE_STEP: u64 = 20_000_000;

mod base;
mod trial;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
