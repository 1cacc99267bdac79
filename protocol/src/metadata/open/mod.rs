//! Opening a metadata area: from a reader and the identity expected to everything the area holds.
//!
//! The superblock is chosen and checked first, so nothing is allocated on the word of a block that
//! does not fit this device. Damage further in never fails the open: it is counted as hot or dirty
//! and listed. Writes nothing; an attach is completed by the caller (see `docs/metadata.md`).

mod moved;
mod scan;
mod superblocks;

pub use moved::{FormerEnd, Located, open_internal};
pub use superblocks::{SuperblockSlot, read_superblocks};

use super::layout::{BlockAddress, Layout, LayoutError, Placement};
use super::{BitPage, BlockError, ReadError, Reader, Superblock};
use crate::ids::{NodeId, VolumeNumber};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Where to look, and whose metadata it must be.
#[derive(Clone, Copy, Debug)]
pub struct OpenInputs<'a> {
    /// Size of the backing device (the data's, also when the metadata is external).
    pub device_bytes: u64,
    /// Where the metadata is.
    pub placement: Placement,
    /// Resource it must belong to.
    pub resource: &'a str,
    /// Node it must belong to.
    pub node: &'a str,
    /// That node's id.
    pub node_id: NodeId,
    /// Volume it must describe.
    pub volume: VolumeNumber,
    /// Open even if the newest superblock may be lost; every peer then needs a full sync. Only on
    /// an operator's explicit word: the generations may be one step behind.
    pub accept_older_superblock: bool,
}

/// What a metadata area holds.
#[derive(Clone, Debug)]
pub struct Image {
    /// The newest superblock. The next one is written with its sequence plus one.
    pub superblock: Superblock,
    /// Where everything is.
    pub layout: Layout,
    /// Regions that may differ because writes were in flight: ascending, disjoint, never touching.
    pub hot_regions: Vec<Range<u64>>,
    /// Per intent block the highest sequence seen; the next write uses it plus one.
    pub intent_sequences: Vec<u64>,
    /// Per peer slot of the layout what the peer lacks.
    pub peers: Vec<PeerBitmap>,
    /// The highest bitmap block sequence seen.
    pub bitmap_sequence: u64,
    /// What did not verify, and what was made of it.
    pub damage: Vec<Damage>,
}

/// What one peer lacks according to this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerBitmap {
    /// The slot is unused or flagged for full sync: everything is out of sync (C7).
    Everything,
    /// Blocks with at least one dirty bit, by block number.
    Pages(BTreeMap<u32, Box<BitPage>>),
}

/// Blocks that were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first block.
    pub at: BlockAddress,
    /// How many consecutive blocks of the same kind and peer slot.
    pub blocks: u32,
    /// Why the first was refused.
    pub cause: BlockError,
    /// What was made of them.
    pub effect: Effect,
}

/// What a damaged block was counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A superblock write never completed; the other slot is the newest state. Nothing is lost.
    OtherSlotUsed,
    /// The older superblock was accepted as asked; every peer counts as out of sync.
    OlderSuperblock,
    /// All regions of the intent block count as hot (C4).
    RegionsHot,
    /// All bits of the bitmap blocks count as dirty (C4).
    BlocksDirty,
}

/// Why an area cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The device or area has no room for what it should hold.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The device fails; its metadata may be perfectly good.
    #[error("metadata at offset {offset} is unreadable")]
    Read {
        /// First byte that could not be read.
        offset: u64,
        /// The reader's error.
        source: ReadError,
    },
    /// Neither superblock slot carries our signature.
    #[error(
        "no metadata at offset {offset}; create-md has not been run, or the device changed size"
    )]
    NoMetadata {
        /// Where slot 0 would be.
        offset: u64,
    },
    /// The area belongs to a newer program.
    #[error("metadata format version {found}, this program reads up to {supported}; upgrade it")]
    FutureVersion {
        /// Version on disk.
        found: u16,
        /// Newest version understood here.
        supported: u16,
    },
    /// There is metadata and neither copy of the superblock is whole.
    #[error("both superblock copies are damaged: {first}; {second}")]
    Damaged {
        /// What is wrong with slot 0.
        first: BlockError,
        /// What is wrong with slot 1.
        second: BlockError,
    },
    /// One copy is whole, but the other may have been a newer, acknowledged one.
    #[error(
        "superblock copy {slot} is damaged ({cause}) and may have been newer than sequence \
         {sequence} in the other copy"
    )]
    NewestUncertain {
        /// The slot that failed.
        slot: u8,
        /// Why.
        cause: BlockError,
        /// Sequence of the newest whole copy.
        sequence: u64,
    },
    /// The two slots were created by different runs of create-md.
    #[error(
        "superblock copies of two areas, device id {first:016x} and {second:016x}; create-md was \
         interrupted"
    )]
    MixedAreas {
        /// Device id in slot 0.
        first: u64,
        /// Device id in slot 1.
        second: u64,
    },
    /// Metadata of another resource.
    #[error("metadata of resource {found:?}, expected {expected:?}")]
    OtherResource {
        /// The configured name.
        expected: String,
        /// The name on disk.
        found: String,
    },
    /// Metadata of another node.
    #[error("metadata of node {found:?}, expected {expected:?}")]
    OtherNode {
        /// The configured name.
        expected: String,
        /// The name on disk.
        found: String,
    },
    /// Metadata of this node under another id.
    #[error("metadata of node-id {found}, expected {expected}")]
    OtherNodeId {
        /// The configured id.
        expected: NodeId,
        /// The id on disk.
        found: NodeId,
    },
    /// Metadata of another volume.
    #[error("metadata of volume {found}, expected {expected}")]
    OtherVolume {
        /// The configured volume.
        expected: VolumeNumber,
        /// The volume on disk.
        found: VolumeNumber,
    },
    /// The area was copied or the configuration points elsewhere.
    #[error(
        "metadata was created {}, found {}", placement(*recorded), placement(*found)
    )]
    OtherPlacement {
        /// Offset in the superblock, `None` when internal.
        recorded: Option<u64>,
        /// Offset it was read from.
        found: Option<u64>,
    },
    /// Metadata of two different areas, at the end of the device and where it ended before.
    #[error(
        "two metadata areas: device id {at_end:016x} at its end, and the one remembered, \
         {remembered:016x}, where it ended when it had {former} bytes"
    )]
    TwoAreas {
        /// Device id at the end.
        at_end: u64,
        /// Device id at the former end.
        remembered: u64,
        /// The former size.
        former: u64,
    },
    /// Internal metadata at the end of a device of another size.
    #[error("metadata was written for a device of {recorded} bytes, this one has {found}")]
    DeviceSize {
        /// Size in the superblock.
        recorded: u64,
        /// Size of this device.
        found: u64,
    },
}

/// Reads and checks a whole area. At most 1 MiB is read at a time.
pub fn open(read: &mut Reader<'_>, inputs: &OpenInputs<'_>) -> Result<Image, OpenError> {
    let head = read_head(read, inputs)?;
    scan::scan(read, head.superblock, head.layout, head.damage)
}

/// What the superblocks of an area say.
struct Head {
    superblock: Superblock,
    layout: Layout,
    damage: Option<Damage>,
}

fn read_head(read: &mut Reader<'_>, inputs: &OpenInputs<'_>) -> Result<Head, OpenError> {
    let slots = read_superblocks(read, inputs.device_bytes, inputs.placement)?;
    head_of(slots, inputs)
}

fn head_of(slots: [SuperblockSlot; 2], inputs: &OpenInputs<'_>) -> Result<Head, OpenError> {
    let (superblock, damage) = superblocks::choose(slots, inputs.accept_older_superblock)?;
    check_identity(&superblock, inputs)?;
    let layout = layout_of(&superblock, inputs)?;
    Ok(Head {
        superblock,
        layout,
        damage,
    })
}

fn check_identity(superblock: &Superblock, inputs: &OpenInputs<'_>) -> Result<(), OpenError> {
    if superblock.resource.as_str() != inputs.resource {
        return Err(OpenError::OtherResource {
            expected: inputs.resource.into(),
            found: superblock.resource.as_str().into(),
        });
    }
    if superblock.node.as_str() != inputs.node {
        return Err(OpenError::OtherNode {
            expected: inputs.node.into(),
            found: superblock.node.as_str().into(),
        });
    }
    if superblock.node_id != inputs.node_id {
        return Err(OpenError::OtherNodeId {
            expected: inputs.node_id,
            found: superblock.node_id,
        });
    }
    if superblock.volume != inputs.volume {
        return Err(OpenError::OtherVolume {
            expected: inputs.volume,
            found: superblock.volume,
        });
    }
    Ok(())
}

/// An external area may find its data device grown: the volume keeps its size until a resize.
fn layout_of(superblock: &Superblock, inputs: &OpenInputs<'_>) -> Result<Layout, OpenError> {
    let found = inputs.placement.recorded_offset();
    if superblock.metadata_offset != found {
        let recorded = superblock.metadata_offset;
        return Err(OpenError::OtherPlacement { recorded, found });
    }
    if inputs.placement == Placement::Internal && superblock.device_bytes != inputs.device_bytes {
        let recorded = superblock.device_bytes;
        return Err(OpenError::DeviceSize {
            recorded,
            found: inputs.device_bytes,
        });
    }
    let (peers, data_bytes) = (superblock.max_peers, superblock.data_bytes);
    Ok(Layout::with_data(
        inputs.device_bytes,
        inputs.placement,
        peers,
        data_bytes,
    )?)
}

fn placement(offset: Option<u64>) -> String {
    offset.map_or_else(
        || "at the end of its own device".into(),
        |offset| alloc::format!("externally at offset {offset}"),
    )
}
