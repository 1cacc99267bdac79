//! Writes of two Primaries that overlap: both disks get them in the same order.
//!
//! Each node orders what overlaps for itself; the rule for writes that *crossed*, neither of whose
//! senders had received the other, is that the one of the lower node number is the later one. Which
//! have crossed, the counts that come with every write tell ([`Place`]). The node with the lower
//! number puts a crossed write of the peer before its own: its own goes to the disk after it, or
//! once more. The other node puts it after its own, and acknowledges it when its own has been
//! acknowledged, so that the own disk of the lower node is never left with the wrong one (F1, F2).
//!
//! Nothing here waits for an acknowledgement but that one, and what it waits for only waits for the
//! other node's disk: so no wait goes in a circle (F3). The whole argument is in
//! `docs/decisions/two-primaries.md`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{Packet, Place};

use super::write::Leg;
use super::{PeerWrite, Volume, Write};
use crate::context::Context;
use crate::contract::LinkId;
use crate::local_disk::LocalDisk;

/// The counts of one link, and what follows from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crossing {
    /// Both nodes may be Primary at once.
    pub(crate) allowed: bool,
    /// Of two writes that crossed, this node's is the later one.
    pub(super) own_is_later: bool,
    /// Writes sent over this link.
    sent: u64,
    /// So many of them before both nodes could be Primary.
    sent_alone: u64,
    /// Writes received over it.
    pub(super) received: u64,
    /// Those sent that the own disk may lack.
    unfinished: BTreeSet<u64>,
    /// Those received that the peer's disk may lack.
    pub(super) recent: BTreeMap<u64, Recent>,
    /// So many writes the peer has been asked about.
    pub(super) asked: u64,
    /// It has not answered.
    pub(super) is_asking: bool,
    /// So many it has asked about, and waits for the answer.
    pub(super) questions: BTreeSet<u64>,
}

/// A write of the peer that its disk may lack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    pub(super) range: ByteRange,
    /// It crossed one of this node, and the peer does it once more.
    pub(super) has_crossed: bool,
}

/// An acknowledgement that waits for others.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    peer: NodeId,
    link: LinkId,
    id: u64,
    /// Own writes that the peer has to acknowledge first; none if the own disk alone is waited for.
    waits_for: Vec<u64>,
}

impl Crossing {
    pub(crate) fn new(allowed: bool, own_is_later: bool) -> Self {
        Self {
            allowed,
            own_is_later,
            ..Self::default()
        }
    }

    /// Counts a write that is about to be sent, and that comes after so many of the peer's.
    pub(super) fn send(&mut self, seen: u64) -> (u64, Place) {
        self.sent += 1;
        let mut place = Place {
            seen: low_half(self.received.min(seen)),
            behind: u16::MAX,
        };
        if self.allowed {
            self.unfinished.insert(self.sent);
            let oldest = self.unfinished.first().copied().unwrap_or(self.sent);
            place.behind = u16::try_from(self.sent - oldest + 1).unwrap_or(u16::MAX);
        }
        (self.sent, place)
    }

    /// Counts one that has come. Returns which it is, and how many of this node's its sender had
    /// seen; nothing if it cannot have seen so many.
    fn receive(&mut self, place: Place) -> Option<(u64, u64)> {
        let unseen = u64::from(low_half(self.sent).wrapping_sub(place.seen));
        let seen = self.sent.checked_sub(unseen)?;
        self.received += 1;
        Some((self.received, seen))
    }

    /// The peer's disk has all of its writes before the last so many.
    fn note_behind(&mut self, sequence: u64, behind: u16) {
        if behind == u16::MAX {
            return;
        }
        let until = sequence.saturating_sub(u64::from(behind));
        while let Some((first, recent)) = self.recent.first_key_value()
            && *first <= until
            && !recent.has_crossed
        {
            self.recent.pop_first();
        }
    }

    pub(super) fn is_sent(&self, count: u64) -> bool {
        count <= self.sent
    }

    fn finished(&mut self, sequence: u64) {
        self.unfinished.remove(&sequence);
    }
}

impl<B: Clone> Volume<B> {
    /// A link to the peer has been made, over which both count from the beginning.
    pub(crate) fn begin_counting(&mut self, node: NodeId, allowed: bool, own_is_later: bool) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.crossing = Crossing::new(allowed, own_is_later);
        }
    }

    /// From here on both may be Primary, over the link that is there.
    pub(crate) fn share_from_here(&mut self, node: NodeId) {
        let open = self.writes.values().filter(|own| own.sequence > 0);
        let open = open.filter(|own| !self.is_finished(own));
        let unfinished = open.map(|own| own.sequence).collect();
        if let Some(peer) = self.peers.get_mut(&node)
            && !peer.crossing.allowed
        {
            peer.crossing.allowed = true;
            peer.crossing.sent_alone = peer.crossing.sent;
            peer.crossing.unfinished = unfinished;
        }
    }

    /// Whether what was sent before that is complete: the peer, which kept no books of it, has
    /// nothing to remember of it.
    pub(crate) fn has_finished_alone(&self, node: NodeId) -> bool {
        let Some(peer) = self.peers.get(&node) else {
            return true;
        };
        let alone = 1..=peer.crossing.sent_alone;
        !self
            .writes
            .values()
            .any(|own| alone.contains(&own.sequence))
    }

    /// The link is gone, or the peer's disk: the counts say nothing any more. What the disk has
    /// been given of the peer goes before whatever comes (A6).
    pub(super) fn forget_counts(&mut self, node: NodeId) {
        let of_peer = |write: &&mut PeerWrite<B>| write.peer == node;
        for write in self.peer_writes.values_mut().filter(of_peer) {
            write.is_of_old = true;
        }
        for write in self.writes.values_mut() {
            write.sequence = 0;
        }
        self.owed.retain(|owed| owed.peer != node);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let (allowed, own_is_later) = (peer.crossing.allowed, peer.crossing.own_is_later);
        peer.crossing = Crossing::new(allowed, own_is_later);
    }

    /// Takes note of where a peer's write stands. Returns which one it is, and how many of this
    /// node's its sender had seen.
    pub(super) fn note_place(
        &mut self,
        node: NodeId,
        range: ByteRange,
        place: Place,
    ) -> Result<(u64, u64), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        let counts = peer.crossing.receive(place);
        let (sequence, seen) = counts.ok_or("a count of more writes than there were")?;
        if peer.crossing.allowed {
            let recent = Recent {
                range,
                has_crossed: false,
            };
            peer.crossing.recent.insert(sequence, recent);
            peer.crossing.note_behind(sequence, place.behind);
        }
        Ok((sequence, seen))
    }

    /// A peer's write is about to go to the disk. Those of this node that go before it, and that
    /// its sender had not seen, have crossed it: unless this node's is the later one, the peer has
    /// to acknowledge them first.
    pub(super) fn crossed_by(
        &mut self,
        node: NodeId,
        range: ByteRange,
        (sequence, seen): (u64, u64),
    ) -> Vec<u64> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Vec::new();
        };
        if !peer.crossing.allowed || peer.crossing.own_is_later {
            return Vec::new();
        }
        let crossed: Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, write)| {
                write.range.overlaps(range)
                    && write.sequence > seen
                    && write.legs.contains(&(node, Leg::Pending))
            })
            .map(|(id, _)| *id)
            .collect();
        if !crossed.is_empty() {
            let has_crossed = true;
            let recent = Recent { range, has_crossed };
            peer.crossing.recent.insert(sequence, recent);
        }
        crossed
    }

    /// How many of a peer's writes go before this one, which is about to be sent: all that have
    /// come, but for those that had to let it go first.
    pub(super) fn seen_by(&self, range: ByteRange) -> u64 {
        let later = self.peer_writes.values();
        let later = later.filter(|other| {
            let peer = self.peers.get(&other.peer);
            let own_is_later = peer.is_some_and(|peer| peer.crossing.own_is_later);
            other.sequence > 0 && !own_is_later && other.range.overlaps(range)
        });
        let oldest = later.map(|other| other.sequence).min();
        oldest.map_or(u64::MAX, |oldest| oldest - 1)
    }

    /// Whether the peer's write is the earlier one of the two. On the node with the higher number
    /// what has been started here is.
    fn goes_before(&self, peer_write: &PeerWrite<B>, own: &Write<B>) -> bool {
        let Some(peer) = self.peers.get(&peer_write.peer) else {
            return true;
        };
        let crossing = &peer.crossing;
        if peer_write.is_of_old || peer.link != Some(peer_write.link) {
            return true; // it was begun over an older link, and only has to end
        }
        crossing.own_is_later && own.sequence > peer_write.seen
    }

    /// Whether something of a peer has to be on the disk before this write of a client.
    fn is_preceded(&self, own: &Write<B>) -> bool {
        self.peer_writes
            .values()
            .any(|other| other.range.overlaps(own.range) && self.goes_before(other, own))
    }

    /// Whether a client's write that has not been started has to let a peer's go first. Where the
    /// peer's is the later one of two that cross, the order is decided when this one is sent, so
    /// that one has to be waited for that has come; but not those that come while it waits.
    pub(super) fn gives_way(&mut self, id: u64, range: ByteRange, cx: &mut Context<B>) -> bool {
        if self.peer_writes.is_empty() {
            return false;
        }
        let bound = self.reserved.remove(&id);
        let own_is_later = |peer: &PeerWrite<B>| {
            let device = self.peers.get(&peer.peer);
            device.is_some_and(|device| device.crossing.own_is_later)
        };
        let in_the_way = |(name, other): (&u64, &PeerWrite<B>)| {
            other.range.overlaps(range)
                && !own_is_later(other)
                && bound.is_none_or(|bound| *name < bound || !other.is_waiting())
        };
        if !self.peer_writes.iter().any(in_the_way) {
            return false;
        }
        self.reserved.insert(id, bound.unwrap_or_else(|| cx.name()));
        true
    }

    /// Whether a peer's write has to let a client's go first. One that a verify holds back it does
    /// not wait for: that may wait for the end of the peer's (F3).
    pub(super) fn yields(&self, name: u64, peer_write: &PeerWrite<B>) -> bool {
        let range = peer_write.range;
        let in_the_way =
            |own: &Write<B>| own.range.overlaps(range) && !self.is_being_verified(own.range);
        let is_reserved = self.reserved.iter().any(|(id, bound)| {
            *bound < name
                && self.waiting_writes.contains(id)
                && self.writes.get(id).is_some_and(in_the_way)
        });
        is_reserved
            || self.writes.values().any(|own| {
                let overlaps = own.started && own.local != Leg::Lost && own.range.overlaps(range);
                overlaps
                    && if self.goes_before(peer_write, own) {
                        own.is_on_disk
                    } else {
                        own.local == Leg::Pending || self.is_preceded(own)
                    }
            })
    }

    /// Whether a client's write, which is the later one, has just made the peer's superfluous here.
    pub(super) fn is_covered(&self, peer_write: &PeerWrite<B>) -> bool {
        let range = peer_write.range;
        self.writes.values().any(|own| {
            own.started
                && own.local == Leg::Done
                && own.range.offset <= range.offset
                && own.range.end() >= range.end()
                && self.goes_before(peer_write, own)
        })
    }

    /// A peer's write is on the disk: what is to be there in the end has to be written once more.
    pub(super) fn write_over(&mut self, peer_write: &PeerWrite<B>) {
        let over: Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, own)| {
                own.started
                    && own.local == Leg::Done
                    && own.range.overlaps(peer_write.range)
                    && self.goes_before(peer_write, own)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(own) = self.writes.get_mut(&id) else {
                continue;
            };
            own.local = Leg::Pending;
            let sequence = own.sequence;
            for peer in self.peers.values_mut() {
                peer.crossing.unfinished.insert(sequence);
            }
            self.deferred.insert(id);
            self.unsettled = true;
        }
    }

    /// Gives clients' writes to the disk that have waited for a peer's.
    pub(super) fn start_deferred(&mut self, cx: &mut Context<B>) {
        for id in core::mem::take(&mut self.deferred) {
            self.write_here(id, cx);
        }
    }

    /// Gives a started write to the own disk, after those of a peer that go before it.
    pub(super) fn write_here(&mut self, id: u64, cx: &mut Context<B>) {
        let Some(own) = self.writes.get(&id).filter(|own| own.started) else {
            return;
        };
        if own.local != Leg::Pending || own.is_on_disk {
            return;
        }
        if !self.peer_writes.is_empty() && self.is_preceded(own) {
            self.deferred.insert(id);
            return;
        }
        self.give_to_disk(id, cx);
    }

    /// A client's write is on the own disk.
    pub(super) fn note_finished(&mut self, sequence: u64) {
        if sequence == 0 {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.crossing.finished(sequence);
            self.unsettled |= !peer.crossing.questions.is_empty();
        }
        self.unsettled |= !self.waiting_peer_writes.is_empty();
    }

    /// Acknowledges a peer's write, or keeps that for later: what is acknowledged may be in a cache
    /// here and, if the peer loses its power, nowhere else. Should this node's program die then,
    /// the disk must be known to have kept its power (B7).
    pub(super) fn acknowledge(
        &mut self,
        (peer, link, id): (NodeId, LinkId, u64),
        waits_for: Vec<u64>,
        cx: &mut Context<B>,
    ) {
        let waits_for: Vec<u64> = waits_for
            .into_iter()
            .filter(|own| {
                let own = self.writes.get(own);
                own.is_some_and(|own| own.legs.contains(&(peer, Leg::Pending)))
            })
            .collect();
        if waits_for.is_empty() && self.boot_is_recorded() {
            let volume = self.number;
            cx.send(peer, link, Packet::WriteAck { id, volume }, None);
        } else {
            self.owed.push(Owed {
                peer,
                link,
                id,
                waits_for,
            });
        }
    }

    /// The peer has acknowledged a write: so may this node those that waited for that.
    pub(super) fn note_acknowledged(&mut self, own: u64) {
        for owed in &mut self.owed {
            owed.waits_for.retain(|id| *id != own);
        }
        self.unsettled |= !self.owed.is_empty();
    }

    /// Acknowledges what waits for nothing any more.
    pub(super) fn acknowledge_owed(&mut self, cx: &mut Context<B>) {
        if self.owed.is_empty() || !self.boot_is_recorded() {
            return;
        }
        let volume = self.number;
        self.owed.retain(|owed| {
            let is_due = owed.waits_for.is_empty();
            if is_due {
                let id = owed.id;
                cx.send(owed.peer, owed.link, Packet::WriteAck { id, volume }, None);
            }
            !is_due
        });
    }

    pub(super) fn boot_is_recorded(&self) -> bool {
        let local = self.local.as_ref();
        local.is_none_or(LocalDisk::boot_is_recorded)
    }

    /// Whether a client's write has the disk as it is to be in the end.
    pub(super) fn is_finished(&self, own: &Write<B>) -> bool {
        own.local != Leg::Pending && !self.is_preceded(own)
    }

    /// Whether something that this node's clients write is under way on its own disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        let pending = |own: &Write<B>| own.started && own.local == Leg::Pending;
        self.writes.values().any(pending)
    }
}

fn low_half(count: u64) -> u32 {
    u32::try_from(count & u64::from(u32::MAX)).unwrap_or(0)
}
