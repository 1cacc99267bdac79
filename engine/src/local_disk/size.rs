//! How much of the disk the volume uses, and how much it could.
//!
//! A larger size counts from the superblock that names it. Before that is written, the added blocks
//! of the write-intent log are, with all of their regions marked: whatever the added bitmap blocks
//! hold, a crash finds everything out of sync there. Never decides a size.

use rbd_protocol::metadata::{Layout, LayoutError, Placement};

use super::LocalDisk;
use crate::contract::{DiskMeasure, Time};

impl LocalDisk {
    /// Usable size in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.superblock.data_bytes
    }

    /// The most it could be, with this limit of the administrator's.
    pub(crate) fn capacity_bytes(&self, limit: Option<u64>) -> u64 {
        let DiskMeasure {
            device_bytes,
            placement,
        } = self.measure;
        let most = Layout::most_data(device_bytes, placement, self.layout.max_peers(), limit);
        if self.is_fresh() {
            most
        } else {
            most.max(self.size_bytes())
        }
    }

    /// How many peers there is room for.
    pub(crate) fn max_peers(&self) -> u8 {
        self.layout.max_peers()
    }

    /// Whether the metadata lies elsewhere than it would on the disk as it is now.
    pub(crate) fn would_move(&self, found: DiskMeasure) -> bool {
        found.placement == Placement::Internal && found.device_bytes != self.layout.device_bytes()
    }

    /// The disk is of this size now. Where metadata at its end lies, it keeps lying.
    pub(crate) fn note_measure(&mut self, found: DiskMeasure) {
        if !self.would_move(found) {
            self.measure = found;
        }
    }

    /// Changes the size, which counts when the newest version of the superblock is durable. Returns
    /// the size before.
    pub(crate) fn resize(&mut self, data_bytes: u64, now: Time) -> Result<u64, LayoutError> {
        let DiskMeasure {
            device_bytes,
            placement,
        } = self.measure;
        let peers = self.layout.max_peers();
        self.layout = Layout::with_data(device_bytes, placement, peers, data_bytes)?;
        let before = self.size_bytes();
        self.change(|superblock| {
            superblock.data_bytes = data_bytes;
            superblock.device_bytes = device_bytes;
        });
        let changed = self.intent.resize(before, data_bytes, now);
        let blocks = self.intent.block_count();
        self.unwritten.retain(|block, _| *block < blocks);
        // Twice, because the first write to end may have begun before; and so that both slots of a
        // block that is new hold what belongs there.
        self.unwritten.extend(changed.map(|block| (block, 2)));
        let count = usize::try_from(blocks).unwrap_or(usize::MAX);
        if self.intent_sequences.len() < count {
            self.intent_sequences.resize(count, 0);
        }
        Ok(before)
    }
}

/// What the disk was when its metadata was read.
pub(super) fn measure_of(layout: &Layout) -> DiskMeasure {
    DiskMeasure {
        device_bytes: layout.device_bytes(),
        placement: layout.placement(),
    }
}
