//! What two Primaries had under way when they lost sight of each other is done again by the one
//! that the other's disk is filled from, and never twice (F7): between the two, clients may have
//! read it and written something newer.

use alloc::vec::Vec;

use rbd_protocol::ids::NodeId;

use super::write::Leg;
use super::{Barrier, BarrierPurpose, Requester, Volume};
use crate::context::Context;

/// How many of a peer's writes are remembered: more than it may have in flight.
const REMEMBERED: usize = 1024;

impl<B: Clone> Volume<B> {
    /// This Primary's disk is to be filled from a peer that is Primary too, after a link was lost:
    /// what was under way is done again there. What it has done of that already, it knows.
    pub(super) fn turn_to_server(&mut self, node: NodeId, cx: &Context<B>) {
        // What it has acknowledged and not made durable, clients here have seen: should it lose its
        // power, they are not to be served from what is left.
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.crossing.allowed
        {
            peer.remote_written += 1;
        }
        let own = |write: &super::Write<B>| write.started && write.local != Leg::Lost;
        for (id, write) in self.writes.iter_mut().filter(|(_, write)| own(write)) {
            if let Some(local) = &mut self.local {
                local.intent.leave(write.range, cx.now);
            }
            write.started = false;
            write.local = Leg::Pending;
            write.sequence = 0;
            write.legs.clear();
            self.waiting_writes.insert(*id);
        }
        for id in self.frozen.take_reads() {
            self.waiting_reads.insert(id);
        }
        let own = |barrier: &Barrier| !barrier.is_asked();
        let barriers: Vec<u64> = self
            .barriers
            .iter()
            .filter(|(_, barrier)| own(barrier))
            .filter(|(_, barrier)| {
                matches!(
                    barrier.purpose,
                    BarrierPurpose::Client(Requester::Client(_))
                )
            })
            .map(|(id, _)| *id)
            .collect();
        for id in barriers {
            if let Some(BarrierPurpose::Client(requester)) =
                self.barriers.remove(&id).map(|barrier| barrier.purpose)
            {
                self.keep_flush(requester);
            }
        }
        self.unsettled = true;
    }

    /// Whether something is under way that a client of this node asked for.
    pub(super) fn has_clients_requests(&self) -> bool {
        let is_client = |requester: Requester| matches!(requester, Requester::Client(_));
        let flushes = |barrier: &Barrier| match barrier.purpose {
            BarrierPurpose::Client(requester) => is_client(requester),
            _ => false,
        };
        self.writes.values().any(|write| is_client(write.requester))
            || self.reads.values().any(|read| is_client(read.requester))
            || self.barriers.values().any(flushes)
    }

    /// Whether this peer may be Primary at the same time.
    pub(crate) fn is_shared_with(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node);
        peer.is_some_and(|peer| peer.crossing.allowed)
    }

    /// Remembers what has been done for a peer: should its answer be lost with the link, it will be
    /// asked for again, and must not undo what has been written since.
    pub(super) fn note_done_for(&mut self, node: NodeId, id: u64) {
        if !self.is_shared_with(node) {
            return;
        }
        if self.done_for_peer.len() >= REMEMBERED {
            self.done_for_peer.pop_front();
        }
        self.done_for_peer.push_back((node, id));
    }

    /// The peer has come up anew, or its role has changed: it asks for nothing of old.
    pub(crate) fn forget_done_for(&mut self, node: NodeId) {
        self.done_for_peer.retain(|(of, _)| *of != node);
    }

    pub(super) fn was_done_for(&self, requester: Requester) -> bool {
        let Requester::Peer { node, id, .. } = requester else {
            return false;
        };
        self.done_for_peer.contains(&(node, id))
    }
}
