//! Where the few sectors lie that are kept: two of block *a* and one of block *b* in one region of
//! the write-intent log, one of block *c* in the next.

use rbd_protocol::ids::ByteRange;

/// How many sectors are kept.
pub(super) const SECTORS: usize = 4;

/// Bytes of the volume: one region and one block of the next.
pub(super) const SIZE_BYTES: u64 = (4 << 20) + 4096;

/// The blocks in which they lie.
pub(super) const BLOCKS: [u64; 3] = [0, 1, 1024];

/// Which of the blocks a sector lies in.
pub(super) const BLOCK_OF: [usize; SECTORS] = [0, 0, 1, 2];

const NUMBERS: [u64; SECTORS] = [0, 1, 8, 8192];

/// Where a sector begins.
pub(super) fn sector_offset(sector: usize) -> u64 {
    NUMBERS[sector] * 512
}

/// What a write of one of the blocks covers.
pub(super) fn write_range(block: usize) -> ByteRange {
    match block {
        0 => ByteRange::new(sector_offset(0), 1024),
        1 => ByteRange::new(sector_offset(2), 512),
        _ => ByteRange::new(sector_offset(3), 512),
    }
}
