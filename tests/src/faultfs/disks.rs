//! The disks of one node: they share a power supply, and whoever may make them fail.
//!
//! Requests come in, each is answered once: at once, later, or with an error. What is kept back has
//! not been done yet, so that a power cut finds it under way.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::cache::Cache;
use super::fault::{Effect, Fault, FaultId, Faults, On, Target};
use crate::check::SECTOR;
use crate::process::Chance;

/// The disks of a node; clones are the same disks.
#[derive(Clone, Debug)]
pub struct Disks(Arc<Shared>);

/// What a disk is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Read {
        offset: u64,
        length: usize,
    },
    Write {
        offset: u64,
        data: Vec<u8>,
        /// On the medium when it is answered.
        durable: bool,
    },
    Zero {
        offset: u64,
        length: u64,
    },
    Flush,
}

/// What a disk answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Data(Vec<u8>),
    Done(usize),
}

/// Where the answer goes.
pub(super) type Reply = Box<dyn FnOnce(Result<Answer, Errno>) + Send>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something new to wait for.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    disks: Vec<Disk>,
    faults: Faults,
    is_powered: bool,
    kept_back: Vec<KeptBack>,
    chance: Chance,
    latency: Duration,
    is_over: bool,
}

#[derive(Debug)]
struct Disk {
    name: String,
    cache: Cache,
}

/// A request on its way.
struct KeptBack {
    disk: usize,
    request: Request,
    /// What had completed when it arrived.
    arrived: u64,
    /// When it is done; not before it is released if there is no time.
    due: Option<Instant>,
    reply: Reply,
}

impl Disks {
    /// Disks with these names, on these media.
    ///
    /// # Errors
    /// When a medium has no size.
    pub(super) fn new(media: Vec<(String, File)>) -> io::Result<Self> {
        let disks: io::Result<Vec<Disk>> = media
            .into_iter()
            .map(|(name, medium)| Cache::new(medium).map(|cache| Disk { name, cache }))
            .collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                disks: disks?,
                faults: Faults::default(),
                is_powered: true,
                kept_back: Vec::new(),
                chance: Chance::new(0),
                latency: Duration::ZERO,
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let clock = Arc::clone(&shared);
        thread::Builder::new()
            .name("faultfs-clock".to_owned())
            .spawn(move || clock.do_what_is_due())?;
        Ok(Self(shared))
    }

    /// Makes something go wrong from now on.
    pub fn set(&self, fault: Fault) -> FaultId {
        self.0.lock().faults.set(fault)
    }

    /// Nothing goes wrong any more; what hangs goes on hanging.
    pub fn clear(&self) {
        self.0.lock().faults.clear();
    }

    /// How often a fault has happened.
    #[must_use]
    pub fn hits(&self, fault: FaultId) -> u64 {
        self.0.lock().faults.hits(fault)
    }

    /// How often any fault has happened.
    #[must_use]
    pub fn all_hits(&self) -> u64 {
        self.0.lock().faults.total()
    }

    /// From now on every write and flush takes a while, at most so long: then a power cut finds
    /// some of them under way.
    pub fn set_latency(&self, longest: Duration) {
        self.0.lock().latency = longest;
    }

    /// What hangs is done now, late as it is, and nothing hangs any more.
    pub fn release(&self) {
        let mut state = self.0.lock();
        state.faults.clear_hangs();
        let now = Instant::now();
        for kept in &mut state.kept_back {
            kept.due.get_or_insert(now);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// The power goes. Of what was not flushed, chance decides what survives; until
    /// [`power_on`](Self::power_on) every request fails.
    ///
    /// # Panics
    /// When the media cannot be written to.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.0.lock();
        state.is_powered = false;
        state.faults.clear();
        let mut chance = Chance::new(seed);
        let under_way = std::mem::take(&mut state.kept_back);
        for kept in &under_way {
            let disk = &mut state.disks[kept.disk];
            if let Some((offset, data)) = kept.request.new_content() {
                let partly = disk.cache.write(offset, &data, || chance.one_in(2));
                partly.expect("the medium can be written");
            }
        }
        for disk in &mut state.disks {
            let cut = disk.cache.cut(&mut chance);
            cut.expect("the medium can be written");
        }
        drop(state);
        for kept in under_way {
            (kept.reply)(Err(Errno::IO));
        }
    }

    /// The power is back.
    pub fn power_on(&self) {
        self.0.lock().is_powered = true;
    }

    /// Whether there is power.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.0.lock().is_powered
    }

    /// Requests that have not been answered.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.0.lock().kept_back.len()
    }

    /// Sectors whose newest content is not on the medium.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        let state = self.0.lock();
        state.disks.iter().map(|disk| disk.cache.dirty()).sum()
    }

    /// Names and sizes.
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        let state = self.0.lock();
        let entry = |disk: &Disk| (disk.name.clone(), disk.cache.bytes());
        state.disks.iter().map(entry).collect()
    }

    /// Takes a request to the disk with this number.
    pub(super) fn submit(&self, disk: usize, request: Request, reply: Reply) {
        let mut state = self.0.lock();
        if !state.is_powered || state.is_over {
            drop(state);
            return reply(Err(Errno::IO));
        }
        let effect = state.meet(disk, &request);
        let arrived = state.disks[disk].cache.now();
        let due = match effect {
            Some(Effect::Hang) => None,
            Some(Effect::Delay(time)) => Some(Instant::now() + time),
            Some(Effect::Error(_) | Effect::Short | Effect::FlipBit) | None => {
                let takes = state.takes(&request);
                if effect.is_some() || takes.is_zero() {
                    let answer = state.perform(disk, &request, arrived, effect);
                    drop(state);
                    return reply(answer);
                }
                Some(Instant::now() + takes)
            }
        };
        state.kept_back.push(KeptBack {
            disk,
            request,
            arrived,
            due,
            reply,
        });
        drop(state);
        self.0.changed.notify_all();
    }

    /// Nothing is served any more, and nobody waits in vain.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        let kept_back = std::mem::take(&mut state.kept_back);
        drop(state);
        self.0.changed.notify_all();
        for kept in kept_back {
            (kept.reply)(Err(Errno::IO));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn do_what_is_due(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            let is_due = |kept: &KeptBack| kept.due.is_some_and(|due| due <= now);
            if let Some(at) = state.kept_back.iter().position(is_due) {
                let kept = state.kept_back.remove(at);
                let answer = state.perform(kept.disk, &kept.request, kept.arrived, None);
                drop(state);
                (kept.reply)(answer);
                state = self.lock();
                continue;
            }
            let next = state.kept_back.iter().filter_map(|kept| kept.due).min();
            let wait = next.map_or(LONG, |due| due - now);
            state = self
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    fn meet(&mut self, disk: usize, request: &Request) -> Option<Effect> {
        self.faults.meet(&Target {
            file: &self.disks[disk].name,
            on: request.kind(),
            range: request.range(),
            can_be_short: request.half().is_some(),
        })
    }

    fn takes(&mut self, request: &Request) -> Duration {
        let longest = u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX);
        if longest == 0 || request.kind() == On::Read {
            return Duration::ZERO;
        }
        Duration::from_micros(self.chance.below(longest))
    }

    fn perform(
        &mut self,
        disk: usize,
        request: &Request,
        arrived: u64,
        effect: Option<Effect>,
    ) -> Result<Answer, Errno> {
        let Self { disks, chance, .. } = self;
        let cache = &mut disks[disk].cache;
        if request.range().end > cache.bytes() && request.kind() == On::Write {
            return Err(Errno::NOSPC);
        }
        let done = |result: io::Result<()>, count: usize| {
            result
                .map(|()| Answer::Done(count))
                .map_err(|error| errno(&error))
        };
        let half = request.half().filter(|_| effect == Some(Effect::Short));
        match (request, effect) {
            (Request::Flush, Some(Effect::Error(error))) => {
                cache.fail_flush(arrived);
                Err(error)
            }
            (_, Some(Effect::Error(error))) => {
                if let Some((offset, data)) = request.new_content() {
                    let partly = cache.write(offset, &data, || chance.one_in(2));
                    partly.map_err(|error| errno(&error))?;
                }
                Err(error)
            }
            (Request::Read { offset, length }, _) => {
                let length = half.unwrap_or(*length);
                let mut data = cache.read(*offset, length).map_err(|error| errno(&error))?;
                if effect == Some(Effect::FlipBit) && !data.is_empty() {
                    let bit = chance.below(data.len() as u64 * 8);
                    data[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
                }
                Ok(Answer::Data(data))
            }
            (
                Request::Write {
                    offset,
                    data,
                    durable,
                },
                _,
            ) => {
                let data = &data[..half.unwrap_or(data.len())];
                let result = if *durable {
                    cache.write_through(*offset, data)
                } else {
                    cache.write(*offset, data, || true)
                };
                done(result, data.len())
            }
            (Request::Zero { offset, length }, _) => {
                let zeroes = vec![0; usize::try_from(*length).unwrap_or(0)];
                done(cache.write(*offset, &zeroes, || true), 0)
            }
            (Request::Flush, _) => done(cache.flush(arrived), 0),
        }
    }
}

impl Request {
    fn kind(&self) -> On {
        match self {
            Self::Read { .. } => On::Read,
            Self::Write { .. } | Self::Zero { .. } => On::Write,
            Self::Flush => On::Flush,
        }
    }

    fn range(&self) -> Range<u64> {
        let (offset, length) = match self {
            Self::Read { offset, length } => (*offset, *length as u64),
            Self::Write { offset, data, .. } => (*offset, data.len() as u64),
            Self::Zero { offset, length } => (*offset, *length),
            Self::Flush => (0, 0),
        };
        offset..offset.saturating_add(length)
    }

    /// How much is half of it, where it can be done by halves.
    fn half(&self) -> Option<usize> {
        let length = match self {
            Self::Read { length, .. } => *length,
            Self::Write { data, .. } => data.len(),
            Self::Zero { .. } | Self::Flush => 0,
        };
        Some(length / 2 / SECTOR * SECTOR).filter(|half| *half > 0)
    }

    /// What the disk holds after it, and from where on.
    fn new_content(&self) -> Option<(u64, Vec<u8>)> {
        match self {
            Self::Write { offset, data, .. } => Some((*offset, data.clone())),
            Self::Zero { offset, length } => {
                Some((*offset, vec![0; usize::try_from(*length).unwrap_or(0)]))
            }
            Self::Read { .. } | Self::Flush => None,
        }
    }
}

impl std::fmt::Debug for KeptBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptBack")
            .field("disk", &self.disk)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Nothing is due: whatever comes wakes the thread.
const LONG: Duration = Duration::from_secs(3600);
