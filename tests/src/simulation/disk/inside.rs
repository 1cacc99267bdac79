//! Metadata at the end of the disk itself: where it is, where it has been, and whose the sectors
//! are.
//!
//! A disk that grows leaves its metadata behind; it is written anew at the new end, and the volume
//! grows over where it was. A client that writes there writes the worst it can: what looks like a
//! superblock of this very volume, newer than any.

use std::collections::{BTreeMap, BTreeSet};

use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::Superblock;

use super::order::{SUPERBLOCK, kind_of};
use super::{BLOCK, Disk, MetaBlock, SECTOR};
use crate::check::garbage;
use crate::simulation::random::Random;

/// What is known of the metadata on a disk.
#[derive(Debug)]
pub(super) struct Inside {
    /// Where an area ends or was about to.
    ends: BTreeSet<u64>,
    /// The superblocks that are whole, by where they are.
    whole: BTreeMap<u64, Whole>,
    /// The last superblock that was whole there, whatever lies there now.
    left: BTreeMap<u64, Box<MetaBlock>>,
    live: Whole,
    /// What is on the medium where a process that was killed has left something newer, which is in
    /// a cache only: `None` if nothing was ever written there.
    cached: BTreeMap<u64, Option<Box<MetaBlock>>>,
    /// A move was begun to where the disk ended then, and given up.
    has_remains: bool,
    /// Whose disk it is: what metadata leaves is different on each.
    node: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Whole {
    sequence: u64,
    device_bytes: u64,
    data_bytes: u64,
}

impl Inside {
    /// Metadata is about to be written at the end of a disk of this size.
    pub(super) fn new(node: u8, device_bytes: u64) -> Self {
        Self {
            node,
            ends: BTreeSet::from([end_of(device_bytes)]),
            whole: BTreeMap::new(),
            left: BTreeMap::new(),
            cached: BTreeMap::new(),
            has_remains: false,
            live: Whole {
                device_bytes,
                ..Whole::default()
            },
        }
    }

    /// The end of the area in which something is written.
    pub(super) fn place(&self, offset: u64) -> u64 {
        let mut beyond = self.ends.range(offset + 1..);
        beyond.next().copied().unwrap_or(u64::MAX)
    }

    /// A block is about to be written. What lies beyond all areas is the superblock of a new one.
    ///
    /// # Errors
    /// When the block is one of the volume's, or not on the disk.
    pub(super) fn submitted(&mut self, offset: u64, size_bytes: u64) -> Result<(), String> {
        if self.ends.last().is_none_or(|last| *last <= offset) {
            let live = end_of(self.live.device_bytes);
            self.ends.retain(|end| *end == live);
            self.ends.insert(offset + BLOCK);
        }
        if offset < self.live.data_bytes || offset + BLOCK > size_bytes {
            return Err(format!(
                "C2: metadata is written at {offset} of a disk with {size_bytes} bytes, of which \
                 {} are the volume's",
                self.live.data_bytes
            ));
        }
        Ok(())
    }

    /// A block is there now.
    pub(super) fn written(&mut self, offset: u64, block: &MetaBlock) {
        if kind_of(block) != SUPERBLOCK {
            self.whole.remove(&offset);
            return;
        }
        let Ok(superblock) = Superblock::decode(block) else {
            return;
        };
        let found = Whole {
            sequence: superblock.sequence,
            device_bytes: superblock.device_bytes,
            data_bytes: superblock.data_bytes,
        };
        self.whole.insert(offset, found);
        self.left.insert(offset, Box::new(*block));
        self.find_live();
    }

    /// The newest metadata counts: where it was if one copy is whole, elsewhere if both are.
    fn find_live(&mut self) {
        let live = end_of(self.live.device_bytes);
        let found = self.ends.iter().filter_map(|end| {
            let slots = superblocks_at(*end);
            let copies = slots.map(|slot| self.whole.get(&slot));
            let newest = copies
                .into_iter()
                .flatten()
                .max_by_key(|one| one.sequence)?;
            let counts = *end == live || copies.iter().all(Option::is_some);
            counts.then_some((newest.sequence, *end, *newest))
        });
        let newest = found.max_by_key(|(sequence, end, _)| (*sequence, *end));
        if let Some((_, _, newest)) = newest {
            self.live = newest;
        }
    }

    /// Somebody has found that the metadata made for this size counts, and has wiped what does not.
    pub(super) fn counts(&mut self, superblock: &Superblock) {
        self.live = Whole {
            sequence: superblock.sequence,
            device_bytes: superblock.device_bytes,
            data_bytes: superblock.data_bytes,
        };
        let end = end_of(superblock.device_bytes);
        let is_left = |one: &u64| *one != end && *one > superblock.data_bytes;
        self.has_remains |= self.ends.iter().any(is_left);
        self.ends.retain(|one| *one == end);
        self.whole.retain(|at, _| superblocks_at(end).contains(at));
    }

    /// What metadata would be read there after a client has written these bytes, block by block.
    pub(super) fn overwritten(
        &self,
        range: ByteRange,
    ) -> impl Iterator<Item = (u64, Option<Box<MetaBlock>>)> + '_ {
        let blocks = range.offset / BLOCK..range.end().div_ceil(BLOCK);
        blocks.map(move |block| {
            let offset = block * BLOCK;
            let is_all = range.offset <= offset && offset + BLOCK <= range.end();
            let left = self.left.get(&offset).filter(|_| is_all);
            (offset, left.and_then(|left| forged(left)))
        })
    }
}

impl Disk {
    /// Its metadata is to be at its end.
    pub(in crate::simulation) fn keep_metadata_inside(&mut self, node: u8) {
        self.inside = Some(Inside::new(node, self.size_bytes));
    }

    /// It is another disk.
    pub(super) fn begin_inside_anew(&mut self) {
        let size_bytes = self.size_bytes;
        let before = self.inside.take();
        self.inside = before.map(|inside| Inside::new(inside.node, size_bytes));
    }

    /// Whoever reads data where metadata is, or was, reads what nobody else has.
    pub(super) fn soil(&mut self, offset: u64) {
        let Some(node) = self.inside.as_ref().map(|inside| inside.node) else {
            return;
        };
        let first = offset / SECTOR;
        for sector in first..first + BLOCK / SECTOR {
            self.sectors.preset(sector, garbage(sector, node));
        }
    }

    /// Whether its metadata is at its end.
    pub(in crate::simulation) fn has_metadata_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// Whether there may be blocks of metadata where none has counted.
    pub(in crate::simulation) fn has_remains(&self) -> bool {
        let inside = self.inside.as_ref();
        inside.is_some_and(|inside| inside.has_remains)
    }

    /// Whether this is a superblock, or the end of one, beside the place that counts.
    pub(in crate::simulation) fn decides_place(&self, offset: u64, block: &MetaBlock) -> bool {
        let inside = self.inside.as_ref();
        let live = inside.map(|inside| end_of(inside.live.device_bytes));
        matches!(kind_of(block), 0 | SUPERBLOCK) && live != Some(self.place(offset))
    }

    /// Somebody who looked has found this, and has wiped what does not count.
    pub(in crate::simulation) fn metadata_counts(&mut self, superblock: &Superblock) {
        if let Some(inside) = &mut self.inside {
            inside.counts(superblock);
        }
    }

    /// A process was killed that was writing there, as a part of a move: what of it has happened is
    /// mostly in a cache.
    pub(super) fn leave_in_cache(
        &mut self,
        offset: u64,
        before: Option<Box<MetaBlock>>,
        random: &mut Random,
    ) {
        let place = self.place(offset);
        if let Some(inside) = &mut self.inside
            && place != end_of(inside.live.device_bytes)
            && random.percent(70)
        {
            inside.cached.entry(offset).or_insert(before);
        }
    }

    /// What is there now is durable.
    pub(super) fn leaves_cache(&mut self, offset: u64) {
        if let Some(inside) = &mut self.inside {
            inside.cached.remove(&offset);
        }
    }

    /// Everything in the cache is durable now.
    pub(in crate::simulation) fn settle_metadata(&mut self) {
        if let Some(inside) = &mut self.inside {
            inside.cached.clear();
        }
    }

    /// What was in the cache for longer than what is under way.
    pub(super) fn take_cached(&mut self) -> BTreeMap<u64, Option<Box<MetaBlock>>> {
        let inside = self.inside.as_mut();
        inside.map_or_else(BTreeMap::new, |inside| std::mem::take(&mut inside.cached))
    }

    /// The cache has lost what was written there.
    pub(super) fn lose_metadata(&mut self, offset: u64, before: Option<Box<MetaBlock>>) {
        let place = self.place(offset);
        match before {
            Some(before) => self.metadata.insert(offset, before),
            None => self.metadata.remove(&offset),
        };
        self.marks_changed = true;
        self.order.forget(place, offset);
        let Some(inside) = &mut self.inside else {
            return;
        };
        for slot in superblocks_at(place) {
            inside.whole.remove(&slot);
            let Some(block) = self.metadata.get(&slot) else {
                continue;
            };
            if Superblock::decode(&block[..]).is_ok() {
                self.order.completed((place, slot), block);
                inside.written(slot, block);
            } else if slot == offset {
                self.order.is_torn(slot);
            }
        }
        inside.find_live();
    }

    /// How many bytes clients and the peer may use.
    pub(super) fn data_bytes(&self) -> u64 {
        let inside = self.inside.as_ref();
        inside.map_or(self.size_bytes, |inside| inside.live.data_bytes)
    }

    /// To which of several areas a block of metadata belongs.
    pub(super) fn place(&self, offset: u64) -> u64 {
        let inside = self.inside.as_ref();
        inside.map_or(u64::MAX, |inside| inside.place(offset))
    }

    /// What has been written is read wherever it lies.
    pub(super) fn write_over_metadata(&mut self, range: ByteRange) {
        let Some(inside) = &self.inside else { return };
        for (offset, forged) in inside.overwritten(range) {
            let before = self.metadata.remove(&offset);
            self.marks_changed |= before.is_some() || forged.is_some();
            if let Some(forged) = forged {
                self.metadata.insert(offset, forged);
                self.forged += 1;
            }
        }
    }
}

/// A later superblock of the same slot than any that was written.
fn forged(left: &MetaBlock) -> Option<Box<MetaBlock>> {
    let mut superblock = Superblock::decode(left).ok()?;
    superblock.sequence += 1 << 40;
    Some(superblock.encode())
}

/// Where both copies of the superblock are in an area that ends there.
fn superblocks_at(end: u64) -> [u64; 2] {
    [end - BLOCK, end - 2 * BLOCK]
}

/// Where metadata at the end of a disk of this size ends.
fn end_of(device_bytes: u64) -> u64 {
    device_bytes / BLOCK * BLOCK
}
