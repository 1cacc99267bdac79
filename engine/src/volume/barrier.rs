//! A flush, for a client or for housekeeping: what it waits for, and what it proves.
//!
//! A barrier is done when the local disk and every peer that holds the newest data have made
//! durable all they had acknowledged (B1). What a peer has made durable need not be marked when its
//! link is lost (B5).

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;

use super::write::Leg;
use super::{Requester, Volume, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, LinkId, RequestError, RequestId, Time};

/// Whom a barrier serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierPurpose {
    /// A client's flush, or a peer's for its clients.
    Client(Requester),
    /// Bounding what a peer may lose, and clearing marks.
    Checkpoint,
    /// A Primary is about to become Secondary.
    Demotion,
    /// A Primary is about to let its peer go.
    Parting,
    /// The end of a resync at the target.
    ResyncEnd(NodeId),
}

/// A flush under way.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub(crate) purpose: BarrierPurpose,
    local: Leg,
    legs: Vec<(NodeId, Leg, u64)>,
    /// The peer that serves makes durable what it has done; there is no disk here.
    remote: bool,
    pub(crate) since: Time,
}

impl Barrier {
    /// Whether it is the peer that serves which is to flush.
    pub(super) fn is_asked(&self) -> bool {
        self.remote
    }

    /// Whether this peer has not said that it has flushed.
    pub(super) fn waits_for(&self, node: NodeId) -> bool {
        let mut legs = self.legs.iter();
        legs.any(|(peer, leg, _)| *peer == node && *leg == Leg::Pending)
    }
}

impl<B: Clone> Volume<B> {
    /// A client wants everything completed so far to be durable.
    pub(crate) fn accept_flush(&mut self, request: RequestId, cx: &mut Context<B>) {
        if let Err(error) = self.check_client(None) {
            cx.complete(request, Err(error));
            return;
        }
        let requester = Requester::Client(request);
        if self.is_held() {
            self.keep_flush(requester);
            return;
        }
        self.start_barrier(BarrierPurpose::Client(requester), cx);
    }

    /// Starts a barrier on the local disk and on every peer that is written to or read from.
    pub(crate) fn start_barrier(&mut self, purpose: BarrierPurpose, cx: &mut Context<B>) -> u64 {
        let for_clients = matches!(
            purpose,
            BarrierPurpose::Client(_) | BarrierPurpose::Demotion
        );
        if for_clients
            && !self.has_own_data()
            && let Some((node, link)) = self.server()
        {
            return self.start_remote_barrier(purpose, (node, link), cx);
        }
        let id = cx.name();
        let mut legs = Vec::new();
        for peer in self.peers.values() {
            let shares = peer.is_mirrored() || peer.target.is_some();
            if let Some(link) = peer.link.filter(|_| shares) {
                legs.push((peer.node, Leg::Pending, peer.next_unstable));
                cx.send(
                    peer.node,
                    link,
                    Packet::Flush {
                        id,
                        volume: self.number,
                    },
                    None,
                );
            } else {
                // It has nothing to flush, but must be durably behind before a client is answered.
                legs.push((peer.node, Leg::Lost, 0));
            }
        }
        let barrier = Barrier {
            purpose,
            local: Leg::Pending,
            legs,
            remote: false,
            since: cx.now,
        };
        self.barriers.insert(id, barrier);
        let operation = Operation::Barrier {
            volume: self.number,
            barrier: id,
        };
        cx.disk(operation, DiskRequest::Flush, ByteRange::new(0, 0), None);
        id
    }

    fn start_remote_barrier(
        &mut self,
        purpose: BarrierPurpose,
        (node, link): (NodeId, LinkId),
        cx: &mut Context<B>,
    ) -> u64 {
        let (id, volume) = (cx.name(), self.number);
        let written = self.peers.get(&node).map_or(0, |peer| peer.remote_written);
        let barrier = Barrier {
            purpose,
            local: Leg::Lost,
            legs: alloc::vec![(node, Leg::Pending, written)],
            remote: true,
            since: cx.now,
        };
        self.barriers.insert(id, barrier);
        cx.send(node, link, Packet::RemoteFlush { id, volume }, None);
        id
    }

    /// The peer that serves has made durable what it had done until it was asked to.
    pub(super) fn remote_flush_done(&mut self, id: u64, node: NodeId, cx: &mut Context<B>) {
        let Some(barrier) = self.barriers.get_mut(&id).filter(|barrier| barrier.remote) else {
            return;
        };
        let Some(leg) = barrier.legs.iter_mut().find(|leg| leg.0 == node) else {
            return;
        };
        leg.1 = Leg::Done;
        let stable = leg.2;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.remote_stable = peer.remote_stable.max(stable);
        }
        self.try_finish_barrier(id, cx);
    }

    /// The local disk has been flushed, or could not be: then it is no longer trusted (B4).
    pub(crate) fn local_flush_done(
        &mut self,
        id: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        if let Err(error) = result {
            self.fail_flush(describe(error), cx);
            return;
        }
        if let Some(barrier) = self.barriers.get_mut(&id) {
            barrier.local = Leg::Done;
        }
        self.try_finish_barrier(id, cx);
    }

    /// The peer has made durable what it had acknowledged when the barrier started.
    pub(crate) fn peer_flush_acked(&mut self, id: u64, node: NodeId, cx: &mut Context<B>) -> bool {
        let Some(barrier) = self.barriers.get_mut(&id) else {
            return false;
        };
        let Some((_, leg, stable)) = barrier.legs.iter_mut().find(|(peer, ..)| *peer == node)
        else {
            return false;
        };
        if *leg != Leg::Pending {
            return false; // given up for lost, and what that means has been recorded
        }
        *leg = Leg::Done;
        let stable = *stable;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.retire_unstable(stable);
        }
        self.try_finish_barrier(id, cx);
        true
    }

    /// The peer is gone or its disk has failed: what it had not made durable has been marked.
    pub(crate) fn peer_flush_lost(&mut self, node: NodeId) {
        for barrier in self.barriers.values_mut() {
            for (peer, leg, _) in &mut barrier.legs {
                if *peer == node && *leg == Leg::Pending {
                    *leg = Leg::Lost;
                }
            }
        }
        self.unsettled = true;
    }

    /// Ends barriers that waited for something other than their own legs.
    pub(crate) fn finish_barriers(&mut self, cx: &mut Context<B>) {
        let ids: Vec<u64> = self.barriers.keys().copied().collect();
        for id in ids {
            self.try_finish_barrier(id, cx);
        }
    }

    fn try_finish_barrier(&mut self, id: u64, cx: &mut Context<B>) {
        let Some(barrier) = self.barriers.get(&id) else {
            return;
        };
        let pending =
            barrier.local == Leg::Pending || barrier.legs.iter().any(|leg| leg.1 == Leg::Pending);
        let remote = barrier.remote;
        if pending {
            return;
        }
        // A peer lost on the way must be durably behind before a client's flush is answered.
        let recorded = barrier
            .legs
            .iter()
            .all(|(node, leg, _)| *leg != Leg::Lost || self.loss_is_recorded(*node));
        // A flush says of all writes so far that they are safe, also of those a peer lacks that is
        // back meanwhile, or was away before the flush began (B1).
        let recorded = recorded
            && self
                .peers
                .values()
                .all(|peer| !peer.lacks_writes || self.loss_is_recorded(peer.node));
        let recorded = match barrier.purpose {
            BarrierPurpose::Client(requester) => recorded || self.is_for_nobody(requester),
            _ => recorded,
        };
        let recorded = recorded || remote;
        let is_client = matches!(barrier.purpose, BarrierPurpose::Client(_));
        if is_client && self.is_frozen() {
            return;
        }
        let is_of_peer = match barrier.purpose {
            BarrierPurpose::Client(requester) => requester.peer().is_some(),
            _ => false,
        };
        let failing = self.frozen.failing && !is_of_peer;
        if is_client && !recorded && !failing && self.local.is_some() {
            self.leave_absent_peers_behind(cx);
            return;
        }
        let Some(barrier) = self.barriers.remove(&id) else {
            return;
        };
        let local_failed = !remote && (barrier.local == Leg::Lost || self.local.is_none());
        match barrier.purpose {
            BarrierPurpose::Client(requester) => {
                let result = if failing {
                    Err(RequestError::NotPrimary)
                } else if local_failed {
                    Err(RequestError::Io)
                } else {
                    Ok(None)
                };
                self.answer(requester, ByteRange::new(0, 0), result, cx);
            }
            BarrierPurpose::Checkpoint => self.checkpoint_flushed(barrier.since),
            BarrierPurpose::ResyncEnd(node) => {
                if !local_failed {
                    self.resync_target_flushed(node, cx);
                }
            }
            BarrierPurpose::Demotion | BarrierPurpose::Parting => {}
        }
        self.unsettled = true;
    }
}
