//! A peer's copy goes out of reach: everything it may lack is marked, at once and in one step.

use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, ReplicationState};

use super::Told;
use super::Volume;
use super::write::Leg;
use crate::context::Context;
use crate::peer_device::Source;

impl<B: Clone> Volume<B> {
    /// The link to the peer is gone, or its disk is: writes on their way to it are marked, as are
    /// those it had acknowledged and not made durable (A2, B5), and if there are any, a new
    /// generation begins before anything more is completed (A2, D6).
    pub(crate) fn lose_peer(&mut self, node: NodeId, peer_disk: DiskState, cx: &mut Context<B>) {
        self.end_target_unheard(node, cx);
        self.take_over_unheard(node);
        self.lose_server(node, peer_disk, cx);
        self.lose_mender(node);
        self.forget_errands(node);
        self.interrupt_verify(node);
        let pending: alloc::vec::Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, write)| write.legs.contains(&(node, Leg::Pending)))
            .map(|(id, _)| *id)
            .collect();
        let any_pending = !pending.is_empty();
        for id in pending {
            self.peer_write_lost(id, node);
        }
        self.peer_flush_lost(node);
        self.forget_counts(node);
        self.settle_without(node, cx);
        self.forget_peer_writes(node);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let any_written_unstable = peer.mark_unstable_dirty();
        // What it was sent for its own clients while it was being filled tells nobody apart: it is
        // Inconsistent, or has flushed all of that and ended the resync unheard.
        let is_filled = peer.source.fills_primary;
        peer.may_be_whole |= peer.is_resync_source();
        peer.replication = ReplicationState::Off;
        peer.peer_disk = peer_disk;
        peer.handshaking = false;
        peer.source = Source::default();
        if let Some(target) = peer.target.take() {
            peer.left_out = target.left_out;
        }
        peer.takes_note = None;
        peer.pauses.peer = false;
        peer.told = Told::default();
        peer.pace.forget_told();
        if self.local.is_none() {
            // Should that peer lose its power, clients would miss what they were told is written.
            peer.remote_written += u64::from(any_written_unstable);
        } else if (any_pending || any_written_unstable) && !is_filled {
            peer.lacks_writes = true;
            if self.frozen.fencing {
                self.owe_generation();
            } else {
                self.leave_absent_peers_behind(cx);
            }
        }
        self.unsettled = true;
    }

    /// The disk of a Primary has failed. Whatever can still be read from it later, this copy is the
    /// one that has everything: a new generation says so, also after a restart (B4, H2).
    pub(crate) fn outlive_primary(&mut self, cx: &mut Context<B>) {
        if self.disk == DiskState::UpToDate {
            self.leave_absent_peers_behind(cx);
        }
    }
}
