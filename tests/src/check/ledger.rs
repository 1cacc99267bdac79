//! Which contents every sector may have, given what the clients were told.
//!
//! Each write of a sector gets the next version. A sector keeps a range of versions that may be
//! seen: issuing a write raises the upper end, its answer raises the lower end, and so does seeing
//! a version (a value once read never reverts). At most one write of a sector is outstanding at a
//! time, so a pair of numbers is enough. What a flush has covered may not even be lost when every
//! disk loses its power. The ledger lives outside the daemons and survives them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use super::history::Recorder;
use super::ledger_log::Log;
use super::stamp::{Found, SECTOR, fill, look_at};

/// All sectors of a volume, in shards that can be written to side by side.
#[derive(Debug)]
pub struct Ledger {
    run: u64,
    shards: Vec<Shard>,
}

/// A run of sectors that belongs to one writer.
#[derive(Debug)]
pub struct Shard {
    run: u64,
    sectors: Range<u64>,
    registers: Vec<Register>,
    /// Versions that are zeroes, of sectors that have such.
    zeroes: BTreeMap<u64, Vec<u32>>,
    /// Answered writes that no flush has covered yet: sector and version, in order.
    unflushed: VecDeque<(u64, u32)>,
    /// How many answered writes were taken out of `unflushed`.
    covered: u64,
    log: Option<Log>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Register {
    /// The oldest version that may be seen.
    lo: u32,
    /// The oldest version that may be seen after all disks have lost their power.
    stable: u32,
    /// Versions up to this one, other than `lo`, are known not to have happened.
    settled: u32,
    /// The newest version.
    hi: u32,
}

impl Register {
    fn allows(self, version: u32) -> bool {
        version == self.lo || (version > self.lo.max(self.settled) && version <= self.hi)
    }
}

/// What a request does to its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// New content.
    Data,
    /// Zeroes.
    Zero,
    /// The content becomes zeroes or stays.
    Trim,
}

impl Ledger {
    /// A volume that holds version 0 everywhere (see [`Ledger::initial_image`]).
    #[must_use]
    pub fn new(run: u64, sectors: u64, writers: u64) -> Self {
        // Whole blocks: some disks take nothing smaller.
        let step = sectors.div_ceil(writers).next_multiple_of(8);
        let shards = (0..writers)
            .map(|writer| {
                let sectors = (writer * step).min(sectors)..((writer + 1) * step).min(sectors);
                let count = usize::try_from(sectors.end - sectors.start).expect("a small volume");
                Shard {
                    run,
                    sectors,
                    registers: vec![Register::default(); count],
                    zeroes: BTreeMap::new(),
                    unflushed: VecDeque::new(),
                    covered: 0,
                    log: None,
                }
            })
            .collect();
        Self { run, shards }
    }

    /// From now on writes down what is asked and answered.
    pub fn record(&mut self, recorder: &Recorder) {
        for shard in &mut self.shards {
            shard.log = Some(Log::new(recorder.clone()));
        }
    }

    /// The shards.
    pub fn shards_mut(&mut self) -> &mut [Shard] {
        &mut self.shards
    }

    /// Gives the shards away, to come back with [`Ledger::put_back`].
    pub fn take_shards(&mut self) -> Vec<Shard> {
        std::mem::take(&mut self.shards)
    }

    /// Takes the shards back.
    pub fn put_back(&mut self, mut shards: Vec<Shard>) {
        shards.sort_by_key(|shard| shard.sectors.start);
        self.shards = shards;
    }

    /// Number of sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.shards.last().map_or(0, |shard| shard.sectors.end)
    }

    /// What a disk of so many bytes holds before the first write.
    #[must_use]
    pub fn initial_image(run: u64, bytes: u64) -> Vec<u8> {
        let mut image = vec![0; usize::try_from(bytes).expect("a small volume")];
        for (sector, out) in (0..).zip(image.chunks_exact_mut(SECTOR)) {
            fill(run, sector, 0, out);
        }
        image
    }

    /// Reads the whole volume through `read(offset, length)`, checks it, and takes what it holds
    /// for what it holds: no write may be outstanding.
    ///
    /// # Errors
    /// The first sector that is wrong, or why it could not be read.
    pub fn verify(
        &mut self,
        mut read: impl FnMut(u64, u32) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        for shard in &mut self.shards {
            let mut sector = shard.sectors.start;
            while sector < shard.sectors.end {
                let count = PIECE.min(shard.sectors.end - sector);
                let length = u32::try_from(count).unwrap_or(0) * SECTOR_BYTES;
                let bytes = read(sector * u64::from(SECTOR_BYTES), length)?;
                shard.settle(sector, &bytes)?;
                sector += count;
            }
        }
        Ok(())
    }

    /// Checks the beginning of a disk's file, as [`Ledger::verify`] does.
    ///
    /// # Errors
    /// The first sector that is wrong, or why it could not be read.
    pub fn verify_file(&mut self, path: &Path) -> Result<(), String> {
        let mut file = File::open(path).map_err(|error| cannot_read(path, &error))?;
        self.verify(|_, length| {
            let mut bytes = vec![0; length as usize];
            file.read_exact(&mut bytes)
                .map_err(|error| cannot_read(path, &error))?;
            Ok(bytes)
        })
        .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// All disks that had the newest data have lost their power: what was answered and not flushed
    /// may be gone.
    pub fn power_lost(&mut self) {
        for shard in &mut self.shards {
            shard.power_lost();
        }
    }

    /// Names this use of a disk; stamps of another are foreign.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }
}

impl Shard {
    /// Its sectors.
    #[must_use]
    pub fn sectors(&self) -> Range<u64> {
        self.sectors.clone()
    }

    /// Notes that a request is about to be sent, and returns its payload (empty unless data).
    pub fn issue(&mut self, first: u64, count: u64, kind: Kind) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut versions = Vec::new();
        for sector in first..first + count {
            let run = self.run;
            let register = self.register(sector);
            register.hi += 1;
            let version = register.hi;
            versions.push(version);
            if kind == Kind::Data {
                let start = payload.len();
                payload.resize(start + SECTOR, 0);
                fill(run, sector, version, &mut payload[start..]);
            } else {
                self.zeroes.entry(sector).or_default().push(version);
            }
        }
        if let Some(log) = &mut self.log {
            log.issued(first, &versions, kind);
        }
        payload
    }

    /// Notes that the request on these sectors was answered without an error.
    pub fn acknowledge(&mut self, first: u64, count: u64, kind: Kind) {
        if let Some(log) = &mut self.log {
            log.acknowledged(first);
        }
        if kind == Kind::Trim {
            return;
        }
        for sector in first..first + count {
            let register = self.register(sector);
            register.lo = register.hi;
            let version = register.hi;
            self.unflushed.push_back((sector, version));
        }
    }

    /// As [`acknowledge`](Self::acknowledge), of a request that had to be durable.
    pub fn acknowledge_durable(&mut self, first: u64, count: u64, kind: Kind) {
        self.acknowledge(first, count, kind);
        if kind == Kind::Trim {
            return;
        }
        for sector in first..first + count {
            let register = self.register(sector);
            register.stable = register.lo;
            self.forget_old_zeroes(sector);
        }
    }

    /// What a flush that is sent now will cover, for [`flushed`](Self::flushed).
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.covered + self.unflushed.len() as u64
    }

    /// Notes that a flush was answered without an error.
    pub fn flushed(&mut self, covered: u64) {
        while self.covered < covered
            && let Some((sector, version)) = self.unflushed.pop_front()
        {
            self.covered += 1;
            let register = self.register(sector);
            register.stable = register.stable.max(version);
            self.forget_old_zeroes(sector);
        }
    }

    fn power_lost(&mut self) {
        for register in &mut self.registers {
            register.lo = register.stable;
            register.settled = 0;
        }
        self.covered += self.unflushed.len() as u64;
        self.unflushed.clear();
    }

    /// Checks content that was read while writes of these sectors may be outstanding.
    ///
    /// # Errors
    /// The first sector that is wrong.
    pub fn check(&mut self, first: u64, bytes: &[u8]) -> Result<(), String> {
        self.judge(first, bytes, false)
    }

    /// Checks content that was read while no write was outstanding: what is not seen now will
    /// never be.
    ///
    /// # Errors
    /// The first sector that is wrong.
    pub fn settle(&mut self, first: u64, bytes: &[u8]) -> Result<(), String> {
        self.judge(first, bytes, true)
    }

    fn judge(&mut self, first: u64, bytes: &[u8], settles: bool) -> Result<(), String> {
        if let Some(log) = &self.log {
            log.seen(self.run, first, bytes);
        }
        for (sector, content) in (first..).zip(bytes.chunks_exact(SECTOR)) {
            let run = self.run;
            let allowed = *self.register(sector);
            let wrong = |found: String| Err(format!("sector {sector} holds {found}; {allowed}"));
            let is_zeroes = |version: &u32| {
                let zeroes = self.zeroes.get(&sector);
                zeroes.is_some_and(|zeroes| zeroes.contains(version))
            };
            let seen = match look_at(run, sector, content) {
                Found::Version(version) if !allowed.allows(version) || is_zeroes(&version) => {
                    return wrong(format!("version {version}"));
                }
                Found::Version(version) => version,
                Found::Zero => match (allowed.lo..=allowed.hi)
                    .rev()
                    .find(|version| allowed.allows(*version) && is_zeroes(version))
                {
                    Some(version) => version,
                    None => return wrong("zeroes".to_owned()),
                },
                Found::Wrong(what) => return wrong(what),
            };
            let register = self.register(sector);
            // Of several zeroed versions it is not known which this is; the oldest is safe.
            if content.iter().any(|byte| *byte != 0) {
                register.lo = seen;
            }
            if settles {
                register.lo = seen;
                register.settled = register.hi;
            }
        }
        Ok(())
    }

    fn register(&mut self, sector: u64) -> &mut Register {
        let index = usize::try_from(sector - self.sectors.start).expect("a small volume");
        &mut self.registers[index]
    }

    fn forget_old_zeroes(&mut self, sector: u64) {
        let stable = self.register(sector).stable;
        if let Some(zeroes) = self.zeroes.get_mut(&sector) {
            zeroes.retain(|version| *version >= stable);
            if zeroes.is_empty() {
                self.zeroes.remove(&sector);
            }
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it may hold version {}", self.lo)?;
        match self.lo.max(self.settled) + 1 {
            first if first <= self.hi => write!(f, " or {first} to {}", self.hi),
            _ => Ok(()),
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// Sectors read at a time.
const PIECE: u64 = 1024;
const SECTOR_BYTES: u32 = 512;
