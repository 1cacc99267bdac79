//! The volatile write cache of one disk, in front of the file that is its medium.
//!
//! A sector that was written and not flushed has several values: the one on the medium and each one
//! since. A read sees the newest. A flush puts on the medium what had completed when the flush
//! arrived. A power cut picks one value per sector, and nobody may rely on which. After a flush
//! that failed, nothing of what it should have covered ever gets to the medium by a later flush,
//! though it still can be read: that is what kernels do, and why such a disk cannot be trusted
//! again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::check::SECTOR;
use crate::process::Chance;

/// One disk: its medium, and what has not got there yet.
#[derive(Debug)]
pub(super) struct Cache {
    medium: File,
    bytes: u64,
    sectors: BTreeMap<u64, Vec<Version>>,
    /// What can be flushed, oldest first: number of the write, sector.
    waiting: VecDeque<(u64, u64)>,
    writes: u64,
    limit: usize,
}

/// A value of a sector that is not on the medium.
#[derive(Debug)]
struct Version {
    write: u64,
    content: Box<Sector>,
}

type Sector = [u8; SECTOR];

/// What a power cut spares of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spared {
    Nothing,
    Everything,
    /// Everything up to one write: the disk kept the order.
    Until(u64),
    /// Each value with a probability of so many in a hundred.
    Percent(u64),
}

impl Cache {
    /// An empty cache in front of a file, whose size stays as it is.
    pub(super) fn new(medium: File) -> io::Result<Self> {
        Ok(Self {
            bytes: medium.metadata()?.len(),
            medium,
            sectors: BTreeMap::new(),
            waiting: VecDeque::new(),
            writes: 0,
            limit: LIMIT,
        })
    }

    /// A cache that starts to write back at so many sectors.
    #[cfg(test)]
    pub(super) fn limited(medium: File, sectors: usize) -> io::Result<Self> {
        let mut cache = Self::new(medium)?;
        cache.limit = sectors;
        Ok(cache)
    }

    /// The size of the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sectors whose newest value is not on the medium.
    pub(super) fn dirty(&self) -> usize {
        self.sectors.len()
    }

    /// Everything up to here has completed: what a flush that arrives now is about.
    pub(super) fn now(&self) -> u64 {
        self.writes
    }

    /// What a read returns; shorter at the end of the disk.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let end = offset.saturating_add(length as u64).min(self.bytes);
        let mut bytes = vec![0; size(end.saturating_sub(offset))];
        self.medium.read_exact_at(&mut bytes, offset)?;
        for (sector, versions) in self.sectors.range(sectors_of(offset, end)) {
            if let Some(newest) = versions.last() {
                copy_overlap(&mut bytes, offset, &newest.content[..], sector * BYTES);
            }
        }
        Ok(bytes)
    }

    /// Takes a write, of whole sectors or parts of them. `spares` says of each sector whether it is
    /// written; a write that fails has done something nobody knows.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        mut spares: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let end = offset + data.len() as u64;
        for sector in sectors_of(offset, end) {
            if !spares() {
                continue;
            }
            let mut content = Box::new([0; SECTOR]);
            let start = sector * BYTES;
            if start < offset || start + BYTES > end {
                let old = self.read(start, SECTOR)?;
                content[..old.len()].copy_from_slice(&old);
            }
            copy_overlap(&mut content[..], start, data, offset);
            self.writes += 1;
            let write = self.writes;
            let versions = self.sectors.entry(sector).or_default();
            versions.push(Version { write, content });
            self.waiting.push_back((write, sector));
        }
        // A real cache is not endless either, and may write back whenever it likes.
        match self.waiting.len().checked_sub(self.limit) {
            Some(excess) if excess > 0 => {
                let (up_to, _) = self.waiting[excess - 1];
                self.flush(up_to)
            }
            _ => Ok(()),
        }
    }

    /// Takes a write that is on the medium when it is over, which says nothing of others.
    pub(super) fn write_through(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let before = self.writes;
        self.write(offset, data, || true)?;
        let own = self.waiting.partition_point(|(write, _)| *write <= before);
        let own = self.waiting.split_off(own);
        self.put_on_medium(own)
    }

    /// Puts on the medium what had completed at `up_to`.
    pub(super) fn flush(&mut self, up_to: u64) -> io::Result<()> {
        let covered = self.take_waiting(up_to);
        self.put_on_medium(covered)
    }

    fn put_on_medium(&mut self, writes: VecDeque<(u64, u64)>) -> io::Result<()> {
        let mut settled: BTreeMap<u64, Box<Sector>> = BTreeMap::new();
        for (write, sector) in writes {
            let Some(versions) = self.sectors.get_mut(&sector) else {
                continue;
            };
            if let Some(at) = versions.iter().position(|version| version.write == write) {
                // What is older can no longer come back.
                let newest = versions.drain(..=at).next_back();
                if versions.is_empty() {
                    self.sectors.remove(&sector);
                }
                settled.extend(newest.map(|version| (sector, version.content)));
            }
        }
        self.settle(settled)
    }

    /// A flush failed: what it should have covered is lost to every later one.
    pub(super) fn fail_flush(&mut self, up_to: u64) {
        drop(self.take_waiting(up_to));
    }

    /// The power goes: each sector keeps one of its values.
    pub(super) fn cut(&mut self, chance: &mut Chance) -> io::Result<()> {
        let spared = match chance.below(6) {
            0 => Spared::Nothing,
            1 => Spared::Everything,
            2 => {
                let unflushed = self.waiting.len() as u64;
                Spared::Until(self.writes - chance.below(unflushed + 1))
            }
            _ => Spared::Percent([10, 50, 90][size(chance.below(3))]),
        };
        self.waiting.clear();
        let mut settled = BTreeMap::new();
        for (sector, versions) in std::mem::take(&mut self.sectors) {
            let survives = |version: &Version| match spared {
                Spared::Nothing => false,
                Spared::Everything => true,
                Spared::Until(write) => version.write <= write,
                Spared::Percent(percent) => chance.below(100) < percent,
            };
            if let Some(version) = versions.into_iter().rfind(survives) {
                settled.insert(sector, version.content);
            }
        }
        self.settle(settled)
    }

    fn take_waiting(&mut self, up_to: u64) -> VecDeque<(u64, u64)> {
        let count = self.waiting.partition_point(|(write, _)| *write <= up_to);
        self.waiting.drain(..count).collect()
    }

    /// Writes to the medium, neighbours together.
    fn settle(&self, sectors: BTreeMap<u64, Box<Sector>>) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for (sector, content) in sectors {
            let offset = sector * BYTES;
            if offset != start + run.len() as u64 {
                self.medium.write_all_at(&run, start)?;
                run.clear();
                start = offset;
            }
            let room = size(self.bytes - offset).min(SECTOR);
            run.extend(&content[..room]);
        }
        self.medium.write_all_at(&run, start)
    }
}

/// The sectors a range of bytes touches.
fn sectors_of(offset: u64, end: u64) -> Range<u64> {
    offset / BYTES..end.max(offset).div_ceil(BYTES)
}

/// Copies what two pieces have in common; each begins at its own offset.
fn copy_overlap(to: &mut [u8], to_offset: u64, from: &[u8], from_offset: u64) {
    let start = to_offset.max(from_offset);
    let end = (to_offset + to.len() as u64).min(from_offset + from.len() as u64);
    if start < end {
        let to = &mut to[size(start - to_offset)..size(end - to_offset)];
        to.copy_from_slice(&from[size(start - from_offset)..size(end - from_offset)]);
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("test disks are small")
}

const BYTES: u64 = SECTOR as u64;

/// 64 MiB that are not flushed.
const LIMIT: usize = (64 << 20) / SECTOR;
