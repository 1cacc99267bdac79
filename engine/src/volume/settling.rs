//! What a client has read must be on every disk (B8), also what a peer that is Primary too has
//! written: it may not be on the peer's own disk yet, or still on its way to this one. Such a read
//! is answered when it is on both.
//!
//! Nothing is asked that the counts of later writes have told meanwhile. The answer waits for the
//! peer's disk only, so no wait goes in a circle (F3, F5).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::Role;

use super::Volume;
use crate::context::Context;
use crate::contract::RequestError;

/// Reads that have been done and not been answered.
pub(crate) type Unsettled<B> = BTreeMap<u64, (Option<B>, NodeId, u64)>;

impl<B: Clone> Volume<B> {
    /// Keeps the answer of a read back if the peer's disk may lack what it shows. Else gives it
    /// back.
    pub(super) fn await_settling(
        &mut self,
        id: u64,
        data: Option<B>,
        cx: &mut Context<B>,
    ) -> Result<(), Option<B>> {
        let Some(read) = self.reads.get(&id) else {
            return Err(data);
        };
        let range = read.range;
        let found = self.peers.values().find_map(|peer| {
            let mut recent = peer.crossing.recent.iter().rev();
            let recent = recent.find(|(_, recent)| recent.range.overlaps(range));
            Some((peer.node, recent.map(|(count, _)| *count)?))
        });
        let pending = self.peer_writes.values();
        let pending = pending.filter(|other| other.sequence > 0 && other.range.overlaps(range));
        let pending = pending.map(|other| (other.peer, other.sequence));
        let Some((node, count)) = pending.chain(found).max_by_key(|(_, count)| *count) else {
            return Err(data);
        };
        self.unsettled_reads.insert(id, (data, node, count));
        self.ask_to_settle(node, cx);
        Ok(())
    }

    /// Whether this read shows nothing of the first so many of the peer's writes that is not on
    /// both disks.
    fn is_settled(&self, id: u64, node: NodeId, count: u64) -> bool {
        let Some(range) = self.reads.get(&id).map(|read| read.range) else {
            return true;
        };
        !self.peer_lacks(range, node, count)
            && !self.peer_writes.values().any(|other| {
                other.sequence > 0 && other.sequence <= count && other.range.overlaps(range)
            })
    }

    fn peer_lacks(&self, range: ByteRange, node: NodeId, count: u64) -> bool {
        self.peers.get(&node).is_some_and(|peer| {
            let mut recent = peer.crossing.recent.range(..=count);
            recent.any(|(_, recent)| recent.range.overlaps(range))
        })
    }

    fn ask_to_settle(&mut self, node: NodeId, cx: &mut Context<B>) {
        let volume = self.number;
        let is_needed = self.unsettled_reads.iter().any(|(id, (_, of, count))| {
            let range = self.reads.get(id).map(|read| read.range);
            *of == node && range.is_some_and(|range| self.peer_lacks(range, node, *count))
        });
        let is_needed = is_needed || self.has_long_books(node);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let crossing = &mut peer.crossing;
        // One question at a time.
        let Some(link) = peer.link.filter(|_| is_needed && !crossing.is_asking) else {
            return;
        };
        crossing.is_asking = true;
        crossing.asked = crossing.received;
        let id = crossing.asked;
        cx.send(node, link, Packet::Settle { id, volume }, None);
    }

    /// Asks what the peer's disk has when the peer has not told it for long.
    pub(super) fn shorten_books(&mut self, node: NodeId, cx: &mut Context<B>) {
        if self.has_long_books(node) {
            self.ask_to_settle(node, cx);
        }
    }

    fn has_long_books(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node);
        peer.is_some_and(|peer| peer.crossing.recent.len() >= LONG_BOOKS)
    }

    /// Shows what has become settled.
    pub(super) fn release_settled(&mut self, cx: &mut Context<B>) {
        if self.unsettled_reads.is_empty() {
            return;
        }
        for (read, (data, node, count)) in core::mem::take(&mut self.unsettled_reads) {
            if self.is_settled(read, node, count) {
                self.end_read(read, Ok(data), cx);
            } else {
                self.unsettled_reads.insert(read, (data, node, count));
                self.ask_to_settle(node, cx);
            }
        }
    }

    /// The peer's disk has what it was asked about.
    pub(crate) fn settled(
        &mut self,
        node: NodeId,
        id: u64,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        let crossing = &mut peer.crossing;
        if id != crossing.asked || !crossing.is_asking {
            return Err("an answer to no question");
        }
        crossing.is_asking = false;
        crossing.recent = crossing.recent.split_off(&(id + 1));
        self.release_settled(cx);
        Ok(())
    }

    /// The peer asks whether the own disk has the first so many writes.
    pub(crate) fn accept_settle(&mut self, node: NodeId, id: u64) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        if !peer.crossing.is_sent(id) {
            return Err("a question about writes that were never sent");
        }
        peer.crossing.questions.insert(id);
        self.unsettled = true;
        Ok(())
    }

    /// Answers what the peers have asked, as far as the disk has come.
    pub(super) fn answer_questions(&mut self, cx: &mut Context<B>) {
        let asked = |peer: &&crate::peer_device::PeerDevice| !peer.crossing.questions.is_empty();
        let nodes: Vec<NodeId> = self
            .peers
            .values()
            .filter(asked)
            .map(|peer| peer.node)
            .collect();
        for node in nodes {
            let open = self.writes.values().filter(|own| own.sequence > 0);
            let open = open.filter(|own| !self.is_finished(own));
            let oldest = open.map(|own| own.sequence).min().unwrap_or(u64::MAX);
            let volume = self.number;
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let Some(link) = peer.link else { continue };
            let left = peer.crossing.questions.split_off(&oldest);
            for id in core::mem::replace(&mut peer.crossing.questions, left) {
                cx.send(node, link, Packet::Settled { id, volume }, None);
            }
        }
    }

    /// The peer is out of reach: what was read stands, as far as clients are answered at all. One
    /// that is being demoted does not have the peer fenced, which may come back without it.
    pub(super) fn settle_without(&mut self, node: NodeId, cx: &mut Context<B>) {
        let kept = core::mem::take(&mut self.unsettled_reads);
        let stands = self.role == Role::Primary;
        for (read, (data, of, count)) in kept {
            if of == node && stands {
                self.end_read(read, Ok(data), cx);
            } else if of == node {
                self.answer_read(read, Err(RequestError::NotPrimary), cx);
            } else {
                self.unsettled_reads.insert(read, (data, of, count));
            }
        }
    }
}

/// More writes of a peer that its disk may lack than it has under way.
const LONG_BOOKS: usize = 1024;
