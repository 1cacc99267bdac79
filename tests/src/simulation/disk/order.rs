//! The order in which metadata is written: what keeps a block readable whichever write is torn.
//!
//! A block of two slots is safe because a new write goes over the older one, under a higher number
//! (C2, C3). A superblock that announces an epoch voids every block of the log of an earlier one,
//! so those must have been written before (C4). Breaking one of these shows only if the right two
//! writes are torn; here it shows at once.

use std::collections::{BTreeMap, BTreeSet};

use rbd_protocol::metadata::Superblock;

use super::MetaBlock;

/// What is on the disk of each block that has been written, as far as the order matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    newest: BTreeMap<Key, Written>,
    /// Copies of the superblock of which a crash has left a mixture of two writes.
    torn: BTreeSet<u64>,
}

/// Where a block belongs: the place of its metadata, its kind, the slot of its peer, its number.
type Key = (u64, u8, u8, u32);

#[derive(Clone, Copy, Debug)]
struct Written {
    epoch: u64,
    sequence: u64,
}

impl Order {
    /// Whether this may be written there now. Of several places where metadata is or has been each
    /// has an order of its own.
    ///
    /// # Errors
    /// Says what is out of order.
    pub(super) fn submitted(
        &self,
        (place, offset): (u64, u64),
        block: &MetaBlock,
    ) -> Result<(), String> {
        if is_wiped(block) {
            return Ok(());
        }
        let (key, Written { epoch, sequence }) = header(place, block);
        let kind = key.1;
        let newest = self.newest.get(&key).map_or(0, |known| known.sequence);
        let mends = self.torn.contains(&offset) && sequence + 1 == newest;
        if kind == SUPERBLOCK && self.torn.contains(&offset) && !mends {
            return Err(format!(
                "C2: superblock {sequence} is written over a torn one that was not mended"
            ));
        }
        if kind != BITMAP && sequence <= newest && !mends {
            return Err(format!(
                "C3: a block of kind {kind} is written as number {sequence} after {newest}"
            ));
        }
        let is_log = |(key, _): &(&Key, &Written)| key.0 == place && key.1 == LOG;
        let mut log = self.newest.iter().filter(is_log);
        if kind == SUPERBLOCK && log.any(|(_, written)| written.epoch < epoch) {
            return Err(format!(
                "C4: a superblock announces epoch {epoch} before the log is written under it"
            ));
        }
        Ok(())
    }

    /// This has been written there.
    pub(super) fn completed(&mut self, (place, offset): (u64, u64), block: &MetaBlock) {
        if is_wiped(block) {
            self.forget(place, offset);
            return;
        }
        self.torn.remove(&offset);
        let (key, written) = header(place, block);
        let known = self.newest.entry(key).or_insert(written);
        if known.sequence <= written.sequence {
            *known = written;
        }
    }

    /// A mixture of two writes is there again.
    pub(super) fn is_torn(&mut self, offset: u64) {
        self.torn.insert(offset);
    }

    /// Nothing is known any more of what is at this place.
    pub(super) fn forget(&mut self, place: u64, offset: u64) {
        self.torn.remove(&offset);
        self.newest.retain(|key, _| key.0 != place);
    }

    /// A write of this has ended halfway; what is there now may be a mixture.
    pub(super) fn interrupted(&mut self, offset: u64, block: &MetaBlock, stored: &MetaBlock) {
        // Half of a wipe leaves no other mixture than half of a superblock does.
        let is_one = kind_of(block) == SUPERBLOCK || is_wiped(block);
        if is_one && Superblock::decode(stored).is_err() {
            self.torn.insert(offset);
        } else {
            self.torn.remove(&offset);
        }
    }
}

/// What makes a superblock unrecognisable.
fn is_wiped(block: &MetaBlock) -> bool {
    kind_of(block) == 0
}

/// What kind of block this is.
pub(super) fn kind_of(block: &MetaBlock) -> u8 {
    block[10]
}

fn header(place: u64, block: &MetaBlock) -> (Key, Written) {
    let number = |at: usize| u64::from_le_bytes(field(block, at));
    let index = u32::from_le_bytes(field(block, 24));
    let written = Written {
        epoch: number(32),
        sequence: number(40),
    };
    ((place, kind_of(block), block[11], index), written)
}

fn field<const N: usize>(block: &MetaBlock, at: usize) -> [u8; N] {
    let bytes = block
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.expect("a header is longer than that")
}

pub(super) const SUPERBLOCK: u8 = 1;
const LOG: u8 = 2;
const BITMAP: u8 = 3;
