//! How much of the disk the volume uses, and how much it could.
//!
//! A larger size counts from the superblock that names it. Before that is written, the added blocks
//! of the write-intent log are, with all of their regions marked: whatever the added bitmap blocks
//! hold, a crash finds everything out of sync there. Never decides a size.

use rbd_protocol::metadata::{Layout, LayoutError};

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
        let device_bytes = if self
            .missing_to_move(self.measure)
            .is_some_and(|more| more > 0)
        {
            self.layout.device_bytes()
        } else {
            device_bytes
        };
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

    /// The disk is of this size now. Where metadata at its end lies, it keeps lying until it is
    /// moved, and while it is, that is to one place.
    pub(crate) fn note_measure(&mut self, found: DiskMeasure) {
        let is_cut_off = self.is_internal() && found.device_bytes < self.layout.device_bytes();
        if !is_cut_off && !self.is_relocating() {
            self.measure = found;
        }
    }

    /// Changes the size, which counts when the newest version of the superblock is durable. Returns
    /// the size before.
    pub(crate) fn resize(&mut self, data_bytes: u64, now: Time) -> Result<u64, LayoutError> {
        let DiskMeasure {
            mut device_bytes,
            placement,
        } = self.measure;
        if self.is_internal() {
            device_bytes = self.layout.device_bytes(); // where the metadata is
        }
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
