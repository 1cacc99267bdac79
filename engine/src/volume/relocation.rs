//! Moves metadata to the end of a disk that has grown, one step after the other.
//!
//! Clients go on writing. Up to the write-intent log nothing of what they need is held back; from
//! there to the end, a few small writes, those wait that need another mark. No checkpoint runs
//! meanwhile, so that every block that becomes dirty after its page was written stays marked.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};

use super::checkpoint::{may_save, words_to_save};
use super::{BarrierPurpose, Checkpoint, Volume};
use crate::context::Context;
use crate::contract::{DiskError, Level};
use crate::local_disk::{LocalDisk, RelocationStep};
use crate::peer_device::PeerDevice;

impl<B: Clone> Volume<B> {
    /// Lets a move go on as far as it can.
    pub(super) fn advance_relocation(&mut self, cx: &mut Context<B>) {
        while let Some(step) = self.local.as_ref().and_then(LocalDisk::relocation_step) {
            if !self.take_relocation_step(step, cx) {
                return;
            }
        }
    }

    /// Whether there may be another step at once.
    fn take_relocation_step(&mut self, step: RelocationStep, cx: &mut Context<B>) -> bool {
        let number = self.number;
        let all_may_save = self.peers.values().all(|peer| may_save(peer.replication));
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        let Some(local) = &mut self.local else {
            return false;
        };
        match step {
            RelocationStep::Waiting => {
                let may_begin =
                    local.is_taken_up() && all_may_save && self.checkpoint == Checkpoint::Idle;
                if may_begin {
                    local.clear_new_end(number, cx);
                }
                false
            }
            RelocationStep::Clearing => {
                local.name_new_end(number, cx);
                false
            }
            RelocationStep::Named => {
                if self.checkpoint == Checkpoint::Idle {
                    local.step_relocation(RelocationStep::Flushing);
                    self.checkpoint = Checkpoint::Relocating;
                    self.start_barrier(BarrierPurpose::Checkpoint, cx);
                }
                false
            }
            RelocationStep::Naming | RelocationStep::Flushing => false,
            RelocationStep::Pages => self.relocate_pages(cx),
            RelocationStep::Holding if !all_may_save => {
                // What it clears from here on is not stable: from the beginning, later.
                local.step_relocation(RelocationStep::Waiting);
                false
            }
            RelocationStep::Holding => {
                let is_quiet = !local.is_writing();
                if is_quiet {
                    local.relocate_marks(number, cx);
                }
                false
            }
            RelocationStep::Marks => {
                local.relocate_superblocks((number, &nodes), cx);
                false
            }
            RelocationStep::Superblocks { version } => {
                local.leave_former_end(version, number, cx);
                false
            }
            RelocationStep::Wiping => {
                local.step_relocation(RelocationStep::Announcing);
                true
            }
            RelocationStep::Announcing => {
                local.announce_end(number, cx);
                false
            }
            RelocationStep::Noting => false,
        }
    }

    /// Everything that the bitmaps do not say any more is stable.
    pub(super) fn relocation_flushed(&mut self) {
        let all = self.peers.keys().map(|node| (*node, 0)).collect();
        if let Some(local) = &mut self.local {
            local.relocate_bitmaps(all);
        }
    }

    /// Whether all pages are durable.
    fn relocate_pages(&mut self, cx: &mut Context<B>) -> bool {
        let Some(local) = &mut self.local else {
            return false;
        };
        let peers = &mut self.peers;
        let pages = |peers: &Peers, node| {
            let peer = peers.get(&node);
            peer.map_or(0, |peer| peer.bitmap.page_count())
        };
        while let Some((node, page)) = local.next_relocated_page(|node| pages(peers, node)) {
            let Some(peer) = peers.get_mut(&node) else {
                continue;
            };
            let words = words_to_save(peer, page);
            local.relocate_page(self.number, (node, page), &words, cx);
            self.counters.bitmap_writes += 1;
        }
        local.end_pages()
    }

    /// It is noted where the metadata is, or it cannot be: then the volume does not grow over where
    /// it was.
    pub(crate) fn size_noted(
        &mut self,
        attachment: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        let Some(local) = &mut self.local else { return };
        if local.attachment != attachment {
            return;
        }
        self.unsettled = true;
        self.checkpoint_wanted = true;
        let number = self.number;
        if local.end_naming(result.is_ok()) {
            if result.is_err() {
                let text = "metadata stays where it is, because it cannot be remembered outside \
                            of the disk where it goes: the volume does not grow";
                cx.report(Level::Error, None, Some(number), text);
            }
            return;
        }
        let growth = local.end_relocation(result.is_ok());
        let Some(growth) = growth else {
            let text = "metadata has moved to the end of the disk, but that cannot be remembered \
                        outside of it: the volume does not grow";
            cx.report(Level::Error, None, Some(number), text);
            return;
        };
        cx.report(
            Level::Info,
            None,
            Some(number),
            "metadata has moved to the end of the disk",
        );
        if let Err(error) = self.resize(growth.bytes, growth.dirty, cx) {
            let text = alloc::format!("does not grow to {} bytes: {error}", growth.bytes);
            cx.report(Level::Error, None, Some(number), text);
        }
    }

    /// Metadata lay here. It is no data, and another node's was elsewhere, whatever else may be
    /// taken for clean.
    pub(super) fn mark_left_behind(&mut self, bytes: u64) {
        let left = self
            .local
            .as_mut()
            .and_then(|local| local.take_left_behind(bytes));
        let Some(left) = left else { return };
        for peer in self.peers.values_mut() {
            let mut at = left.start;
            while at < left.end {
                let length = u32::try_from(left.end - at).unwrap_or(PIECE).min(PIECE);
                peer.bitmap.set_touched(ByteRange::new(at, length));
                at += u64::from(length);
            }
        }
    }
}

type Peers = BTreeMap<NodeId, PeerDevice>;

/// Bytes marked at once.
const PIECE: u32 = 1 << 30;
