//! The write-intent log: which 4 MiB regions may hold writes that not every replica has, durably.
//!
//! A write may go to the local disk only while its regions are *hot*: marked on disk, and no write
//! that removes the mark under way (C1). Marks that wait together share one metadata write. A mark
//! leaves only when its callers have proven that nothing in the region depends on it any more (B9);
//! then the region is *cooling* until the block without it is durable, and a write that comes in
//! the meantime waits and marks it anew.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use rbd_protocol::ids::{ByteRange, REGION_SIZE};

use crate::bitmap::{BITS_PER_PAGE, WORDS, Words};
use crate::contract::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Wanted; not yet part of any metadata write.
    Wanted,
    /// Part of the metadata write under way for its block.
    Writing,
    /// On disk.
    Hot,
    /// The metadata write under way for its block removes it.
    Cooling {
        /// A write has come for it in the meantime.
        wanted: bool,
    },
}

#[derive(Clone, Debug)]
struct Region {
    mark: Mark,
    in_flight: u32,
    last_used: Time,
}

/// The write-intent log of one volume.
#[derive(Clone, Debug)]
pub(crate) struct IntentLog {
    regions: BTreeMap<u32, Region>,
    region_count: u32,
    /// Blocks whose content on disk must change.
    stale: BTreeSet<u32>,
    /// Blocks being written.
    writing: BTreeSet<u32>,
}

impl IntentLog {
    /// A log for so many bytes of data, with these regions marked on disk.
    pub(crate) fn new(data_bytes: u64, hot: impl Iterator<Item = u32>, now: Time) -> Self {
        let region_count = u32::try_from(data_bytes.div_ceil(REGION_SIZE)).unwrap_or(u32::MAX);
        let regions = hot
            .filter(|region| *region < region_count)
            .map(|region| {
                (
                    region,
                    Region {
                        mark: Mark::Hot,
                        in_flight: 0,
                        last_used: now,
                    },
                )
            })
            .collect();
        Self {
            regions,
            region_count,
            stale: BTreeSet::new(),
            writing: BTreeSet::new(),
        }
    }

    /// The data now has so many bytes. Every region it has more is to be marked, as if a write were
    /// under way in it: until the bitmaps say on disk what becomes of it, nothing else does.
    /// Returns the blocks that must be on disk, as they are wanted from now on, before the larger
    /// size is.
    pub(crate) fn resize(&mut self, before: u64, data_bytes: u64, now: Time) -> Range<u32> {
        let count = u32::try_from(data_bytes.div_ceil(REGION_SIZE)).unwrap_or(u32::MAX);
        self.region_count = count;
        self.regions.retain(|region, _| *region < count);
        let blocks = self.block_count();
        self.stale.retain(|block| *block < blocks);
        let first = u32::try_from(before / REGION_SIZE).unwrap_or(u32::MAX);
        for region in first..count {
            self.want(region, now);
        }
        if first >= count {
            return 0..0;
        }
        self.stale.extend(block_of(first)..blocks);
        block_of(first)..blocks
    }

    /// Every block is to be written, whatever it holds on disk.
    pub(crate) fn rewrite_all(&mut self) {
        self.stale.extend(0..self.block_count());
    }

    /// The block is to be written once more, whatever it holds on disk.
    pub(crate) fn rewrite(&mut self, block: u32) {
        self.stale.insert(block);
    }

    /// How many blocks the log has.
    pub(crate) fn block_count(&self) -> u32 {
        u32::try_from(u64::from(self.region_count).div_ceil(BITS_PER_PAGE)).unwrap_or(u32::MAX)
    }

    /// How many regions are marked, or about to be.
    pub(crate) fn hot_count(&self) -> u32 {
        u32::try_from(self.regions.len()).unwrap_or(u32::MAX)
    }

    /// Whether every region of the range is hot. Asks for the marks that are missing, and for a few
    /// more ahead when the range goes on from a hot region into a cold one, as a stream does, so
    /// that streams wait rarely. One in the midst of a region is no stream: what would be marked
    /// for it in vain would be copied in vain after a crash.
    pub(crate) fn admit(&mut self, range: ByteRange, now: Time) -> bool {
        let (first, last) = regions_of(range);
        let mut all_hot = true;
        for number in first..=last {
            all_hot &= self.want(number, now);
        }
        let enters = first != last || range.offset % REGION_SIZE < STREAM_START;
        if !all_hot && enters && first > 0 && self.is_hot(first - 1) {
            for number in last + 1..=last.saturating_add(MARK_AHEAD) {
                if number < self.region_count {
                    self.want(number, now);
                }
            }
        }
        all_hot
    }

    fn want(&mut self, number: u32, now: Time) -> bool {
        let region = self.regions.entry(number).or_insert_with(|| {
            self.stale.insert(block_of(number));
            Region {
                mark: Mark::Wanted,
                in_flight: 0,
                last_used: now,
            }
        });
        region.last_used = now;
        match &mut region.mark {
            Mark::Hot => true,
            Mark::Wanted | Mark::Writing => false,
            Mark::Cooling { wanted } => {
                *wanted = true;
                false
            }
        }
    }

    fn is_hot(&self, number: u32) -> bool {
        self.regions
            .get(&number)
            .is_some_and(|region| region.mark == Mark::Hot)
    }

    /// A write to the range starts; its regions are hot.
    pub(crate) fn enter(&mut self, range: ByteRange) {
        let (first, last) = regions_of(range);
        for number in first..=last {
            let region = self.regions.get_mut(&number);
            assert!(
                region
                    .as_ref()
                    .is_some_and(|region| region.mark == Mark::Hot),
                "C1: a write to region {number}, which is not durably marked"
            );
            if let Some(region) = region {
                region.in_flight += 1;
            }
        }
    }

    /// A write to the range has ended.
    pub(crate) fn leave(&mut self, range: ByteRange, now: Time) {
        let (first, last) = regions_of(range);
        for number in first..=last {
            if let Some(region) = self.regions.get_mut(&number) {
                region.in_flight = region.in_flight.saturating_sub(1);
                region.last_used = now;
            }
        }
    }

    /// A block that must be written and is not being written, with the marks it is to hold.
    pub(crate) fn next_write(&mut self) -> Option<(u32, Words)> {
        let block = self
            .stale
            .iter()
            .copied()
            .find(|block| !self.writing.contains(block))?;
        self.stale.remove(&block);
        self.writing.insert(block);
        let mut words = [0; WORDS];
        for (number, region) in self.regions.range_mut(numbers_of(block)) {
            match region.mark {
                Mark::Wanted | Mark::Writing => region.mark = Mark::Writing,
                Mark::Hot => {}
                Mark::Cooling { .. } => continue,
            }
            let bit = u64::from(*number) % BITS_PER_PAGE;
            if let Some(word) = usize::try_from(bit / 64)
                .ok()
                .and_then(|at| words.get_mut(at))
            {
                *word |= 1 << (bit % 64);
            }
        }
        Some((block, words))
    }

    /// The block is durable as it was given out.
    pub(crate) fn written(&mut self, block: u32) {
        self.writing.remove(&block);
        let mut gone = Vec::new();
        for (number, region) in self.regions.range_mut(numbers_of(block)) {
            match region.mark {
                Mark::Writing => region.mark = Mark::Hot,
                Mark::Cooling { wanted: true } => {
                    region.mark = Mark::Wanted;
                    self.stale.insert(block);
                }
                Mark::Cooling { wanted: false } => gone.push(*number),
                Mark::Wanted | Mark::Hot => {}
            }
        }
        for number in gone {
            self.regions.remove(&number);
        }
    }

    /// The hot regions that nothing has used since `before` and no write is in: what a checkpoint
    /// may cool. Beyond `limit` marks, also the longest unused.
    pub(crate) fn idle(&self, before: Time, limit: u32) -> Vec<u32> {
        let mut candidates: Vec<(Time, u32)> = self
            .regions
            .iter()
            .filter(|(_, region)| region.mark == Mark::Hot && region.in_flight == 0)
            .map(|(number, region)| (region.last_used, *number))
            .collect();
        let excess = self.hot_count().saturating_sub(limit);
        candidates.sort_unstable();
        (0_u32..)
            .zip(candidates)
            .filter(|(index, (used, _))| *used < before || *index < excess)
            .map(|(_, (_, number))| number)
            .collect()
    }

    /// Starts removing the marks of those regions that have stayed unused since `since`. Their
    /// blocks must not be being written; those that are keep their marks until the next time.
    pub(crate) fn cool(&mut self, numbers: &[u32], since: Time) {
        for number in numbers {
            let block = block_of(*number);
            if self.writing.contains(&block) {
                continue;
            }
            if let Some(region) = self.regions.get_mut(number)
                && region.mark == Mark::Hot
                && region.in_flight == 0
                && region.last_used < since
            {
                region.mark = Mark::Cooling { wanted: false };
                self.stale.insert(block);
            }
        }
    }

    /// Whether any block is being written.
    pub(crate) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether any block is being written or waits to be.
    pub(crate) fn is_busy(&self) -> bool {
        !self.stale.is_empty() || !self.writing.is_empty()
    }
}

/// How many regions ahead of a stream are marked along with the one it needs.
const MARK_AHEAD: u32 = 8;

/// How far from the beginning of a region a stream's first request in it may be: they need not
/// arrive in order.
const STREAM_START: u64 = 256 << 10;

fn regions_of(range: ByteRange) -> (u32, u32) {
    let number = |offset: u64| u32::try_from(offset / REGION_SIZE).unwrap_or(u32::MAX);
    (
        number(range.offset),
        number(range.end().saturating_sub(1).max(range.offset)),
    )
}

fn block_of(region: u32) -> u32 {
    u32::try_from(u64::from(region) / BITS_PER_PAGE).unwrap_or(u32::MAX)
}

fn numbers_of(block: u32) -> Range<u32> {
    let first = u64::from(block) * BITS_PER_PAGE;
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    number(first)..number(first + BITS_PER_PAGE)
}

#[cfg(test)]
mod tests;
