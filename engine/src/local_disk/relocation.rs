//! Metadata on its way from where a disk ended to where it ends now.
//!
//! The new end is cleared, and noted elsewhere beside the former one. All of it is written anew
//! there while the former end still counts; the two superblocks are the commit; then the former
//! ones are made unrecognisable, and it is noted where the metadata is. At every moment one of the
//! two places holds metadata that is whole and true, an attach looks at both however large the disk
//! is by then, and knows which: the new one if it is whole and not older. So nothing is written
//! there before the other place is wiped. When to take which step is the volume's business.

use alloc::vec::Vec;
use core::ops::Range;

use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    BlockAddress, FormerEnd, Layout, LayoutError, Placement, Superblock, encode_bitmap_block,
    encode_intent_block, wipe,
};

use super::LocalDisk;
use crate::bitmap::Words;
use crate::context::{Context, Operation};
use crate::contract::DiskMeasure;

/// A move under way.
#[derive(Clone, Debug)]
pub(super) struct Relocation {
    target: Layout,
    step: RelocationStep,
    in_flight: u32,
    /// From which page on each peer's bitmap is still to be written.
    next: Vec<(NodeId, u32)>,
    growth: Growth,
}

/// What follows the move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// The size the volume is to have.
    pub(crate) bytes: u64,
    /// What is new counts as out of sync.
    pub(crate) dirty: bool,
}

/// What is being written. Before `Holding` the metadata changes as ever where it was, and after
/// `Wiping` where it is; in between nothing else of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelocationStep {
    /// Nothing yet: other housekeeping comes to its end first.
    Waiting,
    /// What may be taken for a superblock at the new end goes.
    Clearing,
    /// It is being noted where the metadata goes, beside where it is.
    Naming,
    /// It is noted.
    Named,
    /// What the bitmaps no longer say is made stable.
    Flushing,
    /// The bitmaps.
    Pages,
    /// Nothing: what is being written at the former end comes to its end.
    Holding,
    /// The write-intent log, with every mark that is wanted.
    Marks,
    /// Both superblocks, in this version: the commit.
    Superblocks {
        /// Durable with them.
        version: u64,
    },
    /// The former superblocks go.
    Wiping,
    /// It is about to be noted where the metadata is.
    Announcing,
    /// It is being noted.
    Noting,
}

impl LocalDisk {
    /// Whether the metadata is at the end of the disk.
    pub(crate) fn is_internal(&self) -> bool {
        self.layout.placement() == Placement::Internal
    }

    /// How much more the disk would have to grow for its metadata to have room beyond its former
    /// end; `None` if the metadata lies where it should.
    pub(crate) fn missing_to_move(&self, found: DiskMeasure) -> Option<u64> {
        if !self.is_internal() || found.device_bytes == self.layout.device_bytes() {
            return None;
        }
        let end = self.layout.device_bytes() / BLOCK * BLOCK;
        let needed = end.saturating_add(self.layout.metadata_bytes());
        Some(needed.saturating_sub(found.device_bytes / BLOCK * BLOCK))
    }

    /// Whether the metadata has to be moved, or to be noted as moved, before the volume grows.
    pub(crate) fn must_relocate(&self) -> bool {
        self.unnoted || self.missing_to_move(self.measure) == Some(0)
    }

    /// Where the move stands, as soon as it can go on: mostly when all that has been started is
    /// durable.
    pub(crate) fn relocation_step(&self) -> Option<RelocationStep> {
        let relocation = self.relocation.as_ref()?;
        let goes_on = relocation.in_flight == 0 || relocation.step == RelocationStep::Pages;
        goes_on.then_some(relocation.step)
    }

    /// Whether the metadata is being moved.
    pub(crate) fn is_relocating(&self) -> bool {
        self.relocation.is_some()
    }

    /// Whether no other metadata may be written in the meantime.
    pub(super) fn is_held(&self) -> bool {
        self.relocation.as_ref().is_some_and(|one| match one.step {
            RelocationStep::Holding
            | RelocationStep::Marks
            | RelocationStep::Superblocks { .. }
            | RelocationStep::Wiping => true,
            RelocationStep::Waiting
            | RelocationStep::Clearing
            | RelocationStep::Naming
            | RelocationStep::Named
            | RelocationStep::Flushing
            | RelocationStep::Pages
            | RelocationStep::Announcing
            | RelocationStep::Noting => false,
        })
    }

    /// The metadata is to be moved, and then the volume to grow.
    pub(crate) fn begin_relocation(&mut self, growth: Growth) -> Result<(), LayoutError> {
        if let Some(relocation) = &mut self.relocation {
            relocation.growth = growth;
            return Ok(());
        }
        let (device, peers) = (self.measure.device_bytes, self.layout.max_peers());
        let bytes = self.size_bytes();
        // Room for the larger size, too: it is not found out only when everything has moved.
        Layout::with_data(device, Placement::Internal, peers, growth.bytes)?;
        let target = Layout::with_data(device, Placement::Internal, peers, bytes)?;
        let step = if self.unnoted {
            RelocationStep::Announcing
        } else {
            RelocationStep::Waiting
        };
        self.relocation = Some(Relocation {
            target,
            step,
            in_flight: 0,
            next: Vec::new(),
            growth,
        });
        Ok(())
    }

    /// Whether this attachment has written all it had to write at first.
    pub(crate) fn is_taken_up(&self) -> bool {
        self.durable > 0 && self.unwritten.is_empty() && self.mend.is_none()
    }

    /// Whether metadata is being written at its former place.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some() || self.intent.is_writing()
    }

    /// Goes on to another step, in which nothing is written yet.
    pub(crate) fn step_relocation(&mut self, step: RelocationStep) {
        if let Some(relocation) = &mut self.relocation {
            relocation.step = step;
        }
    }

    /// The bitmaps of these peers are to be written.
    pub(crate) fn relocate_bitmaps(&mut self, peers: Vec<(NodeId, u32)>) {
        if let Some(relocation) = &mut self.relocation {
            relocation.step = RelocationStep::Pages;
            relocation.next = peers;
        }
    }

    /// The next page to be written of a bitmap of so many pages, if there is one and not too many
    /// are under way.
    pub(crate) fn next_relocated_page(
        &mut self,
        pages: impl Fn(NodeId) -> u32,
    ) -> Option<(NodeId, u32)> {
        let relocation = self.relocation.as_mut()?;
        while relocation.in_flight < PAGES_IN_FLIGHT {
            let (node, page) = relocation.next.last_mut()?;
            if *page < pages(*node) {
                let found = (*node, *page);
                *page += 1;
                return Some(found);
            }
            relocation.next.pop();
        }
        None
    }

    /// Goes on when all bitmaps are durable. Whether they are.
    pub(crate) fn end_pages(&mut self) -> bool {
        let Some(relocation) = &mut self.relocation else {
            return false;
        };
        let is_over = relocation.next.is_empty() && relocation.in_flight == 0;
        if is_over {
            relocation.step = RelocationStep::Holding;
        }
        is_over
    }

    /// Writes a page of a bitmap.
    pub(crate) fn relocate_page<B>(
        &mut self,
        volume: VolumeNumber,
        (node, page): (NodeId, u32),
        words: &Words,
        cx: &mut Context<B>,
    ) {
        let (Some(slot), Some(relocation)) = (self.slot(node), self.relocation.as_mut()) else {
            return;
        };
        self.bitmap_sequence += 1;
        let identity = self.superblock.identity();
        let bytes = encode_bitmap_block(identity, slot, page, words, self.bitmap_sequence);
        let address = BlockAddress::Bitmap {
            peer_slot: slot,
            block: page,
        };
        relocation.in_flight += 1;
        let operation = Operation::Relocation {
            volume,
            attachment: self.attachment,
        };
        cx.meta(operation, relocation.target.offset(address), bytes);
    }

    /// Makes unrecognisable whatever lies where the superblocks go.
    pub(crate) fn clear_new_end<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) {
        self.step_relocation(RelocationStep::Clearing);
        let target = self.relocation.as_ref().map(|one| one.target);
        if let Some(target) = target {
            self.wipe_end_of(target.device_bytes(), volume, cx);
        }
    }

    fn wipe_end_of<B>(&mut self, device_bytes: u64, volume: VolumeNumber, cx: &mut Context<B>) {
        let attachment = self.attachment;
        let (Ok(writes), Some(relocation)) = (
            wipe(device_bytes, Placement::Internal),
            self.relocation.as_mut(),
        ) else {
            return;
        };
        for write in writes {
            relocation.in_flight += 1;
            let operation = Operation::Relocation { volume, attachment };
            cx.meta(operation, write.offset, write.block);
        }
    }

    /// Writes the write-intent log. Both slots of each block hold every mark there is, and those
    /// that are waited for.
    pub(crate) fn relocate_marks<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) {
        self.step_relocation(RelocationStep::Marks);
        let (identity, epoch) = (self.superblock.identity(), self.superblock.attach_epoch);
        let attachment = self.attachment;
        let Some(relocation) = self.relocation.as_mut() else {
            return;
        };
        self.intent.rewrite_all();
        while let Some((block, words)) = self.intent.next_write() {
            let Some(sequence) = usize::try_from(block)
                .ok()
                .and_then(|at| self.intent_sequences.get_mut(at))
            else {
                continue;
            };
            for _ in 0..2 {
                *sequence += 1;
                let (slot, bytes) = encode_intent_block(identity, epoch, block, &words, *sequence);
                let offset = relocation
                    .target
                    .offset(BlockAddress::Intent { block, slot });
                relocation.in_flight += 1;
                cx.meta(Operation::Relocation { volume, attachment }, offset, bytes);
            }
        }
    }

    /// Writes the superblocks, under the sequence of the one that counts: they are as new as that
    /// is, and any later one at the former end would be newer. What was remembered of peers this
    /// resource no longer has did not come along.
    pub(crate) fn relocate_superblocks<B>(
        &mut self,
        (volume, peers): (VolumeNumber, &[NodeId]),
        cx: &mut Context<B>,
    ) {
        self.change(|superblock| {
            for entry in &mut superblock.peers {
                if entry.node_id.is_some_and(|node| !peers.contains(&node)) {
                    entry.flags.full_sync = true;
                }
            }
        });
        let version = self.version;
        self.writing = Some(version);
        self.step_relocation(RelocationStep::Superblocks { version });
        let Some(relocation) = self.relocation.as_mut() else {
            return;
        };
        let newest = self.superblock.sequence;
        for sequence in [newest.saturating_sub(1), newest] {
            let copy = Superblock {
                sequence,
                device_bytes: relocation.target.device_bytes(),
                ..self.superblock.clone()
            };
            relocation.in_flight += 1;
            let operation = Operation::Relocation {
                volume,
                attachment: self.attachment,
            };
            let offset = relocation.target.offset(copy.address());
            cx.meta(operation, offset, copy.encode());
        }
    }

    /// The metadata counts where it is now: it is made unrecognisable where it was.
    pub(crate) fn leave_former_end<B>(
        &mut self,
        version: u64,
        volume: VolumeNumber,
        cx: &mut Context<B>,
    ) {
        let Some(relocation) = &self.relocation else {
            return;
        };
        let target = relocation.target;
        let former = core::mem::replace(&mut self.layout, target);
        self.superblock.device_bytes = target.device_bytes();
        self.superblock_written(version);
        for block in 0..self.intent.block_count() {
            self.intent.written(block);
        }
        let end = former.device_bytes() / BLOCK * BLOCK;
        let start = end.saturating_sub(former.metadata_bytes());
        let start = self
            .left_behind
            .as_ref()
            .map_or(start, |left| left.start.min(start));
        self.left_behind = Some(start..end);
        self.unnoted = true;
        self.step_relocation(RelocationStep::Wiping);
        self.wipe_end_of(former.device_bytes(), volume, cx);
    }

    /// Has it noted where the metadata goes, beside where it is: from its commit on it is there,
    /// however large the disk is when that is looked for.
    pub(crate) fn name_new_end<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) {
        let target = self
            .relocation
            .as_ref()
            .map(|one| one.target.device_bytes());
        self.note_end(RelocationStep::Naming, target, volume, cx);
    }

    /// Has it noted where the metadata is.
    pub(crate) fn announce_end<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) {
        self.note_end(RelocationStep::Noting, None, volume, cx);
    }

    fn note_end<B>(
        &mut self,
        step: RelocationStep,
        moves_to: Option<u64>,
        volume: VolumeNumber,
        cx: &mut Context<B>,
    ) {
        let attachment = self.attachment;
        let Some(relocation) = self.relocation.as_mut() else {
            return;
        };
        relocation.step = step;
        relocation.in_flight += 1;
        let operation = Operation::NoteSize { volume, attachment };
        let end = FormerEnd {
            device_bytes: self.layout.device_bytes(),
            device_id: Some(self.superblock.device_id),
            moves_to,
        };
        cx.note_size(operation, end);
    }

    /// It is noted where the metadata goes, or it cannot be, and the move is given up before
    /// anything of it counts. False if it was something else that was being noted.
    pub(crate) fn end_naming(&mut self, is_noted: bool) -> bool {
        let naming = |one: &&mut Relocation| one.step == RelocationStep::Naming;
        let Some(relocation) = self.relocation.as_mut().filter(naming) else {
            return false;
        };
        relocation.in_flight = 0;
        relocation.step = RelocationStep::Named;
        if !is_noted {
            self.relocation = None;
        }
        true
    }

    /// A block of the metadata is durable where it goes.
    pub(crate) fn relocated_block(&mut self) {
        if let Some(relocation) = &mut self.relocation {
            relocation.in_flight = relocation.in_flight.saturating_sub(1);
        }
    }

    /// The move is over, with all that belongs to it or, as far as nothing is noted, without.
    pub(crate) fn end_relocation(&mut self, noted: bool) -> Option<Growth> {
        let relocation = self.relocation.take()?;
        self.unnoted = !noted;
        noted.then_some(relocation.growth)
    }

    /// The disk is given up in the middle of a move: what is written from here on goes where the
    /// metadata counts. Where both places may count, a superblock at the former end is newer.
    pub(crate) fn abandon_relocation(&mut self) {
        let Some(relocation) = self.relocation.take() else {
            return;
        };
        if let RelocationStep::Superblocks { .. } = relocation.step {
            self.writing = None;
        }
    }

    /// Where metadata lay that the volume covers, now that it has so many bytes.
    pub(crate) fn take_left_behind(&mut self, bytes: u64) -> Option<Range<u64>> {
        let left = self.left_behind.take()?;
        if bytes < left.end {
            self.left_behind = Some(left.start.max(bytes)..left.end);
        }
        Some(left.start.min(bytes)..left.end.min(bytes))
    }

    /// Whether it is known where metadata has lain on this disk that is now part of the volume's
    /// room.
    pub(crate) fn knows_left_behind(&self) -> bool {
        !self.is_internal() || self.left_behind.is_some()
    }
}

/// How many bitmap pages are written at once.
const PAGES_IN_FLIGHT: u32 = 64;

const BLOCK: u64 = rbd_protocol::metadata::BLOCK_BYTES as u64;
