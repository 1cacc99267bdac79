//! A disk with a volatile write cache, and a metadata device beside it.
//!
//! Data: what has completed is readable, and survives a power loss only if a flush that *began*
//! after its completion has completed, or if it was a FUA write; otherwise each 512-byte sector
//! keeps, on its own, any of the values it had since then. Metadata: whole blocks, durable on
//! completion, torn at sectors when a crash comes first. A metadata write never flushes data: the
//! two are separate devices, which is the harder case.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rbd_engine::{DiskRequest, OperationId};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::ReadError;

use super::random::Random;
use crate::check::Possible;

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
        /// `None` writes zeroes.
        data: Option<Payload>,
        fua: bool,
        /// Readable before its completion.
        early: bool,
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
    stable: Vec<u64>,
    /// What each sector has held since it was last made durable, oldest first.
    cached: BTreeMap<u64, Vec<(u64, u64)>>,
    order: u64,
    metadata: BTreeMap<u64, Box<[u8; 4096]>>,
    in_flight: BTreeMap<OperationId, InFlight>,
    /// Blocks whose content, or what of it is durable, has changed since this was last emptied.
    pub(super) changed: BTreeSet<u64>,
    /// The metadata has changed since this was last reset.
    pub(super) marks_changed: bool,
}

impl Disk {
    pub(super) fn new(size_bytes: u64) -> Self {
        Self {
            stable: vec![0; at(size_bytes / SECTOR)],
            cached: BTreeMap::new(),
            order: 0,
            metadata: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            changed: BTreeSet::new(),
            marks_changed: true,
        }
    }

    /// Puts a value on the disk before anything else happens.
    pub(super) fn preset(&mut self, sector: u64, value: u64) {
        if let Some(stable) = self.stable.get_mut(at(sector)) {
            *stable = value;
        }
        self.changed.insert(sector / SECTORS_PER_BLOCK);
    }

    /// Puts a metadata block on the disk before anything else happens.
    pub(super) fn preset_metadata(&mut self, offset: u64, block: Box<[u8; 4096]>) {
        self.metadata.insert(offset, block);
        self.marks_changed = true;
    }

    pub(super) fn sectors(&self) -> u64 {
        u64::try_from(self.stable.len()).expect("a disk's length fits")
    }

    /// What a read of the sector returns now.
    pub(super) fn content(&self, sector: u64) -> u64 {
        let cached = self.cached.get(&sector).and_then(|values| values.last());
        cached.map_or_else(
            || self.stable.get(at(sector)).copied().unwrap_or(0),
            |(_, value)| *value,
        )
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
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
    /// When two writes of the same sector are in flight at once: their order would be chance (A6).
    pub(super) fn submit(
        &mut self,
        id: OperationId,
        request: DiskRequest,
        range: ByteRange,
        data: Option<Payload>,
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
                self.refuse_overlap(range)?;
                let data = Some(data);
                InFlight::Write {
                    range,
                    data,
                    fua,
                    early,
                }
            }
            DiskRequest::Zero { fua, .. } => {
                self.refuse_overlap(range)?;
                InFlight::Write {
                    range,
                    data: None,
                    fua,
                    early,
                }
            }
            DiskRequest::Flush => InFlight::Flush { up_to: self.order },
        };
        if let InFlight::Write {
            range, data, early, ..
        } = &operation
        {
            if *early {
                self.store(*range, data.clone().as_ref());
            }
            self.note_changed(*range);
        }
        self.in_flight.insert(id, operation);
        Ok(())
    }

    fn refuse_overlap(&self, range: ByteRange) -> Result<(), String> {
        for other in self.in_flight.values() {
            if let InFlight::Write { range: other, .. } = other
                && other.overlaps(range)
            {
                return Err(format!(
                    "A6: writes of {other:?} and {range:?} in flight at once"
                ));
            }
        }
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
            InFlight::Write {
                range,
                data,
                fua,
                early,
            } => {
                // Completion decides which flushes cover it, so it is stored anew.
                if early {
                    self.unstore(range);
                }
                self.store(range, data.as_ref());
                if fua {
                    self.make_stable(range);
                }
                self.note_changed(range);
                None
            }
            InFlight::Flush { up_to } => {
                self.flush(up_to);
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
        sectors(range).map(|sector| self.content(sector)).collect()
    }

    fn store(&mut self, range: ByteRange, data: Option<&Payload>) {
        self.order += 1;
        for (index, sector) in sectors(range).enumerate() {
            let value = data.map_or(0, |data| data.get(index).copied().unwrap_or(0));
            self.cached
                .entry(sector)
                .or_default()
                .push((self.order, value));
        }
    }

    fn unstore(&mut self, range: ByteRange) {
        for sector in sectors(range) {
            if let Some(values) = self.cached.get_mut(&sector) {
                values.pop();
                if values.is_empty() {
                    self.cached.remove(&sector);
                }
            }
        }
    }

    fn make_stable(&mut self, range: ByteRange) {
        for sector in sectors(range) {
            let value = self.content(sector);
            if let Some(stable) = self.stable.get_mut(at(sector)) {
                *stable = value;
            }
            self.cached.remove(&sector);
        }
    }

    fn flush(&mut self, up_to: u64) {
        let stable = &mut self.stable;
        let changed = &mut self.changed;
        // What an operation in flight has put into the cache early is not completed.
        let unfinished: Vec<ByteRange> = self
            .in_flight
            .values()
            .filter_map(|operation| match operation {
                InFlight::Write {
                    range, early: true, ..
                } => Some(*range),
                _ => None,
            })
            .collect();
        self.cached.retain(|sector, values| {
            let bytes = ByteRange::new(*sector * SECTOR, 512);
            let pinned = usize::from(unfinished.iter().any(|range| range.overlaps(bytes)));
            let done = values
                .iter()
                .take(values.len().saturating_sub(pinned))
                .take_while(|(order, _)| *order <= up_to)
                .count();
            if let Some((_, value)) = done.checked_sub(1).and_then(|last| values.get(last))
                && let Some(stable) = stable.get_mut(at(*sector))
            {
                *stable = *value;
                changed.insert(*sector / SECTORS_PER_BLOCK);
            }
            values.drain(..done);
            !values.is_empty()
        });
    }

    /// The process that used the disk is gone: of each operation in flight all, nothing or some
    /// sectors have happened. The cache survives.
    pub(super) fn process_crash(&mut self, random: &mut Random) {
        for (_, operation) in std::mem::take(&mut self.in_flight) {
            let extent = random.below(3);
            match operation {
                InFlight::Read { .. } | InFlight::Flush { .. } => {}
                InFlight::Write {
                    range, data, early, ..
                } => {
                    if early {
                        self.unstore(range);
                    }
                    self.order += 1;
                    for (index, sector) in sectors(range).enumerate() {
                        if extent == 0 || (extent == 1 && random.percent(50)) {
                            continue;
                        }
                        let value = data
                            .as_ref()
                            .map_or(0, |data| data.get(index).copied().unwrap_or(0));
                        let values = self.cached.entry(sector).or_default();
                        values.push((self.order, value));
                    }
                    self.note_changed(range);
                }
                InFlight::Meta { offset, block } => {
                    let stored = self
                        .metadata
                        .entry(offset)
                        .or_insert_with(|| Box::new([0; 4096]));
                    for (to, from) in stored.chunks_mut(512).zip(block.chunks(512)) {
                        if extent == 2 || (extent == 1 && random.percent(50)) {
                            to.copy_from_slice(from);
                        }
                    }
                    self.marks_changed = true;
                }
            }
        }
    }

    /// The machine has lost power: in addition, of what is in the cache each sector keeps any one
    /// value.
    pub(super) fn power_loss(&mut self, random: &mut Random) {
        self.process_crash(random);
        let keep = random.pick(&[0, 0, 50, 90]).unwrap_or(0);
        for (sector, values) in std::mem::take(&mut self.cached) {
            self.changed.insert(sector / SECTORS_PER_BLOCK);
            if !random.percent(keep) {
                continue;
            }
            let survivor = random.below(u64::try_from(values.len()).unwrap_or(0));
            if let Some((_, value)) = values.get(at(survivor))
                && let Some(stable) = self.stable.get_mut(at(sector))
            {
                *stable = *value;
            }
        }
    }

    fn note_changed(&mut self, range: ByteRange) {
        let (first, last) = (range.offset / 4096, (range.end() - 1) / 4096);
        self.changed.extend(first..=last);
    }
}

impl Possible for Disk {
    fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64)) {
        visit(self.stable.get(at(sector)).copied().unwrap_or(0));
        for (_, value) in self.cached.get(&sector).into_iter().flatten() {
            visit(*value);
        }
        let bytes = ByteRange::new(sector * SECTOR, 512);
        for operation in self.in_flight.values() {
            if let InFlight::Write { range, data, .. } = operation
                && range.contains(bytes)
            {
                let index = at(sector - range.offset / SECTOR);
                visit(
                    data.as_ref()
                        .map_or(0, |data| data.get(index).copied().unwrap_or(0)),
                );
            }
        }
    }
}

fn sectors(range: ByteRange) -> impl Iterator<Item = u64> {
    range.offset / SECTOR..range.end() / SECTOR
}

fn at(index: u64) -> usize {
    usize::try_from(index).expect("a simulated disk fits into memory")
}
