//! What the superblock remembers of each peer.

use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::metadata::PeerSlot;

use super::{LocalDisk, push_history};

impl LocalDisk {
    /// The generation since which the bitmap towards this peer counts.
    pub(crate) fn bitmap_generation(&self, peer: NodeId) -> GenerationId {
        self.entry(peer)
            .map_or(GenerationId::NONE, |entry| entry.bitmap_generation)
    }

    /// From now on the bitmap towards this peer counts since this generation.
    pub(crate) fn set_bitmap_generation(&mut self, peer: NodeId, generation: GenerationId) {
        self.change_peer(peer, |entry| entry.bitmap_generation = generation);
    }

    /// The peer has everything: its bitmap generation becomes history.
    pub(crate) fn forget_bitmap_generation(&mut self, peer: NodeId) {
        let old = self.bitmap_generation(peer);
        self.change_peer(peer, |entry| {
            entry.flags.seen = true;
            entry.bitmap_generation = GenerationId::NONE;
        });
        self.change(|superblock| push_history(superblock, old));
    }

    /// Records whether the peer, synchronising from here, may have adopted the current generation
    /// without this node's knowing.
    pub(crate) fn note_may_have_current(&mut self, peer: NodeId, may: bool) {
        self.change_peer(peer, |entry| entry.flags.may_have_current = may);
    }

    /// Whether the peer may have adopted the current generation: then it does not tell the peer's
    /// data from what is written here without it.
    pub(crate) fn may_have_current(&self, peer: NodeId) -> bool {
        self.entry(peer)
            .is_some_and(|entry| entry.flags.may_have_current)
    }

    /// Records whether this peer's data is durably known to be behind or out of use.
    pub(crate) fn note_peer_outdated(&mut self, peer: NodeId, outdated: bool) {
        self.change_peer(peer, |entry| entry.flags.peer_outdated = outdated);
    }

    /// Whether this peer is remembered as Outdated.
    pub(crate) fn is_peer_outdated(&self, peer: NodeId) -> bool {
        self.entry(peer)
            .is_some_and(|entry| entry.flags.peer_outdated)
    }

    /// Records whether the fence handler may have done something to this peer that has not been
    /// taken back.
    pub(crate) fn note_fenced(&mut self, peer: NodeId, fenced: bool) {
        self.change_peer(peer, |entry| entry.flags.fenced = fenced);
    }

    /// Whether the fence handler may have done something to this peer.
    pub(crate) fn is_fenced(&self, peer: NodeId) -> bool {
        self.entry(peer).is_some_and(|entry| entry.flags.fenced)
    }

    /// The bitmap on disk towards this peer does not count: everything is out of sync.
    pub(crate) fn set_full_sync(&mut self, peer: NodeId, full: bool) {
        self.change_peer(peer, |entry| entry.flags.full_sync = full);
    }

    /// Whether the bitmap on disk towards this peer does not count.
    pub(crate) fn is_full_sync(&self, peer: NodeId) -> bool {
        self.entry(peer).is_some_and(|entry| entry.flags.full_sync)
    }

    fn entry(&self, peer: NodeId) -> Option<&PeerSlot> {
        let slot = self.superblock.peer_slot_of(peer)?;
        self.superblock.peers.get(usize::from(slot))
    }

    fn change_peer(&mut self, peer: NodeId, change: impl FnOnce(&mut PeerSlot)) {
        let Some(slot) = self.slot(peer) else { return };
        if let Some(entry) = self.superblock.peers.get_mut(usize::from(slot)) {
            let before = entry.clone();
            change(entry);
            self.version += u64::from(*entry != before);
        }
    }
}
