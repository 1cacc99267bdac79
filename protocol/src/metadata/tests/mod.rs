//! A device in memory and the volume most tests put on it.

#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of hot regions often have one entry"
)]

extern crate std;

mod attaching;
mod damage;
mod fields;
mod golden;
mod layout;
mod moved;
mod noted;
mod opening;
mod probing;
mod scattered;
mod superblocks;

use super::*;
use crate::ids::{GenerationId, NodeId, VolumeNumber};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Sparse, 4 KiB blocks, zeros where nothing was written; counts what it is asked.
#[derive(Clone, Default)]
struct Device {
    bytes: u64,
    blocks: BTreeMap<u64, Box<Block>>,
    unreadable: Vec<u64>,
    longest_read: usize,
    reads: u64,
}

impl Device {
    fn of(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    fn write(&mut self, write: Write) {
        assert!(write.offset.is_multiple_of(4096) && write.offset + 4096 <= self.bytes);
        self.blocks.insert(write.offset, write.block);
    }

    fn block(&self, offset: u64) -> Box<Block> {
        self.blocks
            .get(&offset)
            .cloned()
            .unwrap_or_else(empty_block)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.longest_read = self.longest_read.max(buffer.len());
        self.reads += 1;
        let end = offset + buffer.len() as u64;
        assert!(offset.is_multiple_of(4096), "unaligned read at {offset}");
        assert!(end <= self.bytes, "read past the end at {offset}");
        if self
            .unreadable
            .iter()
            .any(|bad| (offset..end).contains(bad))
        {
            return Err(ReadError { code: 5 });
        }
        buffer.fill(0);
        for (at, block) in self.blocks.range(offset..end) {
            let from = usize::try_from(at - offset).unwrap();
            let length = (buffer.len() - from).min(BLOCK_BYTES);
            buffer[from..from + length].copy_from_slice(&block[..length]);
        }
        Ok(())
    }

    fn open(&mut self, inputs: &OpenInputs<'_>) -> Result<Image, OpenError> {
        open(&mut |offset, buffer| self.read(offset, buffer), inputs)
    }
}

/// Twenty MiB: one intent block; one bitmap block per peer.
const SMALL: u64 = 20 << 20;

fn creation() -> Creation {
    Creation {
        resource: ResourceName::new("r0").unwrap(),
        node: NodeName::new("alpha").unwrap(),
        node_id: NodeId(0),
        volume: VolumeNumber(0),
        device_id: 0xD0D0,
        created_at: 1_700_000_000,
    }
}

fn inputs(device_bytes: u64, placement: Placement) -> OpenInputs<'static> {
    OpenInputs {
        device_bytes,
        placement,
        resource: "r0",
        node: "alpha",
        node_id: NodeId(0),
        volume: VolumeNumber(0),
        accept_older_superblock: false,
    }
}

/// A volume as it stands after its initial sync: peers in slots 0 and 1, all bits clear, no marks.
struct Volume {
    device: Device,
    superblock: Superblock,
    layout: Layout,
}

impl Volume {
    fn in_sync(device_bytes: u64) -> Self {
        let layout = Layout::new(device_bytes, Placement::Internal, 2, None).unwrap();
        let mut volume = Self {
            device: Device::of(device_bytes),
            superblock: Superblock::new(creation(), &layout),
            layout,
        };
        for write in create(&volume.superblock, &layout) {
            volume.device.write(write);
        }
        for slot in 0..2 {
            let peer = &mut volume.superblock.peers[usize::from(slot)];
            peer.node_id = Some(NodeId(slot + 1));
            peer.flags = PeerFlags {
                seen: true,
                ..PeerFlags::default()
            };
            for block in 0..layout.bitmap_blocks() {
                volume.write_bitmap(slot, block, &[0; WORDS_PER_PAGE], 1);
            }
        }
        volume.superblock.generation = GenerationId(0xA1);
        volume.write_superblock();
        volume.superblock.generation = GenerationId(0xA2);
        volume.write_superblock();
        volume
    }

    fn write_superblock(&mut self) {
        self.superblock.sequence += 1;
        let offset = self.layout.offset(self.superblock.address());
        self.device.write(Write {
            offset,
            block: self.superblock.encode(),
        });
    }

    fn write_bitmap(&mut self, peer_slot: u8, block: u32, words: &BitPage, sequence: u64) {
        let identity = self.superblock.identity();
        let bytes = encode_bitmap_block(identity, peer_slot, block, words, sequence);
        let offset = self
            .layout
            .offset(BlockAddress::Bitmap { peer_slot, block });
        self.device.write(Write {
            offset,
            block: bytes,
        });
    }

    fn write_intent(&mut self, block: u32, words: &BitPage, epoch: u64, sequence: u64) {
        let identity = self.superblock.identity();
        let (slot, bytes) = encode_intent_block(identity, epoch, block, words, sequence);
        let offset = self.layout.offset(BlockAddress::Intent { block, slot });
        self.device.write(Write {
            offset,
            block: bytes,
        });
    }

    fn open(&mut self) -> Result<Image, OpenError> {
        let inputs = inputs(self.device.bytes, Placement::Internal);
        self.device.open(&inputs)
    }

    fn offset(&self, address: BlockAddress) -> u64 {
        self.layout.offset(address)
    }

    fn damage(&mut self, address: BlockAddress, damage: impl FnOnce(&mut Block)) {
        let offset = self.offset(address);
        let mut block = self.device.block(offset);
        damage(&mut block);
        self.device.write(Write { offset, block });
    }
}

fn page(bits: &[u64]) -> BitPage {
    let mut words = [0; WORDS_PER_PAGE];
    for bit in bits {
        words[usize::try_from(bit / 64).unwrap()] |= 1 << (bit % 64);
    }
    words
}

fn dirty_bits(bitmap: &PeerBitmap) -> Option<u64> {
    match bitmap {
        PeerBitmap::Everything => None,
        PeerBitmap::Pages(pages) => Some(
            pages
                .values()
                .flat_map(|words| words.iter())
                .map(|w| u64::from(w.count_ones()))
                .sum(),
        ),
    }
}
