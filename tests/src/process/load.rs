//! Writing in the background, with a record outside the daemons of what was promised.
//!
//! Several clients, each with several requests in flight, each on sectors of its own: data with
//! and without FUA, zeroes, trims, flushes, and reads that are checked at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Chance;
use super::crowd::Crowd;
use crate::check::{Kind, Ledger, SECTOR, Shard};
use crate::nbd_client::{
    CMD_FLAG_FUA, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, Client, Error,
    Request,
};

/// What the writers do.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Requests in flight per writer.
    pub depth: usize,
    /// The longest write in sectors.
    pub longest: u64,
    /// Pause between two requests of a writer.
    pub pause: Duration,
    /// Write only to this share of the volume, in percent.
    pub share: u64,
    /// Sectors a request is a multiple of.
    pub unit: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            depth: 8,
            longest: 64,
            pause: Duration::ZERO,
            share: 100,
            unit: 1,
        }
    }
}

/// Writers at work.
#[derive(Debug)]
pub struct Load(Crowd<Ended>);

/// How the writers ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why those ended that ended by themselves.
    pub failures: Vec<String>,
    /// A read that brought what it must not, if there was one.
    pub violations: Vec<String>,
    /// Requests answered without an error.
    pub answered: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// How long the slowest answered request took.
    pub slowest: Duration,
}

#[derive(Debug)]
struct Ended {
    shard: Shard,
    outcome: Outcome,
}

impl Load {
    /// Starts one writer per shard.
    ///
    /// # Panics
    /// When the export cannot be opened.
    #[must_use]
    pub fn start(shards: Vec<Shard>, socket: &Path, export: &str, options: LoadOptions) -> Self {
        let writers = shards.into_iter().zip(0..).map(|(shard, index)| {
            let client = Client::unix(socket, export, ANSWER_LIMIT)
                .unwrap_or_else(|error| panic!("the load cannot open {export}: {error}"));
            let writer = Writer {
                shard,
                client,
                chance: Chance::new(options.seed.wrapping_mul(1000).wrapping_add(index)),
                options,
                in_flight: BTreeMap::new(),
                outcome: Outcome::default(),
            };
            move |stop: &AtomicBool, answered: &AtomicU64| writer.work(stop, answered)
        });
        Self(Crowd::start(writers))
    }

    /// How many requests have been answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.0.answered()
    }

    /// Waits until so many more requests have been answered.
    ///
    /// # Panics
    /// When the writers end or hardly anything is answered.
    pub fn let_work(&self, count: u64) {
        self.0.let_work(count);
    }

    /// Whether a writer has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Tells the writers to finish what is in flight, and waits for them.
    #[must_use]
    pub fn stop(self, ledger: &mut Ledger) -> Outcome {
        self.0.tell_to_stop();
        self.join(ledger)
    }

    /// Waits until the writers have ended by themselves, because their server is gone.
    ///
    /// # Panics
    /// When a read brought what it must not.
    #[must_use]
    pub fn join(self, ledger: &mut Ledger) -> Outcome {
        let mut outcome = Outcome::default();
        let mut shards = Vec::new();
        for ended in self.0.join() {
            shards.push(ended.shard);
            outcome.add(ended.outcome);
        }
        ledger.put_back(shards);
        outcome.assert_true();
        outcome
    }
}

impl Outcome {
    /// What another client has met as well.
    pub(super) fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        self.violations.extend(other.violations);
        self.answered += other.answered;
        self.refused += other.refused;
        self.slowest = self.slowest.max(other.slowest);
    }

    /// No read brought what it must not.
    pub(super) fn assert_true(&self) {
        let violations = &self.violations;
        assert!(
            violations.is_empty(),
            "read what must not be: {violations:?}"
        );
    }

    /// The clients must not have noticed anything.
    ///
    /// # Panics
    /// When they have.
    pub fn assert_undisturbed(&self) {
        assert!(
            self.failures.is_empty() && self.refused == 0,
            "the clients were disturbed: {self:?}"
        );
    }
}

struct Writer {
    shard: Shard,
    client: Client,
    chance: Chance,
    options: LoadOptions,
    in_flight: BTreeMap<u64, Sent>,
    outcome: Outcome,
}

struct Sent {
    first: u64,
    count: u64,
    what: What,
    fua: bool,
    /// What a flush will cover.
    answered: u64,
    at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Write(Kind),
    Read,
    Flush,
}

impl Writer {
    fn work(mut self, stop: &AtomicBool, answered: &AtomicU64) -> Ended {
        if let Err(error) = self.work_until(stop, answered) {
            self.outcome.failures.push(error.to_string());
        }
        let Self {
            shard,
            client,
            outcome,
            ..
        } = self;
        if outcome.failures.is_empty() {
            drop(client.disconnect());
        }
        Ended { shard, outcome }
    }

    fn work_until(&mut self, stop: &AtomicBool, answered: &AtomicU64) -> Result<(), Error> {
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            if stopping && self.in_flight.is_empty() {
                return Ok(());
            }
            while !stopping && self.in_flight.len() < self.options.depth {
                if !self.send_one()? {
                    break;
                }
            }
            self.take_answer(answered)?;
            if !self.options.pause.is_zero() {
                thread::sleep(self.options.pause);
            }
        }
    }

    /// Sends a request if the place chance chose is free.
    fn send_one(&mut self) -> Result<bool, Error> {
        let sectors = self.shard.sectors();
        let unit = self.options.unit;
        let start = sectors.start.next_multiple_of(unit);
        let size = ((sectors.end - start) * self.options.share / 100).max(unit) / unit * unit;
        let longest = self.options.longest.min(size);
        let mut count = 1 + self.chance.below(longest);
        // Mostly whole blocks, as file systems write; some single sectors.
        if count >= BLOCK && !self.chance.one_in(4) {
            count -= count % BLOCK;
        }
        let count = count.next_multiple_of(unit);
        let mut first = self.chance.below(size - count + 1);
        if count >= BLOCK {
            first -= first % BLOCK;
        }
        let first = start + first / unit * unit;
        let what = match self.chance.below(32) {
            0 => What::Flush,
            1 | 2 => What::Write(Kind::Zero),
            3 => What::Write(Kind::Trim),
            4..=9 => What::Read,
            _ => What::Write(Kind::Data),
        };
        let collides = |sent: &Sent| sent.first < first + count && first < sent.first + sent.count;
        if what != What::Flush && self.in_flight.values().any(collides) {
            return Ok(self.in_flight.is_empty());
        }
        let payload = match what {
            What::Write(kind) => self.shard.issue(first, count, kind),
            What::Read | What::Flush => Vec::new(),
        };
        let is_write = matches!(what, What::Write(_));
        let fua = is_write && self.chance.one_in(8);
        let flags = if fua { CMD_FLAG_FUA } else { 0 };
        let length = u32::try_from(count * SECTOR as u64).unwrap_or(0);
        let (command, offset, length) = match what {
            What::Write(Kind::Data) => (CMD_WRITE, first * SECTOR as u64, length),
            What::Write(Kind::Zero) => (CMD_WRITE_ZEROES, first * SECTOR as u64, length),
            What::Write(Kind::Trim) => (CMD_TRIM, first * SECTOR as u64, length),
            What::Read => (CMD_READ, first * SECTOR as u64, length),
            What::Flush => (CMD_FLUSH, 0, 0),
        };
        let cookie = self.client.send(Request {
            command,
            flags,
            offset,
            length,
            payload: &payload,
        })?;
        let count = if what == What::Flush { 0 } else { count };
        let at = Instant::now();
        self.in_flight.insert(
            cookie,
            Sent {
                first,
                count,
                what,
                fua,
                answered: self.shard.answered(),
                at,
            },
        );
        Ok(true)
    }

    fn take_answer(&mut self, answered: &AtomicU64) -> Result<(), Error> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let answer = self.client.answer()?;
        let Some(sent) = self.in_flight.remove(&answer.cookie) else {
            return Err(Error::Protocol("an answer to nothing".to_owned()));
        };
        if answer.error != 0 {
            // It may have happened or not, as if it had never been answered.
            self.outcome.refused += 1;
            return Err(Error::Request(answer.error));
        }
        match sent.what {
            What::Write(kind) if sent.fua => {
                self.shard.acknowledge_durable(sent.first, sent.count, kind);
            }
            What::Write(kind) => self.shard.acknowledge(sent.first, sent.count, kind),
            What::Read => {
                if let Err(wrong) = self.shard.check(sent.first, &answer.data) {
                    self.outcome.violations.push(wrong);
                }
            }
            What::Flush => self.shard.flushed(sent.answered),
        }
        self.outcome.answered += 1;
        self.outcome.slowest = self.outcome.slowest.max(sent.at.elapsed());
        answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Sectors of a block, the unit of the dirty bitmap.
const BLOCK: u64 = 8;

/// A request may have to wait for a peer that is being given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
