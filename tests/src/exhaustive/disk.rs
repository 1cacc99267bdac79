//! A disk with a volatile cache and a metadata device beside it, small enough to be copied at every
//! step: of the data only a few sectors are kept, each a single number.
//!
//! What has completed is readable and survives a power loss if a flush that began afterwards has
//! completed, or with FUA; else the sector keeps any one value it had since. What is in flight
//! happens or not, sector by sector; metadata writes up to any sector. A metadata write flushes no
//! data.

use std::sync::Arc;

use rbd_engine::{DiskRequest, OperationId};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::ReadError;

use super::geometry::{SECTORS, sector_offset};
use super::hash::Hash;

/// One value for each sector that is kept. Those outside an operation's range mean nothing.
pub(super) type Data = [u8; SECTORS];

/// A block of metadata, with its fingerprint.
#[derive(Debug)]
pub(super) struct Block {
    bytes: [u8; 4096],
    hash: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sector: usize,
    value: u8,
    order: u32,
}

#[derive(Clone, Debug)]
enum InFlight {
    Read,
    Write {
        range: ByteRange,
        data: Data,
        fua: bool,
    },
    Flush {
        up_to: u32,
    },
    Meta {
        at: usize,
        block: Arc<Block>,
    },
}

/// A disk and its metadata device.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    stable: Data,
    /// What has completed and is not known to be durable, oldest first.
    cached: Vec<Entry>,
    order: u32,
    metadata: Vec<Arc<Block>>,
    in_flight: Vec<(OperationId, InFlight)>,
}

/// Something that a crash leaves open, and how many ways it may end.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// The sector holds one of these.
    Sector { sector: usize, values: Vec<u8> },
    /// The metadata block is one of these.
    Meta { at: usize, blocks: Vec<Arc<Block>> },
}

impl Disk {
    pub(super) fn new(metadata_bytes: u64) -> Self {
        let empty = Arc::new(Block::new([0; 4096]));
        let blocks = usize::try_from(metadata_bytes / 4096).expect("a small area");
        Self {
            stable: Data::default(),
            cached: Vec::new(),
            order: 0,
            metadata: vec![empty; blocks],
            in_flight: Vec::new(),
        }
    }

    pub(super) fn preset_metadata(&mut self, offset: u64, block: &[u8; 4096]) {
        self.metadata[index(offset)] = Arc::new(Block::new(*block));
    }

    /// What a read of the sector returns now.
    pub(super) fn content(&self, sector: usize) -> u8 {
        let newest = self
            .cached
            .iter()
            .rev()
            .find(|entry| entry.sector == sector);
        newest.map_or(self.stable[sector], |entry| entry.value)
    }

    pub(super) fn contents(&self) -> Data {
        std::array::from_fn(|sector| self.content(sector))
    }

    pub(super) fn preset(&mut self, data: Data) {
        self.stable = data;
    }

    /// What is left of the cache after a power loss that takes all of it.
    pub(super) fn durable_contents(&self) -> Data {
        self.stable
    }

    pub(super) fn read_metadata(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        for (block, chunk) in (index(offset)..).zip(into.chunks_mut(4096)) {
            let found = self.metadata.get(block).ok_or(ReadError { code: 5 })?;
            chunk.copy_from_slice(&found.bytes[..chunk.len()]);
        }
        Ok(())
    }

    pub(super) fn metadata_hash(&self) -> u64 {
        let mut hash = Hash::default();
        for block in &self.metadata {
            hash.mix(block.hash);
        }
        hash.0
    }

    /// Everything that outlives the process.
    pub(super) fn hash(&self, hash: &mut Hash) {
        hash.mix(u64::from(u32::from_le_bytes(self.stable)));
        for entry in &self.cached {
            hash.mix(entry.sector as u64 * 256 + u64::from(entry.value) + 1);
        }
        hash.mix(self.metadata_hash());
    }

    /// Takes a data operation.
    pub(super) fn submit(
        &mut self,
        id: OperationId,
        request: DiskRequest,
        range: ByteRange,
        data: Option<Data>,
    ) -> Result<(), String> {
        let operation = match request {
            DiskRequest::Read | DiskRequest::ReadUnlessZero | DiskRequest::Digest => InFlight::Read,
            DiskRequest::Flush => InFlight::Flush { up_to: self.order },
            DiskRequest::Write { fua } => InFlight::Write {
                range,
                data: data.ok_or("a write without data")?,
                fua,
            },
            DiskRequest::Zero { fua, .. } => InFlight::Write {
                range,
                data: Data::default(),
                fua,
            },
        };
        let overlaps = |other: &InFlight| match other {
            InFlight::Write { range: other, .. } => other.overlaps(range),
            _ => false,
        };
        if matches!(operation, InFlight::Write { .. })
            && self.in_flight.iter().any(|(_, other)| overlaps(other))
        {
            return Err(format!("A6: two writes of {range:?} are in flight at once"));
        }
        self.in_flight.push((id, operation));
        Ok(())
    }

    /// Takes a metadata write.
    pub(super) fn submit_metadata(
        &mut self,
        id: OperationId,
        offset: u64,
        bytes: [u8; 4096],
    ) -> Result<(), String> {
        let at = index(offset);
        let same =
            |other: &InFlight| matches!(other, InFlight::Meta { at: other, .. } if *other == at);
        if self.in_flight.iter().any(|(_, other)| same(other)) {
            return Err(format!(
                "the metadata block at {offset} is written twice at once"
            ));
        }
        let block = Arc::new(Block::new(bytes));
        self.in_flight.push((id, InFlight::Meta { at, block }));
        Ok(())
    }

    /// Ends an operation. A read returns its data.
    pub(super) fn complete(&mut self, id: OperationId) -> Option<Data> {
        let at = self.in_flight.iter().position(|(other, _)| *other == id)?;
        match self.in_flight.remove(at).1 {
            InFlight::Read => Some(self.contents()),
            InFlight::Write { range, data, fua } => {
                self.order += 1;
                for sector in touched(range) {
                    if fua {
                        self.stable[sector] = data[sector];
                        self.cached.retain(|entry| entry.sector != sector);
                    } else {
                        self.cached.push(Entry {
                            sector,
                            value: data[sector],
                            order: self.order,
                        });
                    }
                }
                None
            }
            InFlight::Flush { up_to } => {
                let stable = &mut self.stable;
                self.cached.retain(|entry| {
                    if entry.order <= up_to {
                        stable[entry.sector] = entry.value;
                    }
                    entry.order > up_to
                });
                None
            }
            InFlight::Meta { at, block } => {
                self.metadata[at] = block;
                None
            }
        }
    }

    /// Every value the sector may have after a crash now, as bits.
    pub(super) fn possible(&self, sector: usize) -> u32 {
        let mut values = 1 << self.stable[sector];
        for entry in self.cached.iter().filter(|entry| entry.sector == sector) {
            values |= 1 << entry.value;
        }
        for (_, operation) in &self.in_flight {
            if let InFlight::Write { range, data, .. } = operation
                && touched(*range).any(|at| at == sector)
            {
                values |= 1 << data[sector];
            }
        }
        values
    }

    /// What a crash now leaves open; with `power`, the cache is lost as well.
    pub(super) fn open_ends(&self, power: bool) -> Vec<Open> {
        let mut ends = Vec::new();
        for sector in 0..SECTORS {
            let mut values = Vec::new();
            if power {
                values.push(self.stable[sector]);
                let cached = self.cached.iter().filter(|entry| entry.sector == sector);
                values.extend(cached.map(|entry| entry.value));
            } else {
                values.push(self.content(sector));
            }
            for (_, operation) in &self.in_flight {
                if let InFlight::Write { range, data, .. } = operation
                    && touched(*range).any(|at| at == sector)
                {
                    values.push(data[sector]);
                }
            }
            let mut seen = 0_u32;
            values.retain(|value| {
                let new = seen & (1 << value) == 0;
                seen |= 1 << value;
                new
            });
            if values.len() > 1 {
                ends.push(Open::Sector { sector, values });
            }
        }
        for (_, operation) in &self.in_flight {
            if let InFlight::Meta { at, block } = operation {
                let blocks = torn(&self.metadata[*at], block);
                ends.push(Open::Meta { at: *at, blocks });
            }
        }
        ends
    }

    /// The disk after a crash in which each open end took this way.
    pub(super) fn after_crash(&self, power: bool, ends: &[Open], mut way: u64) -> Self {
        let mut disk = self.clone();
        disk.in_flight.clear();
        if power {
            disk.cached.clear();
        }
        disk.order += 1;
        for end in ends {
            let ways = end.ways();
            let choice = usize::try_from(way % ways).expect("few ways");
            way /= ways;
            match end {
                Open::Sector { sector, values } if power => disk.stable[*sector] = values[choice],
                Open::Sector { sector, values } => {
                    if choice > 0 {
                        disk.cached.push(Entry {
                            sector: *sector,
                            value: values[choice],
                            order: disk.order,
                        });
                    }
                }
                Open::Meta { at, blocks } => disk.metadata[*at] = blocks[choice].clone(),
            }
        }
        disk
    }
}

impl Open {
    pub(super) fn ways(&self) -> u64 {
        let count = match self {
            Self::Sector { values, .. } => values.len(),
            Self::Meta { blocks, .. } => blocks.len(),
        };
        count as u64
    }
}

impl Block {
    fn new(bytes: [u8; 4096]) -> Self {
        // Four at a time, which do not wait for each other.
        let mut lanes = [Hash(1), Hash(2), Hash(3), Hash(4)];
        for words in bytes.chunks_exact(32) {
            for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
                lane.mix(word.try_into().map_or(0, u64::from_le_bytes));
            }
        }
        let mut hash = Hash::default();
        for lane in lanes {
            hash.mix(lane.0);
        }
        Self {
            bytes,
            hash: hash.0,
        }
    }
}

/// The old block, the new one, and each new one that ends at a sector and goes on as the old.
fn torn(old: &Arc<Block>, new: &Arc<Block>) -> Vec<Arc<Block>> {
    let mut blocks = vec![old.clone()];
    let mut bytes = old.bytes;
    for start in (0..4096).step_by(512) {
        let sector = start..start + 512;
        if bytes[sector.clone()] != new.bytes[sector.clone()] {
            bytes[sector.clone()].copy_from_slice(&new.bytes[sector]);
            blocks.push(Arc::new(Block::new(bytes)));
        }
    }
    blocks
}

/// The kept sectors in a range.
pub(super) fn touched(range: ByteRange) -> impl Iterator<Item = usize> {
    (0..SECTORS).filter(move |sector| {
        let offset = sector_offset(*sector);
        range.offset <= offset && offset < range.end()
    })
}

fn index(offset: u64) -> usize {
    usize::try_from(offset / 4096).expect("a small area")
}
