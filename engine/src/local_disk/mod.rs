//! The local disk of a volume as the engine sees it: its metadata as it should be, and how much of
//! that is durable.
//!
//! The superblock is a value that is changed in memory and written as a whole, one write at a time;
//! each change gets a *version*, and whoever must not go on before it is durable asks
//! [`LocalDisk::is_durable`]. The write-intent log likewise has at most one write per block under
//! way. Nothing here decides when to change what.

mod attach;
mod counting;
mod peers;
mod relocation;
mod size;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use rbd_protocol::control::WriteCache;
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    BlockAddress, Image, Layout, PeerBitmap, Superblock, encode_bitmap_block, encode_intent_block,
};
use rbd_protocol::state::DiskState;

use crate::bitmap::{Bitmap, Words};
use crate::context::{Context, Operation};
use crate::contract::{AttachedDisk, DiskMeasure, Time};
use crate::intent::IntentLog;
use attach::{reads_true, region_range, superblock_counts, take_slot, take_up, unwritten_blocks};
use relocation::Relocation;
pub(crate) use relocation::{Growth, RelocationStep};

/// One attached disk.
#[derive(Clone, Debug)]
pub(crate) struct LocalDisk {
    layout: Layout,
    block_bytes: u32,
    write_cache: WriteCache,
    superblock: Superblock,
    /// Counts changes of `superblock`.
    version: u64,
    /// The version being written.
    writing: Option<u64>,
    durable: u64,
    /// The one that says in which boot the disk was in sync.
    boot_version: u64,
    /// Names this attachment, so that completions of an earlier one are told apart.
    pub(crate) attachment: u64,
    pub(crate) intent: IntentLog,
    intent_sequences: Vec<u64>,
    /// Blocks of the intent log still to be written under this attachment's epoch, and how often:
    /// one whose slots were damaged is written twice, so that both are good again.
    unwritten: BTreeMap<u32, u8>,
    bitmap_sequence: u64,
    crashed_primary: bool,
    boot: u128,
    kept_power: bool,
    was_clean: bool,
    reads_true: bool,
    /// What to write first over a copy of the superblock that a crash has left torn: the state as
    /// it was found, under the sequence before it. Were the next write torn as well, it would
    /// otherwise leave a mix of two writes under one sequence, which proves nothing.
    mend: Option<Box<Superblock>>,
    /// How large the disk is, as last looked at.
    measure: DiskMeasure,
    /// Its metadata is on its way to the end of the disk as it is now.
    relocation: Option<Relocation>,
    /// Metadata lay here until it was moved, and the volume has not yet grown over it.
    left_behind: Option<Range<u64>>,
    /// The metadata has been moved, and where to is not yet noted elsewhere.
    unnoted: bool,
}

/// Why a disk cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// The metadata has no room for another peer's bitmap.
    NoPeerSlot,
    /// A peer's name does not fit the metadata.
    PeerName,
}

impl LocalDisk {
    /// Takes a disk, and tells what each peer may lack according to it: what its bitmap says, and
    /// every region in which writes may have been in flight.
    pub(crate) fn attach(
        disk: AttachedDisk,
        peers: &[(NodeId, &str)],
        boot: u128,
        attachment: u64,
        now: Time,
    ) -> Result<(Self, BTreeMap<NodeId, Bitmap>), AttachError> {
        let Image {
            mut superblock,
            layout,
            hot_regions,
            intent_sequences,
            peers: found,
            damage,
            bitmap_sequence,
            ..
        } = *disk.image;
        let data_bytes = superblock.data_bytes;
        let mut bitmaps = BTreeMap::new();
        for (node, name) in peers {
            let slot = take_slot(&mut superblock, *node, name)?;
            let mut bitmap = Bitmap::new(data_bytes);
            match found.get(usize::from(slot)) {
                Some(PeerBitmap::Pages(pages)) if superblock_counts(&superblock, slot) => {
                    for (page, words) in pages {
                        bitmap.merge_page(*page, words, true);
                    }
                }
                _ => bitmap.set_all(),
            }
            for region in hot_regions.iter().cloned().flatten() {
                bitmap.set_touched(region_range(region, data_bytes));
            }
            bitmaps.insert(*node, bitmap);
        }
        let hot = hot_regions
            .into_iter()
            .flatten()
            .filter_map(|region| u32::try_from(region).ok());
        let intent = IntentLog::new(data_bytes, hot, now);
        let crashed_primary = superblock.flags.primary;
        let reads_true = reads_true(&superblock, boot);
        let (kept_power, was_clean) = take_up(&mut superblock, boot);
        let torn = damage
            .iter()
            .any(|damage| matches!(damage.at, BlockAddress::Superblock { .. }));
        let mend = torn.then(|| {
            Box::new(Superblock {
                sequence: superblock.sequence.saturating_sub(1),
                ..superblock.clone()
            })
        });
        let unwritten = unwritten_blocks(intent.block_count(), &damage);
        let mut local = Self {
            measure: DiskMeasure {
                device_bytes: disk.device_bytes,
                placement: layout.placement(),
            },
            relocation: None,
            left_behind: None,
            unnoted: false,
            layout,
            block_bytes: disk.block_bytes,
            write_cache: disk.write_cache,
            superblock,
            version: 1,
            writing: None,
            durable: 0,
            boot_version: 0,
            attachment,
            intent,
            intent_sequences,
            unwritten,
            bitmap_sequence,
            crashed_primary,
            boot,
            kept_power,
            was_clean,
            reads_true,
            mend,
        };
        local.intent.rewrite_all();
        Ok((local, bitmaps))
    }

    /// Smallest unit the disk can write.
    pub(crate) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// What the disk says of its cache.
    pub(crate) fn write_cache(&self) -> WriteCache {
        self.write_cache
    }

    /// The data's current generation.
    pub(crate) fn current(&self) -> GenerationId {
        self.superblock.generation
    }

    /// Whether the data has never been declared good.
    pub(crate) fn is_fresh(&self) -> bool {
        !self.current().names_data()
    }

    /// Earlier generations, newest first.
    pub(crate) fn history(&self) -> Vec<GenerationId> {
        self.superblock
            .history
            .iter()
            .copied()
            .filter(|id| !id.is_none())
            .collect()
    }

    /// This node was Primary when it was last interrupted.
    pub(crate) fn crashed_primary(&self) -> bool {
        self.crashed_primary
    }

    /// The host has not been booted since this disk was last in sync, so nothing it had then was
    /// lost with a cache.
    pub(crate) fn kept_power(&self) -> bool {
        self.kept_power
    }

    /// Nothing this disk had when it was last in sync can have been lost with a cache.
    pub(crate) fn holds_what_it_had(&self) -> bool {
        self.kept_power || self.was_clean
    }

    /// What can be read from this disk will be on its medium after the next flush.
    pub(crate) fn reads_true(&self) -> bool {
        self.reads_true
    }

    /// What this disk had acknowledged may be gone, as after a loss of power, and stays gone
    /// however orderly the machine is shut down from now on.
    pub(crate) fn note_lost_cache(&mut self) {
        self.kept_power = false;
        self.was_clean = false;
        self.reads_true = false;
        self.change(|superblock| superblock.boot_id = 0);
    }

    /// This disk is in sync with a peer in this boot of the host.
    pub(crate) fn note_boot(&mut self) {
        self.kept_power = true;
        self.reads_true = true;
        if self.superblock.boot_id != self.boot {
            let boot = self.boot;
            self.change(|superblock| superblock.boot_id = boot);
            self.boot_version = self.version;
        }
    }

    /// Whether this node, were it to die now, would find that this disk has kept its power since.
    pub(crate) fn boot_is_recorded(&self) -> bool {
        self.is_durable(self.boot_version)
    }

    /// The state the disk is in when no peer has been seen.
    pub(crate) fn state_alone(&self) -> DiskState {
        let flags = self.superblock.flags;
        // A peer that was brought up to date from here may have gone on alone since (G2).
        let knows_itself_newest = self
            .superblock
            .peers
            .iter()
            .any(|peer| !peer.bitmap_generation.is_none() && !peer.flags.may_have_current);
        let has_peers = self
            .superblock
            .peers
            .iter()
            .any(|peer| peer.node_id.is_some());
        if self.is_fresh() || !flags.consistent {
            DiskState::Inconsistent
        } else if flags.outdated {
            DiskState::Outdated
        } else if flags.was_up_to_date && (knows_itself_newest || !has_peers) {
            DiskState::UpToDate
        } else {
            DiskState::Consistent
        }
    }

    /// The newest version of the superblock.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether this version of the superblock, or a later one, is durable.
    pub(crate) fn is_durable(&self, version: u64) -> bool {
        self.durable >= version
    }

    /// Whether everything in the superblock is durable.
    pub(crate) fn is_settled(&self) -> bool {
        let is_written = self.is_durable(self.version) && self.unwritten.is_empty();
        is_written && self.relocation.is_none()
    }

    fn change(&mut self, change: impl FnOnce(&mut Superblock)) {
        let before = self.superblock.clone();
        change(&mut self.superblock);
        if self.superblock != before {
            self.version += 1;
        }
    }

    /// Makes this the current generation; the old one becomes history unless it was a reserved one.
    pub(crate) fn begin_generation(&mut self, generation: GenerationId) {
        self.change(|superblock| {
            let old = superblock.generation;
            superblock.generation = generation;
            if old != generation {
                push_history(superblock, old);
            }
        });
    }

    /// Whatever a crash left undecided has been decided with the peer.
    pub(crate) fn note_interruption_settled(&mut self, is_primary: bool) {
        self.crashed_primary = false;
        self.record_primary(is_primary);
    }

    /// Records what of the disk's state outlives a restart.
    pub(crate) fn record_disk_state(&mut self, state: DiskState) {
        self.change(|superblock| {
            let flags = &mut superblock.flags;
            match state {
                DiskState::UpToDate => {
                    flags.consistent = true;
                    flags.was_up_to_date = true;
                    flags.outdated = false;
                }
                DiskState::Outdated => {
                    flags.consistent = true;
                    flags.outdated = true;
                }
                DiskState::Inconsistent => flags.consistent = false,
                DiskState::Consistent => flags.consistent = true,
                DiskState::Diskless
                | DiskState::Attaching
                | DiskState::Detaching
                | DiskState::Failed
                | DiskState::Negotiating
                | DiskState::DUnknown => {}
            }
        });
    }

    /// Records whether this node is Primary.
    pub(crate) fn record_primary(&mut self, primary: bool) {
        self.change(|superblock| superblock.flags.primary = primary);
    }

    /// Records that nothing is in flight and everything is flushed (C8).
    pub(crate) fn record_clean(&mut self) {
        self.change(|superblock| superblock.flags.clean_shutdown = true);
    }

    fn slot(&self, peer: NodeId) -> Option<u8> {
        self.superblock.peer_slot_of(peer)
    }

    /// Starts the metadata writes that are wanted and not under way. Returns how many blocks of
    /// the intent log are among them.
    pub(crate) fn start_metadata<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) -> u64 {
        if self.is_held() {
            return 0;
        }
        let started = self.start_intent(volume, cx);
        // The first superblock of an attachment announces its epoch, so it waits for every block of
        // the intent log to have been written under it.
        if self.writing.is_none()
            && let Some(found) = self.mend.take()
        {
            self.writing = Some(0);
            let operation = Operation::Superblock {
                volume,
                attachment: self.attachment,
                version: 0,
            };
            cx.meta(
                operation,
                self.layout.offset(found.address()),
                found.encode(),
            );
        }
        if self.writing.is_none() && self.durable < self.version && self.unwritten.is_empty() {
            self.writing = Some(self.version);
            self.superblock.sequence += 1;
            if self.durable == 0 {
                self.superblock.attach_epoch += 1;
            }
            let offset = self.layout.offset(self.superblock.address());
            let operation = Operation::Superblock {
                volume,
                attachment: self.attachment,
                version: self.version,
            };
            cx.meta(operation, offset, self.superblock.encode());
        }
        started
    }

    fn start_intent<B>(&mut self, volume: VolumeNumber, cx: &mut Context<B>) -> u64 {
        let announced = self.durable > 0 || self.writing.is_some_and(|version| version > 0);
        let epoch = self.superblock.attach_epoch + u64::from(!announced);
        let mut started = 0;
        while let Some((block, words)) = self.intent.next_write() {
            let Some(sequence) = usize::try_from(block)
                .ok()
                .and_then(|at| self.intent_sequences.get_mut(at))
            else {
                continue;
            };
            *sequence += 1;
            let identity = self.superblock.identity();
            let (slot, bytes) = encode_intent_block(identity, epoch, block, &words, *sequence);
            let offset = self.layout.offset(BlockAddress::Intent { block, slot });
            let operation = Operation::Intent {
                volume,
                attachment: self.attachment,
                block,
            };
            cx.meta(operation, offset, bytes);
            started += 1;
        }
        started
    }

    /// A version of the superblock has become durable.
    pub(crate) fn superblock_written(&mut self, version: u64) {
        self.writing = None;
        self.durable = self.durable.max(version);
    }

    /// A block of the intent log has become durable.
    pub(crate) fn intent_written(&mut self, block: u32) {
        self.intent.written(block);
        match self.unwritten.get_mut(&block) {
            Some(times) if *times > 1 => {
                *times -= 1;
                self.intent.rewrite(block);
            }
            Some(_) => {
                self.unwritten.remove(&block);
            }
            None => {}
        }
    }

    /// Writes one page of the bitmap towards a peer.
    pub(crate) fn save_page<B>(
        &mut self,
        volume: VolumeNumber,
        peer: NodeId,
        page: u32,
        words: &Words,
        cx: &mut Context<B>,
    ) {
        let Some(slot) = self.slot(peer) else { return };
        self.bitmap_sequence += 1;
        let identity = self.superblock.identity();
        let bytes = encode_bitmap_block(identity, slot, page, words, self.bitmap_sequence);
        let address = BlockAddress::Bitmap {
            peer_slot: slot,
            block: page,
        };
        let operation = Operation::BitmapPage {
            volume,
            attachment: self.attachment,
            peer,
            page,
        };
        cx.meta(operation, self.layout.offset(address), bytes);
    }
}

fn push_history(superblock: &mut Superblock, generation: GenerationId) {
    let known = superblock.history.contains(&generation);
    if generation.is_none() || generation == GenerationId::JUST_CREATED || known {
        return;
    }
    superblock.history.rotate_right(1);
    if let Some(first) = superblock.history.first_mut() {
        *first = generation;
    }
}
