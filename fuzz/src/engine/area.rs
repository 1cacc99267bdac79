//! The metadata area of a volume, in memory: blocks that are there, blocks that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use rbd_engine::{Action, DiskMeasure, DiskRequest, OperationId};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    BLOCK_BYTES, Block, BlockAddress, Creation, Image, Layout, NodeName, OpenError, OpenInputs,
    Placement, ReadError, ResourceName, Superblock, WORDS_PER_PAGE, create, encode_bitmap_block,
    open, required_external_bytes,
};

use crate::input::Input;

/// The resource's name.
pub const RESOURCE: &str = "r0";

/// The names of the two nodes.
pub const NAMES: [&str; 2] = ["alpha", "beta"];

/// How large a volume is, and where its metadata lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Usable bytes.
    pub data_bytes: u64,
    /// The smallest unit of a request.
    pub block_bytes: u32,
    /// The metadata lies behind the data.
    pub is_internal: bool,
}

impl Shape {
    /// One of some sizes: less than a region, several regions, more than a bitmap page.
    pub fn read(input: &mut Input<'_>) -> Self {
        let mode = input.u8();
        // The large one costs most of the time, so it is rare.
        let data_bytes = match (mode & 3, mode & 0x70) {
            (0, _) => 1 << 20,
            (1, _) => (5 << 20) + 4096,
            (2, _) | (3, 0..=0x60) => 12 << 20,
            (_, _) => 160 << 20,
        };
        Self {
            data_bytes,
            block_bytes: if mode & 4 == 0 { 512 } else { 4096 },
            is_internal: mode & 8 != 0,
        }
    }

    /// The bytes of the device that holds the data.
    #[must_use]
    pub fn device_bytes(self) -> u64 {
        if self.is_internal {
            self.data_bytes + required_external_bytes(self.data_bytes, 1)
        } else {
            self.data_bytes
        }
    }

    /// The peer whose bitmap counts on node 0.
    #[must_use]
    pub fn peer(self) -> NodeId {
        NodeId(1)
    }

    /// How large its disks are.
    #[must_use]
    pub fn measure(self) -> DiskMeasure {
        DiskMeasure {
            device_bytes: self.device_bytes(),
            placement: self.placement(),
        }
    }

    fn placement(self) -> Placement {
        if self.is_internal {
            Placement::Internal
        } else {
            Placement::External {
                offset: 0,
                available: required_external_bytes(self.data_bytes, 1),
            }
        }
    }
}

/// Whether a disk operation that succeeds ends in data. Of what need not be given if it is all
/// zero, every second one is.
pub(super) fn gives_data(request: DiskRequest, index: usize) -> bool {
    let if_not_zero = request == DiskRequest::ReadUnlessZero && index.is_multiple_of(2);
    request == DiskRequest::Read || if_not_zero
}

/// Who wants to have noted where metadata is.
pub(super) fn notes<B>(actions: &[Action<B>]) -> Vec<OperationId> {
    let asked = actions.iter().filter_map(|action| match action {
        Action::NoteSize { id, .. } => Some(*id),
        _ => None,
    });
    asked.collect()
}

/// Who wants to know how large a disk is.
pub(super) fn measures<B>(actions: &[Action<B>]) -> Vec<OperationId> {
    let asked = actions.iter().filter_map(|action| match action {
        Action::Measure { id, .. } => Some(*id),
        _ => None,
    });
    asked.collect()
}

/// The metadata area of one volume of one node.
#[derive(Clone, Debug)]
pub struct Area {
    shape: Shape,
    layout: Layout,
    node: u8,
    volume: VolumeNumber,
    blocks: BTreeMap<u64, Box<Block>>,
    /// Blocks the device does not return.
    pub unreadable: BTreeSet<u64>,
}

impl Area {
    /// Fresh metadata, as `create-md` writes it.
    #[must_use]
    pub fn create(shape: Shape, node: u8) -> Self {
        Self::create_with(shape, node, 0, |_| {})
    }

    /// Metadata as it is after `create-md` and what `change` does to the superblock.
    ///
    /// # Panics
    /// If the shape has no room for metadata, which none has.
    #[must_use]
    pub fn create_with(
        shape: Shape,
        node: u8,
        volume: u16,
        change: impl FnOnce(&mut Superblock),
    ) -> Self {
        let layout =
            Layout::with_data(shape.device_bytes(), shape.placement(), 1, shape.data_bytes)
                .expect("every shape has room");
        let name = NAMES[usize::from(node & 1)];
        let mut superblock = Superblock::new(
            Creation {
                resource: ResourceName::new(RESOURCE).expect("short"),
                node: NodeName::new(name).expect("short"),
                node_id: NodeId(node),
                volume: VolumeNumber(volume),
                device_id: 77 + u64::from(node),
                created_at: 0,
            },
            &layout,
        );
        change(&mut superblock);
        let mut blocks: BTreeMap<u64, Box<Block>> = create(&superblock, &layout)
            .map(|write| (write.offset, write.block))
            .collect();
        if !superblock.peers[0].flags.full_sync {
            // Its bitmap counts, so it is there: nothing is dirty.
            for block in 0..layout.bitmap_blocks() {
                let address = BlockAddress::Bitmap {
                    peer_slot: 0,
                    block,
                };
                let clean = [0; WORDS_PER_PAGE];
                let bytes = encode_bitmap_block(superblock.identity(), 0, block, &clean, 1);
                blocks.insert(layout.offset(address), bytes);
            }
        }
        Self {
            shape,
            layout,
            node,
            volume: VolumeNumber(volume),
            blocks,
            unreadable: BTreeSet::new(),
        }
    }

    /// What the area holds.
    ///
    /// # Errors
    /// When the protocol's reader refuses it.
    pub fn open(&self, accept_older_superblock: bool) -> Result<Image, OpenError> {
        let inputs = OpenInputs {
            device_bytes: self.shape.device_bytes(),
            placement: self.shape.placement(),
            resource: RESOURCE,
            node: NAMES[usize::from(self.node & 1)],
            node_id: NodeId(self.node),
            volume: self.volume,
            accept_older_superblock,
        };
        open(&mut |offset, into| self.read(offset, into), &inputs)
    }

    /// Fills the buffer from an absolute offset; what was never written is zero.
    ///
    /// # Errors
    /// When it touches an unreadable block.
    ///
    /// # Panics
    /// When it is asked for something outside the device.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(into.len()).expect("a buffer fits");
        assert!(
            offset + length <= self.metadata_bytes(),
            "read past the end"
        );
        into.fill(0);
        let mut at = 0;
        while at < into.len() {
            let position = offset + u64::try_from(at).expect("a position fits");
            let start = position / BLOCK * BLOCK;
            let skip = usize::try_from(position - start).expect("within a block");
            let count = (BLOCK_BYTES - skip).min(into.len() - at);
            if self.unreadable.contains(&start) {
                return Err(ReadError { code: 5 });
            }
            if let Some(block) = self.blocks.get(&start) {
                into[at..at + count].copy_from_slice(&block[skip..skip + count]);
            }
            at += count;
        }
        Ok(())
    }

    /// The size of the device that holds the metadata.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        if self.shape.is_internal {
            self.shape.device_bytes()
        } else {
            required_external_bytes(self.shape.data_bytes, 1)
        }
    }

    /// Where one of the blocks lies: superblocks, intent log, bitmap.
    #[must_use]
    pub fn block_at(&self, choice: u8) -> u64 {
        let address = match choice % 8 {
            0 | 1 => BlockAddress::Superblock { slot: choice % 8 },
            2 | 3 => BlockAddress::Intent {
                block: 0,
                slot: choice % 2,
            },
            rest => BlockAddress::Bitmap {
                peer_slot: 0,
                block: u32::from(rest) % self.layout.bitmap_blocks(),
            },
        };
        self.layout.offset(address)
    }

    /// The block at this place.
    #[must_use]
    pub fn block(&self, offset: u64) -> Box<Block> {
        let block = self.blocks.get(&offset).cloned();
        block.unwrap_or_else(|| Box::new([0; BLOCK_BYTES]))
    }

    /// Writes a block, which can be read from then on.
    pub fn put(&mut self, offset: u64, block: Box<Block>) {
        self.unreadable.remove(&offset);
        self.blocks.insert(offset, block);
    }

    /// Whether a metadata write may go there.
    #[must_use]
    pub fn has_place(&self, offset: u64) -> bool {
        let start = if self.shape.is_internal {
            self.shape.data_bytes
        } else {
            0
        };
        offset.is_multiple_of(BLOCK) && offset >= start && offset + BLOCK <= self.metadata_bytes()
    }
}

/// Makes a superblock that of a disk which has been in sync with its peer.
pub fn mature(superblock: &mut Superblock, generation: u64, boot: u128) {
    let peer = 1 - superblock.node_id.0;
    superblock.generation = GenerationId(generation);
    superblock.flags.consistent = true;
    superblock.flags.was_up_to_date = true;
    superblock.boot_id = boot;
    let slot = &mut superblock.peers[0];
    slot.node_id = Some(NodeId(peer));
    slot.name = NodeName::new(NAMES[usize::from(peer & 1)]).expect("short");
    slot.flags.full_sync = false;
    slot.flags.seen = true;
}

const BLOCK: u64 = 4096;
