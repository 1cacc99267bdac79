//! Housekeeping: when marks may leave the write-intent log and bits the bitmap on disk.
//!
//! A checkpoint is a barrier on the local disk and the peers, then the bitmap pages that changed,
//! then the log without the regions nothing has used since before the barrier. So a mark leaves
//! only when all of its writes are stable here and, on each peer, either stable or durably marked
//! dirty (B9); and a dirty bit leaves the disk only when the block is stable on both sides (B10).
//! A lighter one, the barrier alone, bounds what a peer that loses power may have lost (B5).

use alloc::vec::Vec;

use rbd_protocol::ids::NodeId;
use rbd_protocol::state::ReplicationState;

use super::{BarrierPurpose, Volume, elapsed_ms};
use crate::bitmap::{Words, page_of, set_in_copy};
use crate::context::Context;
use crate::contract::{DiskError, Time};
use crate::peer_device::PeerDevice;

/// How long acknowledged writes may stay unstable on a peer.
const UNSTABLE_MS: u64 = 1_000;

/// How many of them there may be at most, and on the way there: later writes wait (B5). What a peer
/// loses with its power is at most this much to copy again.
const UNSTABLE_LIMIT: usize = 1_000;

/// How many of them may be unstable before a barrier is started at once: early enough that it is
/// over before writes have to wait.
const UNSTABLE_MANY: usize = UNSTABLE_LIMIT / 2;

/// How often marks and pages are looked through.
const INTERVAL_MS: u64 = 5_000;

/// How long a region stays marked after its last write, so that a workload that comes back to it
/// pays no metadata write.
const IDLE_MS: u64 = 30_000;

/// How many bitmap pages are written at once.
const PAGES_IN_FLIGHT: u32 = 64;

/// Where housekeeping stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// Nothing is under way.
    #[default]
    Idle,
    /// The barrier alone.
    Light,
    /// The barrier of a full checkpoint.
    Flushing { regions: Vec<u32>, last: bool },
    /// Bitmap pages are being written.
    Saving {
        regions: Vec<u32>,
        since: Time,
        in_flight: u32,
        next: Vec<(NodeId, u32)>,
        last: bool,
    },
    /// The barrier before the bitmaps are written at another place.
    Relocating,
    /// The log is being written without the regions; only the last checkpoint waits for it.
    Cooling,
    /// The last checkpoint before the disk is let go is done.
    Done,
}

impl<B: Clone> Volume<B> {
    /// Does the housekeeping that is due; `full` for all of it.
    pub(crate) fn tick_checkpoint(&mut self, full: bool, hot_limit: u32, cx: &mut Context<B>) {
        if self.checkpoint != Checkpoint::Idle || self.local.is_none() {
            return;
        }
        if full && self.start_full_checkpoint(hot_limit, cx) {
            return;
        }
        if self.peers.values().any(|peer| !peer.unstable.is_empty()) {
            self.checkpoint = Checkpoint::Light;
            self.start_barrier(BarrierPurpose::Checkpoint, cx);
        }
    }

    /// Starts a barrier early when too much is unstable.
    pub(crate) fn bound_unstable(&mut self, cx: &mut Context<B>) {
        if self.checkpoint == Checkpoint::Idle
            && self.local.is_some()
            && self
                .peers
                .values()
                .any(|peer| peer.unstable.len() >= UNSTABLE_MANY)
        {
            self.checkpoint = Checkpoint::Light;
            self.start_barrier(BarrierPurpose::Checkpoint, cx);
        }
    }

    /// Whether as many writes as may be are unstable on a peer, or may soon be.
    pub(crate) fn is_unstable_full(&self) -> bool {
        let started = self.writes.len().saturating_sub(self.waiting_writes.len());
        let full = |peer: &PeerDevice| peer.unstable_writes + started >= UNSTABLE_LIMIT;
        self.peers.values().any(full)
    }

    fn start_full_checkpoint(&mut self, hot_limit: u32, cx: &mut Context<B>) -> bool {
        let Some(local) = self.local.as_ref().filter(|local| !local.is_relocating()) else {
            return false;
        };
        let before = Time(cx.now.0.saturating_sub(IDLE_MS * 1_000_000));
        let regions = local.intent.idle(before, hot_limit);
        if regions.is_empty() && !self.has_pages_to_save() {
            return false;
        }
        self.checkpoint = Checkpoint::Flushing {
            regions,
            last: false,
        };
        self.start_barrier(BarrierPurpose::Checkpoint, cx);
        true
    }

    /// Starts the last checkpoint, which clears every mark. Nothing may be in flight.
    pub(crate) fn start_last_checkpoint(&mut self, cx: &mut Context<B>) {
        let Some(local) = &self.local else {
            self.checkpoint = Checkpoint::Done;
            return;
        };
        let regions = local.intent.idle(Time(u64::MAX), 0);
        self.checkpoint = Checkpoint::Flushing {
            regions,
            last: true,
        };
        self.start_barrier(BarrierPurpose::Checkpoint, cx);
    }

    fn has_pages_to_save(&self) -> bool {
        self.peers
            .values()
            .any(|peer| may_save(peer.replication) && peer.bitmap.has_unsaved())
            || self
                .peers
                .values()
                .any(|peer| self.full_sync_is_over(peer.node))
    }

    fn full_sync_is_over(&self, node: NodeId) -> bool {
        let saved = self
            .peers
            .get(&node)
            .is_some_and(|peer| !peer.bitmap.has_unsaved());
        saved
            && self
                .local
                .as_ref()
                .is_some_and(|local| local.is_full_sync(node))
    }

    /// The barrier of a checkpoint is done.
    pub(crate) fn checkpoint_flushed(&mut self, since: Time) {
        match core::mem::take(&mut self.checkpoint) {
            Checkpoint::Flushing { regions, last } => {
                let next = self
                    .peers
                    .values()
                    .filter(|peer| may_save(peer.replication))
                    .map(|peer| (peer.node, 0))
                    .collect();
                let since = if last { Time(u64::MAX) } else { since };
                self.checkpoint = Checkpoint::Saving {
                    regions,
                    since,
                    in_flight: 0,
                    next,
                    last,
                };
            }
            Checkpoint::Relocating => self.relocation_flushed(),
            Checkpoint::Light | Checkpoint::Idle => {}
            other @ (Checkpoint::Saving { .. } | Checkpoint::Cooling | Checkpoint::Done) => {
                self.checkpoint = other;
            }
        }
        self.unsettled = true;
    }

    /// Lets a checkpoint go on.
    pub(crate) fn advance_checkpoint(&mut self, cx: &mut Context<B>) {
        self.finish_barriers(cx);
        if self.checkpoint == Checkpoint::Idle && core::mem::take(&mut self.checkpoint_wanted) {
            self.start_full_checkpoint(u32::MAX, cx);
        }
        match &mut self.checkpoint {
            Checkpoint::Saving { .. } => self.save_pages(cx),
            Checkpoint::Cooling => {
                let busy = self
                    .local
                    .as_ref()
                    .is_some_and(|local| local.intent.is_busy());
                if !busy {
                    self.checkpoint = Checkpoint::Done;
                }
            }
            Checkpoint::Idle
            | Checkpoint::Light
            | Checkpoint::Relocating
            | Checkpoint::Flushing { .. }
            | Checkpoint::Done => {}
        }
        // Writes may be waiting for room that only a barrier makes.
        self.bound_unstable(cx);
    }

    fn save_pages(&mut self, cx: &mut Context<B>) {
        let Checkpoint::Saving {
            regions,
            since,
            mut in_flight,
            mut next,
            last,
        } = core::mem::take(&mut self.checkpoint)
        else {
            return;
        };
        let Some(local) = &mut self.local else { return };
        while in_flight < PAGES_IN_FLIGHT {
            let Some((node, from)) = next.last().copied() else {
                break;
            };
            let Some(peer) = self.peers.get_mut(&node) else {
                next.pop();
                continue;
            };
            if !may_save(peer.replication) {
                next.pop(); // this node has become the target of a resync in the meantime
                continue;
            }
            let Some(page) = peer.bitmap.next_unsaved(from) else {
                next.pop();
                continue;
            };
            if let Some(entry) = next.last_mut() {
                entry.1 = page + 1;
            }
            let words = words_to_save(peer, page);
            local.save_page(self.number, node, page, &words, cx);
            self.counters.bitmap_writes += 1;
            in_flight += 1;
        }
        if in_flight > 0 || !next.is_empty() {
            self.checkpoint = Checkpoint::Saving {
                regions,
                since,
                in_flight,
                next,
                last,
            };
            return;
        }
        // What only a page that must not be written yet would still say stays in the log.
        let all_saved = self
            .peers
            .values()
            .all(|peer| may_save(peer.replication) || !peer.bitmap.has_unsaved());
        if all_saved {
            local.intent.cool(&regions, since);
        }
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            if self.full_sync_is_over(node)
                && let Some(local) = &mut self.local
            {
                local.set_full_sync(node, false);
            }
        }
        self.checkpoint = if last {
            Checkpoint::Cooling
        } else {
            Checkpoint::Idle
        };
        self.unsettled = true;
    }

    /// A bitmap page has been written, or could not be.
    pub(crate) fn page_saved(
        &mut self,
        node: NodeId,
        page: u32,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        if let Checkpoint::Saving { in_flight, .. } = &mut self.checkpoint {
            *in_flight = in_flight.saturating_sub(1);
        }
        if let Err(error) = result {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.bitmap.note_unsaved(page);
            }
            self.fail_flush(super::describe(error), cx);
        }
        self.unsettled = true;
    }

    /// When housekeeping is next due, given when it was last looked at and last looked at in full.
    pub(crate) fn next_checkpoint(&self, last: Time, last_full: Time) -> Option<Time> {
        let local = self.local.as_ref()?;
        if self.peers.values().any(|peer| !peer.unstable.is_empty()) {
            Some(last.plus_ms(UNSTABLE_MS))
        } else if local.intent.hot_count() > 0 || self.has_pages_to_save() {
            Some(
                last_full
                    .plus_ms(INTERVAL_MS)
                    .max(last.plus_ms(UNSTABLE_MS)),
            )
        } else {
            None
        }
    }
}

/// Whether a look at what is unstable is due.
pub(crate) fn is_due(now: Time, last: Time) -> bool {
    elapsed_ms(now, last) >= UNSTABLE_MS
}

/// Whether a full look is due.
pub(crate) fn is_full_due(now: Time, last_full: Time) -> bool {
    elapsed_ms(now, last_full) >= INTERVAL_MS
}

/// What a page says that is about to be written.
pub(super) fn words_to_save(peer: &mut PeerDevice, page: u32) -> Words {
    let mut words = peer.bitmap.page(page);
    peer.bitmap.note_saving(page);
    // What the peer has acknowledged and not made durable stays marked on disk (B5, B10).
    for range in peer.unstable.iter().map(|entry| entry.range) {
        if page_of(range.offset) <= page && page <= page_of(range.end()) {
            set_in_copy(&mut words, page, range);
            peer.saved_with_unstable.insert(page);
        }
    }
    words
}

/// A target keeps its bits on disk until the resync is over: what it has written is not flushed.
pub(super) fn may_save(replication: ReplicationState) -> bool {
    !matches!(
        replication,
        ReplicationState::WFBitMapT | ReplicationState::SyncTarget
    )
}

#[cfg(test)]
mod tests;
