//! A disk, or a peer, that does not answer (`disk-timeout`).
//!
//! It is let go of, as after an error, but only where somebody else has the data: to let go of the
//! only copy would help nobody, and a disk that hangs may go on. What it still does counts no more
//! (H6).

use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, Role};

use super::Volume;
use super::write::Leg;
use crate::context::Context;
use crate::contract::Time;
use crate::peer_device::PeerDevice;

impl<B: Clone> Volume<B> {
    /// Since when the oldest write or flush sent to the peer has waited for its answer.
    pub(crate) fn oldest_unanswered(&self, node: NodeId) -> Option<Time> {
        let writes = self.writes.values();
        let writes = writes
            .filter(|write| write.legs.contains(&(node, Leg::Pending)))
            .map(|write| write.since);
        let barriers = self.barriers.values();
        let barriers = barriers
            .filter(|barrier| barrier.waits_for(node))
            .map(|barrier| barrier.since);
        let reads = self.reads.values();
        let reads = reads
            .filter(|read| read.remote == Some(node))
            .map(|read| read.since);
        let compared = self.verify_unanswered(node);
        writes.chain(barriers).chain(reads).chain(compared).min()
    }

    /// When the disk has been silent for too long.
    pub(crate) fn disk_due(&self, cx: &Context<B>) -> Option<Time> {
        let limit = self.config.on_disk_trouble.timeout_ms;
        if limit == 0 || self.local.is_none() || !self.can_do_without_disk() {
            return None;
        }
        let since = cx.oldest_on(self.number)?;
        Some(since.plus_ms(u64::from(limit)))
    }

    /// Lets go of a disk that has been silent for too long.
    pub(crate) fn check_disk(&mut self, cx: &mut Context<B>) {
        if self.disk_due(cx).is_some_and(|due| due <= cx.now) {
            let seconds = f64::from(self.config.on_disk_trouble.timeout_ms) / 1000.0;
            self.fail_disk(&alloc::format!("no answer for {seconds} s"), cx);
        }
    }

    /// Whether clients, of this node or of the peer, go on without this disk.
    fn can_do_without_disk(&self) -> bool {
        let is_there =
            |peer: &PeerDevice| peer.link.is_some() && peer.peer_disk == DiskState::UpToDate;
        if self.role == Role::Primary && self.has_own_data() {
            return self.peers.values().any(|peer| self.is_whole(peer));
        }
        self.peers.values().any(is_there)
    }
}
