//! Reads the intent log and the bitmaps of an area whose superblock was accepted, in block order,
//! and turns whatever does not verify into hot regions and dirty bits.

use super::{Damage, Effect, Image, OpenError, PeerBitmap};
use crate::metadata::bitmap::{clear_from, decode_bitmap_block};
use crate::metadata::intent::{SlotState, newest};
use crate::metadata::layout::{BITS_PER_BLOCK, BlockAddress, Layout};
use crate::metadata::{BLOCK_BYTES, BitPage, BlockError, Reader, Superblock, WORDS_PER_PAGE};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

pub(super) fn scan(
    read: &mut Reader<'_>,
    superblock: Superblock,
    layout: Layout,
    damage: Option<Damage>,
) -> Result<Image, OpenError> {
    let peers: Vec<PeerBitmap> = superblock
        .peers
        .iter()
        .take(layout.max_peers().into())
        .map(|peer| match peer.node_id {
            Some(_) if !peer.flags.full_sync => PeerBitmap::Pages(BTreeMap::new()),
            _ => PeerBitmap::Everything,
        })
        .collect();
    let some_bitmap_counts = peers.iter().any(|peer| *peer != PeerBitmap::Everything);
    let image = Image {
        superblock,
        layout,
        hot_regions: Vec::new(),
        intent_sequences: Vec::new(),
        peers,
        bitmap_sequence: 0,
        damage: damage.into_iter().collect(),
    };
    let mut scan = Scan {
        image,
        first_slot: None,
        unreadable: 0,
    };
    if some_bitmap_counts {
        scan.run(read, layout.intent_number(0)..layout.block_count())?;
    } else {
        for block in 0..layout.intent_blocks() {
            let first = layout.intent_number(block);
            scan.run(read, first..first + 2)?;
        }
    }
    Ok(scan.image)
}

struct Scan {
    image: Image,
    /// Slot 0 of the intent block whose slot 1 comes next.
    first_slot: Option<SlotState>,
    unreadable: usize,
}

impl Scan {
    fn run(&mut self, read: &mut Reader<'_>, numbers: Range<u64>) -> Result<(), OpenError> {
        let mut buffer = Vec::new();
        let mut first = numbers.start;
        while first < numbers.end {
            let count = CHUNK_BLOCKS.min(numbers.end - first);
            let bytes = usize::try_from(count).expect("at most 256 blocks") * BLOCK_BYTES;
            if buffer.len() != bytes {
                buffer = vec![0; bytes];
            }
            let (offset, reversed) = self.image.layout.run(first, count);
            match read(offset, &mut buffer) {
                Ok(()) if reversed => self.visit(first, buffer.rchunks_exact(BLOCK_BYTES)),
                Ok(()) => self.visit(first, buffer.chunks_exact(BLOCK_BYTES)),
                Err(_) => self.run_singly(read, first..first + count)?,
            }
            first += count;
        }
        Ok(())
    }

    fn visit<'b>(&mut self, first: u64, blocks: impl Iterator<Item = &'b [u8]>) {
        for (number, bytes) in (first..).zip(blocks) {
            self.take(number, Ok(bytes));
        }
    }

    /// A long read failed: find the blocks that are to blame. Past a limit the device is.
    fn run_singly(&mut self, read: &mut Reader<'_>, numbers: Range<u64>) -> Result<(), OpenError> {
        let mut bytes = vec![0; BLOCK_BYTES];
        for number in numbers {
            let (offset, _) = self.image.layout.run(number, 1);
            match read(offset, &mut bytes) {
                Ok(()) => self.take(number, Ok(&bytes)),
                Err(source) => {
                    self.unreadable += 1;
                    if self.unreadable > MOST_UNREADABLE {
                        return Err(OpenError::Read { offset, source });
                    }
                    self.take(number, Err(BlockError::Unreadable(source)));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, number: u64, bytes: Result<&[u8], BlockError>) {
        match self.image.layout.address(number) {
            Some(BlockAddress::Intent { block, slot }) => self.take_intent(block, slot, bytes),
            Some(BlockAddress::Bitmap { peer_slot, block }) => {
                self.take_bitmap(peer_slot, block, bytes);
            }
            Some(BlockAddress::Superblock { .. }) | None => {}
        }
    }

    fn take_intent(&mut self, block: u32, slot: u8, bytes: Result<&[u8], BlockError>) {
        let (identity, epoch) = (
            self.image.superblock.identity(),
            self.image.superblock.attach_epoch,
        );
        let state = match bytes {
            Ok(bytes) => SlotState::read(bytes, identity, block, slot, epoch),
            Err(cause) => SlotState::Unknown(cause),
        };
        if slot == 0 {
            self.first_slot = Some(state);
            return;
        }
        let first = self
            .first_slot
            .take()
            .expect("slot 0 is numbered just before slot 1");
        self.image
            .intent_sequences
            .push(first.sequence().max(state.sequence()));
        let start = u64::from(block) * BITS_PER_BLOCK;
        let valid = BITS_PER_BLOCK.min(self.image.layout.regions() - start);
        match newest(first, state) {
            Ok(mut words) => {
                clear_from(&mut words, valid);
                for bit in set_bits(&words) {
                    add_range(&mut self.image.hot_regions, start + bit..start + bit + 1);
                }
            }
            Err(cause) => {
                add_range(&mut self.image.hot_regions, start..start + valid);
                let at = BlockAddress::Intent { block, slot: 0 };
                self.add_damage(at, cause, Effect::RegionsHot);
            }
        }
    }

    fn take_bitmap(&mut self, peer_slot: u8, block: u32, bytes: Result<&[u8], BlockError>) {
        let identity = self.image.superblock.identity();
        let bits = self.image.layout.bits();
        let Some(PeerBitmap::Pages(pages)) = self.image.peers.get_mut(usize::from(peer_slot))
        else {
            return;
        };
        let valid = bits - u64::from(block) * BITS_PER_BLOCK;
        match bytes.and_then(|bytes| decode_bitmap_block(bytes, identity, peer_slot, block)) {
            Ok((sequence, mut words)) => {
                clear_from(&mut words, valid);
                if words.iter().any(|word| *word != 0) {
                    pages.insert(block, words);
                }
                self.image.bitmap_sequence = self.image.bitmap_sequence.max(sequence);
            }
            Err(cause) => {
                let mut words: Box<BitPage> = Box::new([u64::MAX; WORDS_PER_PAGE]);
                clear_from(&mut words, valid);
                pages.insert(block, words);
                self.add_damage(
                    BlockAddress::Bitmap { peer_slot, block },
                    cause,
                    Effect::BlocksDirty,
                );
            }
        }
    }

    /// Consecutive damaged blocks share an entry; the peers' blocks come interleaved.
    fn add_damage(&mut self, at: BlockAddress, cause: BlockError, effect: Effect) {
        let recent = self.image.damage.iter_mut().rev().take(RECENT_DAMAGE);
        for damage in recent {
            if follows(damage, at) {
                damage.blocks += 1;
                return;
            }
        }
        self.image.damage.push(Damage {
            at,
            blocks: 1,
            cause,
            effect,
        });
    }
}

fn follows(damage: &Damage, at: BlockAddress) -> bool {
    match (damage.at, at) {
        (BlockAddress::Intent { block, .. }, BlockAddress::Intent { block: next, .. }) => {
            block + damage.blocks == next
        }
        (
            BlockAddress::Bitmap { peer_slot, block },
            BlockAddress::Bitmap {
                peer_slot: same,
                block: next,
            },
        ) => peer_slot == same && block + damage.blocks == next,
        (
            BlockAddress::Superblock { .. }
            | BlockAddress::Intent { .. }
            | BlockAddress::Bitmap { .. },
            _,
        ) => false,
    }
}

/// Ranges arrive in ascending order.
fn add_range(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn set_bits(words: &BitPage) -> impl Iterator<Item = u64> {
    (0_u64..).zip(words.iter()).flat_map(|(index, word)| {
        let mut rest = *word;
        core::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(index * 64 + u64::from(bit))
        })
    })
}

/// Blocks read at once: 1 MiB.
const CHUNK_BLOCKS: u64 = 256;

/// Single unreadable blocks that are survived; with more the device is to be given up.
const MOST_UNREADABLE: usize = 256;

/// Enough for one open entry per peer slot and one for the intent log.
const RECENT_DAMAGE: usize = 32;
