//! What clients were told, sector by sector: which values each may hold.
//!
//! Values are numbered in the order in which writes are asked for, and overlapping writes happen in
//! that order (A6), so a pair of numbers says it all (see `check::Registers`).

use super::disk::Data;
use super::geometry::SECTORS;
use super::hash::Hash;

/// The sectors as clients know them.
#[derive(Clone, Debug)]
pub(super) struct Sectors {
    issued: [u32; SECTORS],
    pub(super) lo: Data,
    floor: Data,
}

impl Sectors {
    /// All zero.
    pub(super) fn new() -> Self {
        Self {
            issued: [1; SECTORS],
            lo: [0; SECTORS],
            floor: [0; SECTORS],
        }
    }

    pub(super) fn issue(&mut self, sector: usize, value: u8) {
        self.issued[sector] |= 1 << value;
    }

    pub(super) fn acknowledge(&mut self, sector: usize, value: u8, durable: bool) {
        self.lo[sector] = self.lo[sector].max(value);
        if durable {
            self.floor[sector] = self.floor[sector].max(value);
        }
    }

    /// A flush asked for when `lo` was this has been answered.
    pub(super) fn flushed(&mut self, covered: Data) {
        for (floor, covered) in self.floor.iter_mut().zip(covered) {
            *floor = (*floor).max(covered);
        }
    }

    pub(super) fn bounds(&self, sector: usize) -> (u8, u8) {
        (self.lo[sector], self.floor[sector])
    }

    /// Nobody holds everything any more: what was not flushed may be gone.
    pub(super) fn caches_lost(&mut self) {
        self.lo = self.floor;
    }

    /// Whether a disk with this content holds everything.
    ///
    /// # Errors
    /// Names the first sector that is wrong.
    pub(super) fn allow(&self, content: Data) -> Result<(), String> {
        for (sector, value) in content.into_iter().enumerate() {
            if value < self.lo[sector] || self.issued[sector] & (1 << value) == 0 {
                return Err(format!(
                    "sector {sector} holds write {value}, not one from {} on (floor {})",
                    self.lo[sector], self.floor[sector]
                ));
            }
        }
        Ok(())
    }

    /// Somebody has decided that this content counts, whatever clients were told.
    pub(super) fn adopt(&mut self, content: Data, durable: Data) {
        for sector in 0..SECTORS {
            self.lo[sector] = content[sector];
            self.floor[sector] = content[sector].min(durable[sector]);
        }
    }

    pub(super) fn hash(&self, hash: &mut Hash) {
        for sector in 0..SECTORS {
            hash.mix(u64::from(self.issued[sector]));
            hash.mix(u64::from(self.lo[sector]) << 8 | u64::from(self.floor[sector]));
        }
    }
}
