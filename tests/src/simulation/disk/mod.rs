//! A disk with a volatile write cache, and a metadata device beside it.
//!
//! Data: what has completed is readable, and survives a power loss only if a flush that *began*
//! after its completion has completed, or if it was a FUA write; otherwise each 512-byte sector
//! keeps, on its own, any of the values it had since then. Metadata: whole blocks, durable on
//! completion, torn at sectors when a crash comes first. A metadata write never flushes data: the
//! two are separate devices, which is the harder case.

mod sectors;

use std::collections::BTreeMap;
use std::rc::Rc;

use rbd_engine::{DiskRequest, OperationId};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::ReadError;

use super::random::Random;
use crate::check::Possible;
use sectors::{Extent, Sectors};

/// The content of a range, one value per sector.
pub(super) type Payload = Rc<[u64]>;

/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;

const SECTORS_PER_BLOCK: u64 = 8;

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
    },
}

/// A disk and its metadata device.
#[derive(Debug)]
pub(super) struct Disk {
    sectors: Sectors,
    metadata: BTreeMap<u64, Box<[u8; 4096]>>,
    in_flight: BTreeMap<OperationId, InFlight>,
    /// The metadata has changed since this was last reset.
    pub(super) marks_changed: bool,
}

impl Disk {
    pub(super) fn new(size_bytes: u64) -> Self {
        Self {
            sectors: Sectors::new(size_bytes / SECTOR),
            metadata: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            marks_changed: true,
        }
    }

    /// Puts a value on the disk before anything else happens.
    pub(super) fn preset(&mut self, sector: u64, value: u64) {
        self.sectors.preset(sector, value);
    }

    /// Puts a metadata block on the disk before anything else happens.
    pub(super) fn preset_metadata(&mut self, offset: u64, block: Box<[u8; 4096]>) {
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
    /// When it is impossible, or when two writes of the same sector are in flight at once: their
    /// order would be chance (A6).
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
                || range.end() > self.sectors() * SECTOR
                || !range.offset.is_multiple_of(SECTOR)
                || !u64::from(range.length).is_multiple_of(SECTOR))
        {
            return Err(format!(
                "{request:?} of {range:?} is not possible on this disk"
            ));
        }
        let early = random.percent(50);
        let operation = match request {
            DiskRequest::Read => InFlight::Read {
                range,
                early: early.then(|| self.read(range)),
            },
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
    /// When the same block is being written already.
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
        self.in_flight.insert(id, InFlight::Meta { offset, block });
        if twice {
            return Err(format!(
                "the metadata block at {offset} is written twice at once"
            ));
        }
        Ok(())
    }

    /// Ends an operation. A read returns its data.
    pub(super) fn complete(&mut self, id: OperationId) -> Option<Payload> {
        match self.in_flight.remove(&id)? {
            InFlight::Read { range, early } => Some(early.unwrap_or_else(|| self.read(range))),
            InFlight::Write { range, fua } => {
                self.sectors.complete(range, fua);
                None
            }
            InFlight::Flush { up_to } => {
                self.sectors.flush(up_to);
                None
            }
            InFlight::Meta { offset, block } => {
                self.metadata.insert(offset, block);
                self.marks_changed = true;
                None
            }
        }
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
        for (_, operation) in std::mem::take(&mut self.in_flight) {
            let extent = [Extent::Nothing, Extent::SomeSectors, Extent::All];
            let extent = random.pick(&extent).unwrap_or(Extent::All);
            match operation {
                InFlight::Read { .. } | InFlight::Flush { .. } => {}
                InFlight::Write { range, .. } => self.sectors.abandon(range, extent, random),
                InFlight::Meta { offset, block } => {
                    self.tear_metadata(offset, &block, extent, random);
                }
            }
        }
    }

    fn tear_metadata(
        &mut self,
        offset: u64,
        block: &[u8; 4096],
        extent: Extent,
        random: &mut Random,
    ) {
        let stored = self
            .metadata
            .entry(offset)
            .or_insert_with(|| Box::new([0; 4096]));
        for (to, from) in stored.chunks_mut(512).zip(block.chunks(512)) {
            if extent == Extent::All || (extent == Extent::SomeSectors && random.percent(50)) {
                to.copy_from_slice(from);
            }
        }
        self.marks_changed = true;
    }

    /// The machine has lost power: in addition, of what is in the cache each sector keeps any one
    /// value.
    pub(super) fn power_loss(&mut self, random: &mut Random) {
        self.process_crash(random);
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
