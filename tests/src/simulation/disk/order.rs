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
    newest: BTreeMap<(u8, u8, u32), Written>,
    /// Copies of the superblock of which a crash has left a mixture of two writes.
    torn: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    epoch: u64,
    sequence: u64,
}

impl Order {
    /// Whether this may be written there now.
    ///
    /// # Errors
    /// Says what is out of order.
    pub(super) fn submitted(&self, offset: u64, block: &MetaBlock) -> Result<(), String> {
        let (key, Written { epoch, sequence }) = header(block);
        let kind = key.0;
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
        let is_log = |(key, _): &(&(u8, u8, u32), &Written)| key.0 == LOG;
        let mut log = self.newest.iter().filter(is_log);
        if kind == SUPERBLOCK && log.any(|(_, written)| written.epoch < epoch) {
            return Err(format!(
                "C4: a superblock announces epoch {epoch} before the log is written under it"
            ));
        }
        Ok(())
    }

    /// This has been written there.
    pub(super) fn completed(&mut self, offset: u64, block: &MetaBlock) {
        let (key, written) = header(block);
        self.torn.remove(&offset);
        let known = self.newest.entry(key).or_insert(written);
        if known.sequence <= written.sequence {
            *known = written;
        }
    }

    /// A write of this has ended halfway; what is there now may be a mixture.
    pub(super) fn interrupted(&mut self, offset: u64, block: &MetaBlock, stored: &MetaBlock) {
        let is_superblock = header(block).0.0 == SUPERBLOCK;
        if is_superblock && Superblock::decode(stored).is_err() {
            self.torn.insert(offset);
        } else {
            self.torn.remove(&offset);
        }
    }
}

fn header(block: &MetaBlock) -> ((u8, u8, u32), Written) {
    let number = |at: usize| u64::from_le_bytes(field(block, at));
    let index = u32::from_le_bytes(field(block, 24));
    let written = Written {
        epoch: number(32),
        sequence: number(40),
    };
    ((block[10], block[11], index), written)
}

fn field<const N: usize>(block: &MetaBlock, at: usize) -> [u8; N] {
    let bytes = block
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.expect("a header is longer than that")
}

const SUPERBLOCK: u8 = 1;
const LOG: u8 = 2;
const BITMAP: u8 = 3;
