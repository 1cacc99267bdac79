//! Where each metadata block lies, and how much of a device is left for data.
//!
//! Blocks are numbered outward from the superblock, 0 and 1 being its two slots: upward from the
//! start of an external area, downward from the end of a device with internal metadata. Groups
//! follow, one per 126 GiB of data: two intent slots, then the bitmap blocks of that stretch, peer
//! slots side by side. A volume that grows in place therefore only ever appends blocks.
//!
//! Never reads a device; only arithmetic, all of it checked.

mod placement;

pub use placement::{INDEXED_WINDOW, LayoutError, Placement};

use crate::ids::{BLOCK_SIZE, REGION_SIZE};

/// Names one metadata block independently of where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockAddress {
    /// One of the two superblock slots.
    Superblock {
        /// 0 or 1: the lowest bit of the sequence.
        slot: u8,
    },
    /// One of the two slots of an intent block.
    Intent {
        /// Which 126 GiB of data.
        block: u32,
        /// 0 or 1: the lowest bit of the sequence.
        slot: u8,
    },
    /// A bitmap block.
    Bitmap {
        /// Which peer's bitmap, below the layout's peer count.
        peer_slot: u8,
        /// Which 126 MiB of data.
        block: u32,
    },
}

/// The place of every block of one metadata area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    device_bytes: u64,
    placement: Placement,
    max_peers: u8,
    data_bytes: u64,
    intent_blocks: u32,
    bitmap_blocks: u32,
}

impl Layout {
    /// The layout with as much data as fits, or `size_limit` if that is less.
    pub fn new(
        device_bytes: u64,
        placement: Placement,
        max_peers: u8,
        size_limit: Option<u64>,
    ) -> Result<Self, LayoutError> {
        check_peers(max_peers)?;
        let device_blocks = device_bytes / BLOCK;
        let most = match placement {
            Placement::Internal => most_data_blocks(device_blocks, max_peers),
            Placement::External { .. } => device_blocks,
        };
        if most == 0 {
            let required = required_device_blocks(placement, 1, max_peers) * BLOCK;
            return Err(LayoutError::DeviceTooSmall {
                device_bytes,
                required,
            });
        }
        let data_bytes = size_limit.map_or(most, |limit| most.min(limit / BLOCK)) * BLOCK;
        if data_bytes == 0 {
            return Err(LayoutError::DataSize {
                bytes: size_limit.unwrap_or(0),
            });
        }
        Self::with_data(device_bytes, placement, max_peers, data_bytes)
    }

    /// The layout for exactly `data_bytes`, as an existing superblock records it.
    pub fn with_data(
        device_bytes: u64,
        placement: Placement,
        max_peers: u8,
        data_bytes: u64,
    ) -> Result<Self, LayoutError> {
        check_peers(max_peers)?;
        if data_bytes == 0 || !data_bytes.is_multiple_of(BLOCK) {
            return Err(LayoutError::DataSize { bytes: data_bytes });
        }
        if data_bytes > MAX_DATA_BYTES {
            return Err(LayoutError::TooLarge { data_bytes });
        }
        let data_blocks = data_bytes / BLOCK;
        let required = required_device_blocks(placement, data_blocks, max_peers) * BLOCK;
        if required > device_bytes {
            return Err(LayoutError::DeviceTooSmall {
                device_bytes,
                required,
            });
        }
        let required = metadata_blocks(data_blocks, max_peers) * BLOCK;
        placement.check(required, data_bytes)?;
        let too_large = |_| LayoutError::TooLarge { data_bytes };
        Ok(Self {
            device_bytes,
            placement,
            max_peers,
            data_bytes,
            intent_blocks: u32::try_from(intent_blocks(data_blocks)).map_err(too_large)?,
            bitmap_blocks: u32::try_from(bitmap_blocks(data_blocks)).map_err(too_large)?,
        })
    }

    /// The most data this device and this area can serve, or `size_limit` if that is less; 0 if
    /// none. Unlike [`Layout::new`] it takes an area that is too small for the device as a limit.
    #[must_use]
    pub fn most_data(
        device_bytes: u64,
        placement: Placement,
        max_peers: u8,
        size_limit: Option<u64>,
    ) -> u64 {
        let limit = size_limit.unwrap_or(u64::MAX).min(MAX_DATA_BYTES) / BLOCK;
        let fits = match placement {
            Placement::Internal => most_data_blocks(device_bytes / BLOCK, max_peers),
            Placement::External { available, .. } => most_described(available, max_peers),
        };
        fits.min(device_bytes / BLOCK).min(limit) * BLOCK
    }

    /// Where the superblock slots are, known before anything was read.
    pub fn superblock_offset(
        device_bytes: u64,
        placement: Placement,
        slot: u8,
    ) -> Result<u64, LayoutError> {
        if placement == Placement::Internal && device_bytes < SUPERBLOCK_SLOTS * BLOCK {
            let required = SUPERBLOCK_SLOTS * BLOCK;
            return Err(LayoutError::DeviceTooSmall {
                device_bytes,
                required,
            });
        }
        placement.check(SUPERBLOCK_SLOTS * BLOCK, 0)?;
        Ok(placement.offset_of_number(device_bytes, u64::from(slot & 1)))
    }

    /// Usable bytes of the volume, a multiple of 4096; data occupies `0..data_bytes` of the device.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Size of the backing device the layout was made for.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// Where the area is.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Peer slots with a bitmap.
    #[must_use]
    pub fn max_peers(&self) -> u8 {
        self.max_peers
    }

    /// Intent blocks, each with two slots.
    #[must_use]
    pub fn intent_blocks(&self) -> u32 {
        self.intent_blocks
    }

    /// Bitmap blocks of each peer slot.
    #[must_use]
    pub fn bitmap_blocks(&self) -> u32 {
        self.bitmap_blocks
    }

    /// Bytes all blocks of the area take together.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        self.block_count() * BLOCK
    }

    /// Bits in use in each peer's bitmap: one per 4 KiB of data.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.data_bytes / BLOCK
    }

    /// Marks in use in the intent log: one per region, the last region may be shorter.
    #[must_use]
    pub fn regions(&self) -> u64 {
        self.data_bytes.div_ceil(REGION_SIZE)
    }

    /// Absolute byte offset of a block on the device that holds the metadata.
    ///
    /// # Panics
    /// If the address is not part of this layout: writing it would destroy something else.
    #[must_use]
    pub fn offset(&self, address: BlockAddress) -> u64 {
        let peers = u64::from(self.max_peers);
        let number = match address {
            BlockAddress::Superblock { slot } => {
                assert!(slot < 2, "superblock slot {slot}");
                u64::from(slot)
            }
            BlockAddress::Intent { block, slot } => {
                assert!(
                    slot < 2 && block < self.intent_blocks,
                    "intent block {block}/{slot}"
                );
                SUPERBLOCK_SLOTS + u64::from(block) * self.group_blocks() + u64::from(slot)
            }
            BlockAddress::Bitmap { peer_slot, block } => {
                assert!(peer_slot < self.max_peers, "peer slot {peer_slot}");
                assert!(block < self.bitmap_blocks, "bitmap block {block}");
                let group = u64::from(block) / BITMAP_BLOCKS_PER_INTENT_BLOCK;
                let within = u64::from(block) % BITMAP_BLOCKS_PER_INTENT_BLOCK;
                SUPERBLOCK_SLOTS
                    + group * self.group_blocks()
                    + INTENT_SLOTS
                    + within * peers
                    + u64::from(peer_slot)
            }
        };
        self.placement.offset_of_number(self.device_bytes, number)
    }

    /// All blocks of the area, superblock slots included.
    pub(super) fn block_count(&self) -> u64 {
        metadata_blocks(self.data_bytes / BLOCK, self.max_peers)
    }

    /// Byte offset of a run of `count` blocks that starts at block `first`, and whether the run
    /// lies in reverse (internal metadata is numbered downward).
    pub(super) fn run(&self, first: u64, count: u64) -> (u64, bool) {
        match self.placement {
            Placement::Internal => (
                self.placement
                    .offset_of_number(self.device_bytes, first + count - 1),
                true,
            ),
            Placement::External { .. } => (
                self.placement.offset_of_number(self.device_bytes, first),
                false,
            ),
        }
    }

    /// The block with this number: the inverse of [`Layout::offset`]'s numbering.
    pub(super) fn address(&self, number: u64) -> Option<BlockAddress> {
        if number >= self.block_count() {
            return None;
        }
        let Some(rest) = number.checked_sub(SUPERBLOCK_SLOTS) else {
            return Some(BlockAddress::Superblock {
                slot: u8::try_from(number).ok()?,
            });
        };
        let (group, within) = (rest / self.group_blocks(), rest % self.group_blocks());
        let Some(within) = within.checked_sub(INTENT_SLOTS) else {
            let slot = u8::try_from(within).ok()?;
            return Some(BlockAddress::Intent {
                block: u32::try_from(group).ok()?,
                slot,
            });
        };
        let peers = u64::from(self.max_peers);
        let block = group * BITMAP_BLOCKS_PER_INTENT_BLOCK + within / peers;
        let peer_slot = u8::try_from(within % peers).ok()?;
        Some(BlockAddress::Bitmap {
            peer_slot,
            block: u32::try_from(block).ok()?,
        })
    }

    /// Block number of the first of the two slots of an intent block.
    pub(super) fn intent_number(&self, block: u32) -> u64 {
        SUPERBLOCK_SLOTS + u64::from(block) * self.group_blocks()
    }

    fn group_blocks(&self) -> u64 {
        INTENT_SLOTS + BITMAP_BLOCKS_PER_INTENT_BLOCK * u64::from(self.max_peers)
    }
}

/// Bytes an external area needs for `data_bytes` of data (rounded up to 4096) and `peers` slots.
#[must_use]
pub fn required_external_bytes(data_bytes: u64, peers: u8) -> u64 {
    metadata_blocks(data_bytes.div_ceil(BLOCK), peers) * BLOCK
}

/// The most data that leaves room for its own metadata. `data + metadata_blocks(data)` grows
/// strictly with `data`, so halving finds it.
fn most_data_blocks(device_blocks: u64, peers: u8) -> u64 {
    let (mut fits, mut too_much) = (0, device_blocks + 1);
    while too_much - fits > 1 {
        let middle = fits + (too_much - fits) / 2;
        if middle + metadata_blocks(middle, peers) <= device_blocks {
            fits = middle;
        } else {
            too_much = middle;
        }
    }
    fits
}

/// The most data an area of so many bytes can describe: its blocks grow with the data, never the
/// other way, so halving finds it.
fn most_described(available: u64, peers: u8) -> u64 {
    let (mut fits, mut too_much) = (0, MAX_DATA_BYTES / BLOCK + 1);
    while too_much - fits > 1 {
        let middle = fits + (too_much - fits) / 2;
        if metadata_blocks(middle, peers) <= available / BLOCK {
            fits = middle;
        } else {
            too_much = middle;
        }
    }
    fits
}

fn required_device_blocks(placement: Placement, data_blocks: u64, peers: u8) -> u64 {
    match placement {
        Placement::Internal => data_blocks + metadata_blocks(data_blocks, peers),
        Placement::External { .. } => data_blocks,
    }
}

/// At most 2^53 for any device, so callers may multiply by 4096 after comparing with the largest
/// data size.
fn metadata_blocks(data_blocks: u64, peers: u8) -> u64 {
    SUPERBLOCK_SLOTS
        + INTENT_SLOTS * intent_blocks(data_blocks)
        + u64::from(peers) * bitmap_blocks(data_blocks)
}

fn bitmap_blocks(data_blocks: u64) -> u64 {
    data_blocks.div_ceil(BITS_PER_BLOCK)
}

fn intent_blocks(data_blocks: u64) -> u64 {
    bitmap_blocks(data_blocks).div_ceil(BITMAP_BLOCKS_PER_INTENT_BLOCK)
}

fn check_peers(max_peers: u8) -> Result<(), LayoutError> {
    if (1..=MAX_PEERS).contains(&max_peers) {
        return Ok(());
    }
    Err(LayoutError::PeerCount { found: max_peers })
}

/// Peer slots a superblock has room for.
pub const MAX_PEERS: u8 = 31;

/// Bits in one bitmap block, and marks in one intent block.
pub const BITS_PER_BLOCK: u64 = 32256;

/// Data one bitmap block describes: 126 MiB.
pub const BYTES_PER_BITMAP_BLOCK: u64 = BITS_PER_BLOCK * BLOCK;

/// Data one intent block describes: 126 GiB.
pub const BYTES_PER_INTENT_BLOCK: u64 = BITS_PER_BLOCK * REGION_SIZE;

/// Bitmap blocks of one peer that cover the data of one intent block.
pub const BITMAP_BLOCKS_PER_INTENT_BLOCK: u64 = REGION_SIZE / BLOCK;

/// Largest volume: bitmap block numbers are 32 bits wide.
pub const MAX_DATA_BYTES: u64 = u32::MAX as u64 * BYTES_PER_BITMAP_BLOCK;

const BLOCK: u64 = BLOCK_SIZE as u64;
const SUPERBLOCK_SLOTS: u64 = 2;
const INTENT_SLOTS: u64 = 2;
