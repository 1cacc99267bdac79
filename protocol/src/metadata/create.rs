//! The writes that create a metadata area and those that destroy one, as a list for the caller.
//!
//! Bitmap blocks are not written: a fresh superblock says full sync for every peer, and a block
//! left by an earlier area carries another device id, so it reads as misplaced and counts as all
//! dirty. Any subset of these writes in any order reads as the new area, as the old one with more
//! marked than before, or as an error.

use super::bitmap::empty_page;
use super::layout::{BlockAddress, Layout, LayoutError, Placement};
use super::{Block, Superblock, empty_block, encode_intent_block};
use alloc::boxed::Box;

/// One block for the caller to write, whole, at an absolute offset of the metadata's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// First byte.
    pub offset: u64,
    /// The bytes.
    pub block: Box<Block>,
}

/// All writes of a fresh area: both slots of every intent block without a mark, then both
/// superblock slots. The caller flushes after the last one. Lazy, so that a large volume needs no
/// memory.
///
/// # Panics
/// If the superblock was not made for this layout.
pub fn create(superblock: &Superblock, layout: &Layout) -> impl Iterator<Item = Write> + use<> {
    assert!(
        superblock.data_bytes == layout.data_bytes() && superblock.max_peers == layout.max_peers(),
        "superblock of another layout"
    );
    let (layout, identity, epoch) = (*layout, superblock.identity(), superblock.attach_epoch);
    let intent = (0..layout.intent_blocks()).flat_map(move |block| {
        [0, 1].map(|sequence| {
            let (slot, bytes) =
                encode_intent_block(identity, epoch, block, &empty_page(), sequence);
            Write {
                offset: layout.offset(BlockAddress::Intent { block, slot }),
                block: bytes,
            }
        })
    });
    let slots = [0, 1].map(|sequence| {
        let copy = Superblock {
            sequence,
            ..superblock.clone()
        };
        Write {
            offset: layout.offset(copy.address()),
            block: copy.encode(),
        }
    });
    intent.chain(slots)
}

/// The writes after which an area at this place is no longer recognised: both superblock slots.
pub fn wipe(device_bytes: u64, placement: Placement) -> Result<[Write; 2], LayoutError> {
    let write = |slot| {
        let offset = Layout::superblock_offset(device_bytes, placement, slot)?;
        Ok(Write {
            offset,
            block: empty_block(),
        })
    };
    Ok([write(0)?, write(1)?])
}
