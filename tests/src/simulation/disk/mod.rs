//! A disk with a volatile write cache, and a metadata device beside it.
//!
//! Data: what has completed is readable, and survives a power loss only if a flush that *began*
//! after its completion has completed, or if it was a FUA write; otherwise each 512-byte sector
//! keeps, on its own, any of the values it had since then. Metadata: whole blocks, durable on
//! completion, torn at sectors when a crash comes first. On separate devices, which is the harder
//! case, a metadata write flushes no data; on one device its flush does.
//!
//! An operation that fails has happened in part. What a failed flush should have made durable may
//! stay in the cache and be out of every later flush's reach.

mod inside;
mod order;
mod sectors;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use rbd_engine::{DiskError, DiskRequest, OperationId};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::ReadError;

use super::random::Random;
use crate::check::Possible;
use inside::Inside;
use order::Order;
use sectors::{Extent, Sectors};

/// The content of a range, one value per sector.
pub(super) type Payload = Rc<[u64]>;

/// A block of metadata.
type MetaBlock = [u8; 4096];

/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;

const SECTORS_PER_BLOCK: u64 = 8;

const BLOCK: u64 = SECTOR * SECTORS_PER_BLOCK;

#[derive(Debug)]
enum InFlight {
    Read {
        range: ByteRange,
        early: Option<Payload>,
    },
    Write {
        range: ByteRange,
        fua: bool,
    },
    Flush {
        up_to: u64,
    },
    Meta {
        offset: u64,
        block: Box<[u8; 4096]>,
        /// Which data it makes durable, if it does.
        up_to: Option<u64>,
    },
}

/// Everything a disk held at some time, data and metadata.
#[derive(Debug)]
pub(super) struct Copy {
    sectors: Vec<u64>,
    metadata: BTreeMap<u64, Box<MetaBlock>>,
    order: Order,
}

/// Which operations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Read,
    Write,
    Flush,
    Metadata,
}

/// A disk, and its metadata device if it has one.
#[derive(Debug)]
pub(super) struct Disk {
    /// How large it is now; beyond are the sectors that it has when it is enlarged.
    pub(super) size_bytes: u64,
    sectors: Sectors,
    metadata: BTreeMap<u64, Box<MetaBlock>>,
    order: Order,
    /// Metadata is at the end of this disk.
    inside: Option<Inside>,
    in_flight: BTreeMap<OperationId, InFlight>,
    /// Those of them that are to end in digests.
    digests: BTreeSet<OperationId>,
    /// Those that give nothing back if all is zero.
    unless_zero: BTreeSet<OperationId>,
    /// The metadata has changed since this was last reset.
    pub(super) marks_changed: bool,
    /// How often a client has written what looks like metadata where some has been.
    pub(super) forged: u64,
    /// Metadata and data share one cache.
    shared_cache: bool,
    /// How many operations of each kind are still to fail.
    failing: BTreeMap<Trouble, u64>,
    /// Sectors that cannot be read until they are written.
    bad: Vec<Range<u64>>,
    pub(super) full_until: u64,
    pub(super) gone_until: u64,
    pub(super) stuck_until: u64,
    pub(super) slow_until: u64,
    pub(super) slow_factor: u64,
}

impl Disk {
    /// A disk of this size that can become as large as `most_bytes`.
    pub(super) fn new(size_bytes: u64, most_bytes: u64, shared_cache: bool) -> Self {
        Self {
            size_bytes,
            shared_cache,
            failing: BTreeMap::new(),
            bad: Vec::new(),
            full_until: 0,
            gone_until: 0,
            stuck_until: 0,
            slow_until: 0,
            slow_factor: 1,
            sectors: Sectors::new(most_bytes / SECTOR),
            metadata: BTreeMap::new(),
            order: Order::default(),
            inside: None,
            in_flight: BTreeMap::new(),
            digests: BTreeSet::new(),
            unless_zero: BTreeSet::new(),
            marks_changed: true,
            forged: 0,
        }
    }

    /// Puts a value on the disk before anything else happens.
    pub(super) fn preset(&mut self, sector: u64, value: u64) {
        self.sectors.preset(sector, value);
    }

    /// It is another disk, which holds this, and no metadata. Nothing may be under way.
    pub(super) fn replace(&mut self, value: impl Fn(u64) -> u64) {
        self.repair();
        self.sectors.replace(value);
        self.metadata.clear();
        self.order = Order::default();
        self.begin_inside_anew();
        self.marks_changed = true;
    }

    /// A copy of all it holds.
    pub(super) fn copy(&self) -> Copy {
        Copy {
            sectors: (0..self.sectors())
                .map(|sector| self.content(sector))
                .collect(),
            metadata: self.metadata.clone(),
            order: self.order.clone(),
        }
    }

    /// It holds what it held when the copy was made. Nothing may be under way.
    pub(super) fn restore(&mut self, copy: Copy) {
        self.replace(|sector| copy.sectors.get(at(sector)).copied().unwrap_or(0));
        self.metadata = copy.metadata;
        self.order = copy.order;
    }

    /// Puts a metadata block on the disk while no process has it.
    pub(super) fn preset_metadata(&mut self, offset: u64, block: Box<[u8; 4096]>) {
        self.soil(offset);
        self.metadata_written(offset, &block);
        self.leaves_cache(offset);
        self.metadata.insert(offset, block);
        self.marks_changed = true;
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors.count()
    }

    /// What a read of the sector returns now.
    pub(super) fn content(&self, sector: u64) -> u64 {
        self.sectors.content(sector)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// What this operation reads, if it does.
    pub(super) fn range_of_read(&self, id: OperationId) -> Option<ByteRange> {
        match self.in_flight.get(&id)? {
            InFlight::Read { range, .. } => Some(*range),
            InFlight::Write { .. } | InFlight::Flush { .. } | InFlight::Meta { .. } => None,
        }
    }

    /// What this operation writes, if it does.
    pub(super) fn range_of_write(&self, id: OperationId) -> Option<ByteRange> {
        match self.in_flight.get(&id)? {
            InFlight::Write { range, .. } => Some(*range),
            InFlight::Read { .. } | InFlight::Flush { .. } | InFlight::Meta { .. } => None,
        }
    }

    /// Whether a write to the block is under way.
    pub(super) fn is_writing(&self, block: u64) -> bool {
        let block = ByteRange::new(block * 4096, 4096);
        self.in_flight.values().any(|operation| match operation {
            InFlight::Write { range, .. } => range.overlaps(block),
            InFlight::Read { .. } | InFlight::Flush { .. } | InFlight::Meta { .. } => false,
        })
    }

    /// The blocks whose content, or what of it is durable, has changed since this was last asked.
    pub(super) fn take_changed(&mut self, into: &mut Vec<u64>) {
        self.sectors.take_changed(into);
    }

    /// Reads metadata as `metadata::open` wants it.
    pub(super) fn read_metadata(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        for (index, chunk) in (0_u64..).zip(into.chunks_mut(4096)) {
            match self.metadata.get(&(offset + index * 4096)) {
                Some(block) => {
                    let length = chunk.len();
                    chunk.copy_from_slice(block.get(..length).ok_or(ReadError { code: 22 })?);
                }
                None => chunk.fill(0),
            }
        }
        Ok(())
    }

    /// Takes a data operation.
    ///
    /// # Errors
    /// When it is impossible, when two writes of the same sector are in flight at once, whose order
    /// would be chance (A6), or a read begins while a write is: what it returns would be (B8, E2).
    pub(super) fn submit(
        &mut self,
        id: OperationId,
        request: DiskRequest,
        range: ByteRange,
        data: Option<&Payload>,
        random: &mut Random,
    ) -> Result<(), String> {
        if request != DiskRequest::Flush
            && (range.length == 0
                || range.end() > self.data_bytes()
                || !range.offset.is_multiple_of(SECTOR)
                || !u64::from(range.length).is_multiple_of(SECTOR))
        {
            return Err(format!(
                "{request:?} of {range:?} is not possible on this disk"
            ));
        }
        let early = random.percent(50);
        let operation = match request {
            DiskRequest::Read | DiskRequest::ReadUnlessZero | DiskRequest::Digest => {
                if self.sectors.is_being_written(range) {
                    return Err(format!(
                        "B8: a read of {range:?} while a write of the same sectors is in flight"
                    ));
                }
                InFlight::Read {
                    range,
                    early: early.then(|| self.read(range)),
                }
            }
            DiskRequest::Write { fua } => {
                let data = data.ok_or("a write without data")?;
                if u64::try_from(data.len()).ok() != Some(u64::from(range.length) / SECTOR) {
                    return Err("a write whose data has another length".into());
                }
                self.begin_write(range, Some(data), early)?;
                InFlight::Write { range, fua }
            }
            DiskRequest::Zero { fua, .. } => {
                self.begin_write(range, None, early)?;
                InFlight::Write { range, fua }
            }
            DiskRequest::Flush => InFlight::Flush {
                up_to: self.sectors.order(),
            },
        };
        self.in_flight.insert(id, operation);
        if request == DiskRequest::Digest {
            self.digests.insert(id);
        }
        if request == DiskRequest::ReadUnlessZero {
            self.unless_zero.insert(id);
        }
        Ok(())
    }

    fn begin_write(
        &mut self,
        range: ByteRange,
        data: Option<&Payload>,
        early: bool,
    ) -> Result<(), String> {
        if self.sectors.is_being_written(range) {
            return Err(format!(
                "A6: a write of {range:?} while another of the same sectors is in flight"
            ));
        }
        self.sectors.begin(range, data, early);
        Ok(())
    }

    /// Takes a metadata write.
    ///
    /// # Errors
    /// When the same block is being written already, or the write comes out of order.
    pub(super) fn submit_metadata(
        &mut self,
        id: OperationId,
        offset: u64,
        block: Box<[u8; 4096]>,
    ) -> Result<(), String> {
        let twice = self
            .in_flight
            .values()
            .any(|other| matches!(other, InFlight::Meta { offset: other, .. } if *other == offset));
        let size_bytes = self.size_bytes;
        let room = self
            .inside
            .as_mut()
            .map_or(Ok(()), |inside| inside.submitted(offset, size_bytes));
        let in_order = self.order.submitted((self.place(offset), offset), &block);
        let up_to = self.shared_cache.then(|| self.sectors.order());
        let operation = InFlight::Meta {
            offset,
            block,
            up_to,
        };
        self.in_flight.insert(id, operation);
        if twice {
            return Err(format!(
                "the metadata block at {offset} is written twice at once"
            ));
        }
        room.and(in_order)
    }

    /// Ends an operation. A read returns its data.
    ///
    /// # Errors
    /// When something is wrong with the disk: the operation has happened in part.
    pub(super) fn complete(
        &mut self,
        id: OperationId,
        now: u64,
        random: &mut Random,
    ) -> Result<Option<Payload>, DiskError> {
        let unless_zero = self.unless_zero.remove(&id);
        let Some(operation) = self.in_flight.remove(&id) else {
            return Ok(None);
        };
        if let Some(error) = self.trouble(&operation, now) {
            self.fail_operation(operation, random);
            return Err(error);
        }
        match operation {
            InFlight::Read { range, early } => {
                let data = early.unwrap_or_else(|| self.read(range));
                let is_zero = unless_zero && data.iter().all(|sector| *sector == 0);
                return Ok(Some(data).filter(|_| !is_zero));
            }
            InFlight::Write { range, fua } => {
                self.sectors.complete(range, fua);
                self.mend(range);
                self.write_over_metadata(range);
            }
            InFlight::Flush { up_to } => {
                self.sectors.flush(up_to);
                self.settle_metadata();
            }
            InFlight::Meta {
                offset,
                block,
                up_to,
            } => {
                if let Some(up_to) = up_to {
                    self.sectors.flush(up_to);
                    self.settle_metadata();
                }
                self.preset_metadata(offset, block);
            }
        }
        Ok(None)
    }

    /// Whether the operation is to end in digests. To be asked once.
    pub(super) fn ends_in_digests(&mut self, id: OperationId) -> bool {
        self.digests.remove(&id)
    }

    /// A bit of a sector at rest flips, and nobody is told. False if the sector is in use.
    pub(super) fn rot(&mut self, sector: u64, mask: u64) -> bool {
        self.sectors.rot(sector, mask)
    }

    /// Why the operation fails, if it does.
    fn trouble(&mut self, operation: &InFlight, now: u64) -> Option<DiskError> {
        if now < self.gone_until {
            return Some(DiskError::Io);
        }
        let kind = match operation {
            InFlight::Read { range, .. } => {
                let (first, end) = (range.offset / SECTOR, range.end() / SECTOR);
                let hit = |bad: &Range<u64>| bad.start < end && first < bad.end;
                if self.bad.iter().any(hit) {
                    return Some(DiskError::Io);
                }
                Trouble::Read
            }
            InFlight::Write { .. } if now < self.full_until => return Some(DiskError::NoSpace),
            InFlight::Write { .. } => Trouble::Write,
            InFlight::Flush { .. } => Trouble::Flush,
            InFlight::Meta { .. } => Trouble::Metadata,
        };
        let left = self.failing.get_mut(&kind)?;
        *left -= 1;
        if *left == 0 {
            self.failing.remove(&kind);
        }
        Some(DiskError::Io)
    }

    fn fail_operation(&mut self, operation: InFlight, random: &mut Random) {
        let extent = Extent::any(random);
        match operation {
            InFlight::Read { .. } => {}
            InFlight::Write { range, .. } => self.sectors.abandon(range, extent, random),
            InFlight::Flush { up_to } => {
                let percent = random.pick(&[0, 50, 100]).unwrap_or(0);
                self.sectors.fail_flush(up_to, percent, random);
            }
            InFlight::Meta { offset, block, .. } => {
                self.tear_metadata(offset, &block, extent, random);
            }
        }
    }

    /// The next operations of this kind fail.
    pub(super) fn fail(&mut self, kind: Trouble, times: u64) {
        self.failing.insert(kind, times);
    }

    /// A later flush makes durable after all what a failed one should have.
    pub(super) fn forgive(&mut self) {
        self.sectors.forgive();
    }

    /// These sectors can no longer be read.
    pub(super) fn spoil(&mut self, first: u64, count: u64) {
        self.bad.push(first..first.saturating_add(count));
    }

    /// What has been written can be read again.
    fn mend(&mut self, range: ByteRange) {
        if self.bad.is_empty() {
            return;
        }
        let (first, end) = (range.offset / SECTOR, range.end() / SECTOR);
        let pieces = std::mem::take(&mut self.bad)
            .into_iter()
            .flat_map(|bad| [bad.start..bad.end.min(first), bad.start.max(end)..bad.end])
            .filter(|piece| piece.start < piece.end);
        self.bad = pieces.collect();
    }

    /// Nothing is wrong with it any more.
    pub(super) fn repair(&mut self) {
        self.failing.clear();
        self.bad.clear();
        self.full_until = 0;
        self.gone_until = 0;
        self.stuck_until = 0;
        self.slow_until = 0;
    }

    fn read(&self, range: ByteRange) -> Payload {
        let first = range.offset / SECTOR;
        (first..first + u64::from(range.length) / SECTOR)
            .map(|sector| self.content(sector))
            .collect()
    }

    /// The process that used the disk is gone: of each operation in flight all, nothing or some
    /// sectors have happened. The cache survives.
    pub(super) fn process_crash(&mut self, random: &mut Random) {
        self.digests.clear();
        self.unless_zero.clear();
        for (_, operation) in std::mem::take(&mut self.in_flight) {
            let extent = Extent::any(random);
            match operation {
                InFlight::Read { .. } | InFlight::Flush { .. } => {}
                InFlight::Write { range, .. } => self.sectors.abandon(range, extent, random),
                InFlight::Meta { offset, block, .. } => {
                    let before = self.metadata.get(&offset).cloned();
                    self.tear_metadata(offset, &block, extent, random);
                    self.leave_in_cache(offset, before, random);
                }
            }
        }
    }

    /// Part of this is there, or all of it, or nothing.
    pub(super) fn begin_metadata(&mut self, offset: u64, block: &MetaBlock, random: &mut Random) {
        self.tear_metadata(offset, block, Extent::any(random), random);
    }

    fn tear_metadata(
        &mut self,
        offset: u64,
        block: &[u8; 4096],
        extent: Extent,
        random: &mut Random,
    ) {
        self.soil(offset);
        let stored = self
            .metadata
            .entry(offset)
            .or_insert_with(|| Box::new([0; 4096]));
        for (to, from) in stored.chunks_mut(512).zip(block.chunks(512)) {
            if extent == Extent::All || (extent == Extent::SomeSectors && random.percent(50)) {
                to.copy_from_slice(from);
            }
        }
        if stored[..] == block[..] {
            self.metadata_written(offset, block);
        } else {
            self.order.interrupted(offset, block, stored);
        }
        self.marks_changed = true;
    }

    fn metadata_written(&mut self, offset: u64, block: &MetaBlock) {
        self.order.completed((self.place(offset), offset), block);
        if let Some(inside) = &mut self.inside {
            inside.written(offset, block);
        }
    }

    /// The machine has lost power: in addition, of what is in the cache each sector keeps any one
    /// value.
    pub(super) fn power_loss(&mut self, random: &mut Random) {
        let cached = self.take_cached();
        self.process_crash(random);
        self.settle_metadata();
        for (offset, before) in cached {
            if random.percent(50) {
                self.lose_metadata(offset, before);
            }
        }
        let keep = random.pick(&[0, 0, 50, 90]).unwrap_or(0);
        self.sectors.lose_cache(keep, random);
    }
}

impl Possible for Disk {
    fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64)) {
        self.sectors.possible(sector, visit);
    }

    fn only(&self, sector: u64) -> Option<u64> {
        self.sectors.only(sector)
    }
}

fn at(index: u64) -> usize {
    usize::try_from(index).expect("a simulated disk fits into memory")
}
