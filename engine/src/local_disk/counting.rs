//! Under which circumstances a peer was left behind: what policies and people ask about a split
//! brain. No write waits for it, and nothing of it decides what is copied.

use rbd_protocol::ids::NodeId;

use super::LocalDisk;

impl LocalDisk {
    /// Records who this node was, and when it was, as the bitmap towards this peer began to count.
    pub(crate) fn note_counting(&mut self, peer: NodeId, was_primary: bool, since: u64) {
        let Some(slot) = self.slot(peer) else { return };
        self.change(|superblock| {
            if let Some(entry) = superblock.peers.get_mut(usize::from(slot)) {
                entry.flags.was_primary = was_primary;
                entry.counted_since = since;
            }
        });
    }

    /// Whether this node was Primary when the bitmap towards this peer began to count, and when
    /// that was, in seconds since 1970.
    pub(crate) fn counting(&self, peer: NodeId) -> (bool, u64) {
        self.slot(peer)
            .and_then(|slot| self.superblock.peers.get(usize::from(slot)))
            .map_or((false, 0), |entry| {
                (entry.flags.was_primary, entry.counted_since)
            })
    }
}
