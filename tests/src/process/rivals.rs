//! Writing in the background through both nodes at once, to places of each node's own or to the
//! same ones, with one record of what all clients were told (see [`Shared`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::{Chance, Node, Outcome};
use crate::check::{Asked, Kind, SECTOR, Shared};
use crate::nbd_client::{
    CMD_FLAG_FUA, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, Client, Error,
    Request,
};

/// What the clients of one node do.
#[derive(Clone, Debug)]
pub struct RivalOptions {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Clients.
    pub clients: u64,
    /// Requests in flight per client.
    pub depth: usize,
    /// The longest write in sectors.
    pub longest: u64,
    /// Sectors a request is a multiple of.
    pub unit: u64,
    /// The sectors they write and read.
    pub sectors: Range<u64>,
    /// Pause between two requests of a client.
    pub pause: Duration,
}

/// Clients of one node at work.
#[derive(Debug)]
pub struct Rivals(Crowd<Outcome>);

impl Rivals {
    /// Starts the clients.
    ///
    /// # Panics
    /// When the node cannot be opened.
    #[must_use]
    pub fn start(node: &Node, record: &Shared, options: &RivalOptions) -> Self {
        let export = format!("{}/0", node.resource());
        Self::open(&node.nbd_socket(), &export, record, options)
            .unwrap_or_else(|error| panic!("cannot open {export}: {error}"))
    }

    /// Starts the clients, if the export can be opened.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn open(
        socket: &Path,
        export: &str,
        record: &Shared,
        options: &RivalOptions,
    ) -> Result<Self, Error> {
        let rivals = (0..options.clients).map(|index| {
            Ok(Rival {
                record: record.clone(),
                client: Client::unix(socket, export, ANSWER_LIMIT)?,
                chance: Chance::new(options.seed.wrapping_mul(1000).wrapping_add(index)),
                options: options.clone(),
                in_flight: BTreeMap::new(),
                outcome: Outcome::default(),
            })
        });
        let rivals = rivals.collect::<Result<Vec<_>, Error>>()?;
        let work = |rival: Rival| {
            move |stop: &AtomicBool, answered: &AtomicU64| rival.work(stop, answered)
        };
        Ok(Self(Crowd::start(rivals.into_iter().map(work))))
    }

    /// How many requests have been answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.0.answered()
    }

    /// Waits until so many more requests have been answered.
    ///
    /// # Panics
    /// When a client ends, or hardly anything is answered.
    pub fn let_work(&self, count: u64) {
        self.0.let_work(count);
    }

    /// Whether a client has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Tells the clients to finish what is in flight, and waits for them: how they ended, whatever
    /// that was.
    #[must_use]
    pub fn end(self) -> Outcome {
        self.0.tell_to_stop();
        self.gather()
    }

    /// Tells the clients to finish what is in flight, and waits for them. They must not have
    /// noticed anything.
    ///
    /// # Panics
    /// When they have.
    pub fn stop(self) {
        self.0.tell_to_stop();
        self.join().assert_undisturbed();
    }

    /// Waits until the clients have ended by themselves, because their node is gone.
    ///
    /// # Panics
    /// When one has read what it must not.
    pub fn join(self) -> Outcome {
        let all = self.gather();
        all.assert_true();
        all
    }

    fn gather(self) -> Outcome {
        let mut all = Outcome::default();
        for outcome in self.0.join() {
            all.add(outcome);
        }
        all
    }
}

struct Rival {
    record: Shared,
    client: Client,
    chance: Chance,
    options: RivalOptions,
    in_flight: BTreeMap<u64, Sent>,
    outcome: Outcome,
}

struct Sent {
    asked: Asked,
    fua: bool,
    at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Write(Kind),
    Read,
    Flush,
}

impl Rival {
    fn work(mut self, stop: &AtomicBool, answered: &AtomicU64) -> Outcome {
        if let Err(error) = self.work_until(stop, answered) {
            self.outcome.failures.push(error.to_string());
        }
        for (_, sent) in std::mem::take(&mut self.in_flight) {
            self.record.lost(sent.asked);
        }
        if self.outcome.failures.is_empty() {
            drop(self.client.disconnect());
        }
        self.outcome
    }

    fn work_until(&mut self, stop: &AtomicBool, answered: &AtomicU64) -> Result<(), Error> {
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            if stopping && self.in_flight.is_empty() {
                return Ok(());
            }
            while !stopping && self.in_flight.len() < self.options.depth {
                self.send_one()?;
            }
            self.take_answer(answered)?;
            if !self.options.pause.is_zero() {
                thread::sleep(self.options.pause);
            }
        }
    }

    fn send_one(&mut self) -> Result<(), Error> {
        let (first, count) = self.place();
        let what = match self.chance.below(32) {
            0 => What::Flush,
            1 | 2 => What::Write(Kind::Zero),
            3 => What::Write(Kind::Trim),
            4..=13 => What::Read,
            _ => What::Write(Kind::Data),
        };
        let (asked, payload) = match what {
            What::Write(kind) => self.record.write(first, count, kind),
            What::Read => (self.record.read(first, count), Vec::new()),
            What::Flush => (self.record.flush(), Vec::new()),
        };
        let fua = matches!(what, What::Write(_)) && self.chance.one_in(8);
        let length = u32::try_from(count * SECTOR as u64).unwrap_or(0);
        let command = match what {
            What::Write(Kind::Data) => CMD_WRITE,
            What::Write(Kind::Zero) => CMD_WRITE_ZEROES,
            What::Write(Kind::Trim) => CMD_TRIM,
            What::Read => CMD_READ,
            What::Flush => CMD_FLUSH,
        };
        let is_flush = what == What::Flush;
        let request = Request {
            command,
            flags: if fua { CMD_FLAG_FUA } else { 0 },
            offset: if is_flush { 0 } else { first * SECTOR as u64 },
            length: if is_flush { 0 } else { length },
            payload: &payload,
        };
        let at = Instant::now();
        match self.client.send(request) {
            Ok(cookie) => {
                self.in_flight.insert(cookie, Sent { asked, fua, at });
                Ok(())
            }
            Err(error) => {
                self.record.lost(asked);
                Err(error)
            }
        }
    }

    /// Where a request goes: mostly whole blocks, as file systems write; some single sectors.
    fn place(&mut self) -> (u64, u64) {
        let sectors = self.options.sectors.clone();
        let size = sectors.end - sectors.start;
        let mut count = 1 + self.chance.below(self.options.longest.min(size));
        if count >= BLOCK && !self.chance.one_in(4) {
            count -= count % BLOCK;
        }
        let unit = self.options.unit;
        let count = count.next_multiple_of(unit).min(size);
        let mut first = self.chance.below(size - count + 1);
        first -= first % if count >= BLOCK { BLOCK } else { unit };
        (sectors.start + first, count)
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
            self.record.lost(sent.asked);
            self.outcome.refused += 1;
            return Err(Error::Request(answer.error));
        }
        if let Err(wrong) = self.record.answered(sent.asked, sent.fua, &answer.data) {
            self.outcome.violations.push(wrong);
        }
        self.outcome.answered += 1;
        self.outcome.slowest = self.outcome.slowest.max(sent.at.elapsed());
        answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Sectors of a block, the unit of the dirty bitmap.
const BLOCK: u64 = 8;

/// A request may have to wait for a node that is being given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
