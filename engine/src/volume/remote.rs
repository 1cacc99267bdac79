//! Clients of a node without usable data of its own: they are served by a peer that has everything.
//!
//! The node asks; the peer does what is asked as it would for a client of its own, with one
//! difference: this node's disk gets none of it, so before a write is answered it is marked, and it
//! is durable that this node is behind (A2). Nothing is answered to a client here before the peer
//! has answered. When the peer goes out of reach, what it has not answered is asked again when it
//! is back: nothing that overlaps has been started meanwhile, so doing it twice is doing it once.
//!
//! A peer serves only if its data is what this node's clients have seen last: it has this node's
//! last generation, or one it began for this node's writes, and it has not lost with its power what
//! it had acknowledged and not made durable.

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::write::Leg;
use super::{Barrier, BarrierPurpose, Requester, Volume};
use crate::context::Context;
use crate::contract::{Action, LinkId, RequestError, Time};
use crate::local_disk::LocalDisk;
use crate::peer_device::PeerDevice;

/// How long clients of a Primary without data wait for the peer that has it: a link that is made
/// anew must not cost them an error.
const RETURN_MS: u64 = 10_000;

/// What a peer asks for.
#[derive(Clone, Debug)]
pub(crate) enum Errand<B> {
    Read,
    /// Without data it is a zeroing.
    Write {
        data: Option<B>,
        fua: bool,
        discard: bool,
    },
    Flush,
}

impl<B: Clone> Volume<B> {
    /// Whether clients can be served by the local disk.
    pub(crate) fn has_own_data(&self) -> bool {
        self.local.is_some() && self.disk == DiskState::UpToDate
    }

    /// The peer that can serve this node's clients, if this node cannot.
    pub(crate) fn server(&self) -> Option<(NodeId, LinkId)> {
        if self.has_own_data() {
            return None;
        }
        let mut peers = self.peers.values();
        peers.find_map(|peer| {
            let usable = peer.serves && peer.peer_disk == DiskState::UpToDate;
            Some((peer.node, peer.link.filter(|_| usable)?))
        })
    }

    /// Whether clients can be served at all.
    pub(crate) fn has_data(&self) -> bool {
        self.has_own_data() || self.server().is_some()
    }

    /// Sends a write to the peer that serves. False if there is none.
    pub(super) fn start_remote_write(&mut self, id: u64, cx: &mut Context<B>) -> bool {
        let Some((node, link)) = self.server() else {
            return false;
        };
        let Some(write) = self.writes.get_mut(&id) else {
            return true;
        };
        write.started = true;
        write.since = cx.now;
        write.local = Leg::Lost;
        write.legs = alloc::vec![(node, Leg::Pending)];
        let (volume, range, fua) = (self.number, write.range, write.fua);
        let packet = if write.data.is_some() {
            Packet::RemoteWrite {
                id,
                volume,
                range,
                fua,
            }
        } else {
            Packet::RemoteZero {
                id,
                volume,
                range,
                fua,
                discard: write.discard,
            }
        };
        let data = write.data.clone();
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.sent_bytes += u64::from(range.length);
        }
        cx.send(node, link, packet, data);
        true
    }

    /// The peer has done what it was asked for, and this is its generation now.
    pub(crate) fn remote_done(
        &mut self,
        id: u64,
        node: NodeId,
        generation: GenerationId,
        cx: &mut Context<B>,
    ) {
        if !self.has_own_data() {
            self.exposed = generation;
        }
        if let Some(write) = self.writes.get_mut(&id) {
            let Some(leg) = write.legs.iter_mut().find(|leg| leg.0 == node) else {
                return;
            };
            if write.local != Leg::Lost || leg.1 != Leg::Pending {
                return; // asked for again since
            }
            leg.1 = Leg::Done;
            let (length, fua) = (write.range.length, write.fua);
            self.counters.written_bytes += u64::from(length);
            if !fua && let Some(peer) = self.peers.get_mut(&node) {
                peer.remote_written += 1;
            }
            self.try_finish_write(id, cx);
        } else {
            self.remote_flush_done(id, node, cx);
        }
    }

    /// The peer has read what it was asked for.
    pub(crate) fn remote_data(
        &mut self,
        id: u64,
        node: NodeId,
        range: ByteRange,
        data: Option<B>,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let Some(read) = self.reads.get_mut(&id) else {
            return Ok(());
        };
        if read.remote != Some(node) {
            return Ok(()); // asked for again since
        }
        if read.range != range || data.is_none() {
            return Err("other data than was asked for");
        }
        read.remote = None;
        // The end of a resync may have waited for it.
        self.unsettled = true;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.received_bytes += u64::from(range.length);
        }
        if let Err(data) = self.mend_with(id, data, cx) {
            self.has_read(id, data, cx);
        }
        Ok(())
    }

    /// The peer could not do what it was asked for: its disk is of no more use, or cannot read or
    /// write one place. It has everything else then, and nobody else has.
    pub(crate) fn remote_failed(
        &mut self,
        id: u64,
        node: NodeId,
        code: FailureCode,
        cx: &mut Context<B>,
    ) {
        if self.mend_failed(id, cx) {
            return;
        }
        let error = match code {
            FailureCode::Io => RequestError::Io,
            FailureCode::NoSpace => RequestError::NoSpace,
            FailureCode::NoDisk => {
                self.lose_peer(node, DiskState::Failed, cx);
                return;
            }
        };
        if let Some(read) = self.reads.get(&id) {
            if read.remote == Some(node) {
                self.give_up_read(id, cx);
            }
        } else if let Some(write) = self.writes.get_mut(&id) {
            let asked = write.legs.iter_mut().find(|leg| leg.0 == node);
            let asked = asked.filter(|leg| write.local == Leg::Lost && leg.1 == Leg::Pending);
            if let Some(leg) = asked {
                leg.1 = Leg::Done;
                (write.error, write.is_passed_on) = (Some(error), true);
                self.try_finish_write(id, cx);
            }
        } else {
            self.lose_peer(node, DiskState::Failed, cx);
        }
    }

    /// Everything this node's clients have in flight is to be done again, where there is data; what
    /// is done for peers has failed, and what peers write here is theirs to see to.
    pub(super) fn do_again(&mut self, cx: &mut Context<B>) {
        let mut failed = Vec::new();
        for (id, write) in &mut self.writes {
            write.started = false;
            write.local = Leg::Pending;
            write.is_on_disk = false;
            write.sequence = 0;
            write.legs.clear();
            match write.requester {
                Requester::Client(_) => {
                    self.waiting_writes.insert(*id);
                }
                Requester::Peer { .. } | Requester::Scrub(_) => failed.push(*id),
            }
        }
        for id in failed {
            self.waiting_writes.remove(&id);
            if let Some(write) = self.writes.remove(&id) {
                let error = write.error.unwrap_or(RequestError::Io);
                self.answer(write.requester, write.range, Err(error), cx);
            }
        }
        // What has been read and not been shown may be what no other disk has. Nothing waits for
        // the verdict on the peer any more, but there has been none (B8, G4).
        self.frozen.take_reads();
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        for id in reads {
            let Some(read) = self.reads.get_mut(&id) else {
                continue;
            };
            read.remote = None;
            if matches!(read.requester, Requester::Client(_)) {
                self.waiting_reads.insert(id);
            } else {
                self.waiting_reads.remove(&id);
                self.answer_read(id, Err(RequestError::Io), cx);
            }
        }
        for barrier in core::mem::take(&mut self.barriers).into_values() {
            match barrier.purpose {
                BarrierPurpose::Client(requester @ Requester::Client(_)) => {
                    self.keep_flush(requester);
                }
                BarrierPurpose::Client(
                    requester @ (Requester::Peer { .. } | Requester::Scrub(_)),
                ) => {
                    let nothing = ByteRange::new(0, 0);
                    self.answer(requester, nothing, Err(RequestError::Io), cx);
                }
                BarrierPurpose::Checkpoint
                | BarrierPurpose::ResyncEnd(_)
                | BarrierPurpose::Demotion
                | BarrierPurpose::Parting => {}
            }
        }
        self.peer_writes.clear();
        self.waiting_peer_writes.clear();
        self.unsettled_reads.clear();
        self.deferred.clear();
        self.owed.clear();
        self.unsettled = true;
    }

    /// What this peer was asked for and has not answered is to be asked again.
    fn ask_again(&mut self, node: NodeId) {
        for (id, write) in &mut self.writes {
            if write.local == Leg::Lost && write.legs.contains(&(node, Leg::Pending)) {
                write.started = false;
                write.local = Leg::Pending;
                write.legs.clear();
                self.waiting_writes.insert(*id);
            }
        }
        for (id, read) in &mut self.reads {
            if read.remote == Some(node) {
                read.remote = None;
                self.waiting_reads.insert(*id);
            }
        }
        let barriers = self.barriers.iter();
        let asked = barriers.filter(|(_, barrier)| barrier.is_asked() && barrier.waits_for(node));
        let asked: Vec<u64> = asked.map(|(id, _)| *id).collect();
        for id in asked {
            let barrier = self.barriers.remove(&id);
            if let Some(BarrierPurpose::Client(requester)) = barrier.map(|one| one.purpose) {
                self.keep_flush(requester);
            }
        }
        self.unsettled = true;
    }

    /// Whether the peer that serves has been asked for anything it has not answered.
    pub(super) fn is_asking(&self) -> bool {
        let asked = |write: &super::Write<B>| {
            write.local == Leg::Lost && write.legs.iter().any(|leg| leg.1 == Leg::Pending)
        };
        self.writes.values().any(asked)
            || self.reads.values().any(|read| read.remote.is_some())
            || self.barriers.values().any(Barrier::is_asked)
    }

    /// The disk is of no use any more, or is not to be used: nothing goes to it from here on, and
    /// what it may still do counts no more (H6).
    pub(crate) fn let_go(&mut self, note: &str, cx: &mut Context<B>) {
        // A larger size that was not agreed on yet, nobody has been shown.
        let shown_bytes = self.shown_bytes();
        let Some(local) = self.local.take() else {
            return;
        };
        (self.told_size.0, self.held_size) = (shown_bytes, None);
        let serving =
            |peer: &PeerDevice| peer.link.is_some() && peer.peer_disk == DiskState::UpToDate;
        // Clients of a Primary that was only being given it have seen what the peer has.
        if self.role != Role::Primary || self.disk == DiskState::UpToDate {
            self.exposed = local.current();
        }
        self.abandon_verify(cx);
        if self.peers.values().any(serving) {
            self.await_server(cx.now);
        }
        for peer in self.peers.values_mut() {
            peer.serves = false; // not before both have agreed anew on what each has
        }
        cx.orphan(self.number);
        self.mending.give_up();
        self.disk = DiskState::Diskless;
        self.disk_note = note.into();
        self.checkpoint = super::Checkpoint::Idle;
        self.renegotiate = true;
        self.do_again(cx);
        cx.out.push(Action::ReleaseDisk {
            volume: self.number,
        });
    }

    /// Clients wait a while for a peer to come back that can serve them.
    pub(crate) fn await_server(&mut self, now: Time) {
        if self.role == Role::Primary {
            self.frozen.awaiting = Some(now.plus_ms(RETURN_MS));
        }
    }

    /// What is lost with the link or the disk of the peer that serves.
    pub(super) fn lose_server(&mut self, node: NodeId, peer_disk: DiskState, cx: &mut Context<B>) {
        if self.has_own_data() {
            return;
        }
        let was_server = self
            .peers
            .get(&node)
            .is_some_and(|peer| peer.serves && peer.peer_disk == DiskState::UpToDate);
        let is_asked = self
            .writes
            .values()
            .any(|write| write.legs.contains(&(node, Leg::Pending)))
            || self.reads.values().any(|read| read.remote == Some(node))
            || self
                .barriers
                .values()
                .any(|barrier| barrier.waits_for(node));
        if is_asked {
            self.ask_again(node);
        }
        if (was_server || is_asked) && peer_disk == DiskState::DUnknown {
            self.await_server(cx.now);
        }
    }

    /// A peer wants something done for its clients. `Err` names the rule of the protocol it breaks.
    pub(crate) fn accept_errand(
        &mut self,
        requester: Requester,
        range: ByteRange,
        errand: Errand<B>,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        // A node that has its own data may still meet a place there that it cannot read.
        let replicates = self.is_replicating_both_ways(requester);
        let is_mended = replicates && matches!(errand, Errand::Read);
        let is_shared = requester
            .peer()
            .is_some_and(|node| self.is_shared_with(node));
        if !self.has_own_data() || self.role == Role::Primary && !is_mended && !is_shared {
            if let Requester::Peer { node, link, id } = requester {
                let (volume, code) = (self.number, FailureCode::NoDisk);
                cx.send(node, link, Packet::RemoteFailed { id, volume, code }, None);
            }
            return Ok(());
        }
        if replicates && !is_mended {
            return Err("a request for clients that have their own node's data");
        }
        if !matches!(errand, Errand::Flush) && !self.accepts(range) {
            return Err("a request outside the volume or not on block boundaries");
        }
        // Which of two different copies is right, nobody knows: better an error than other bytes.
        if let Requester::Peer { node, .. } = requester
            && replicates
            && self.differs_from(node, range)
        {
            self.answer(requester, range, Err(RequestError::Io), cx);
            return Ok(());
        }
        match errand {
            Errand::Read => self.take_read(requester, range, cx),
            Errand::Write { .. } if self.was_done_for(requester) => {
                self.take_done_write(requester, range, cx);
            }
            Errand::Write { data, fua, discard } => {
                self.take_write(requester, range, data, (fua, discard), cx);
            }
            Errand::Flush => {
                self.start_barrier(BarrierPurpose::Client(requester), cx);
            }
        }
        self.unsettled = true;
        Ok(())
    }

    /// Whether something is being done for this peer over an earlier link.
    pub(crate) fn works_for(&self, node: NodeId) -> bool {
        self.errands_of(node).next().is_some()
    }

    fn is_replicating_both_ways(&self, requester: Requester) -> bool {
        let established = |peer: &PeerDevice| {
            requester.is_peer(peer.node) && peer.replication == ReplicationState::Established
        };
        self.peers.values().any(established)
    }

    /// What is being done for this peer's clients.
    pub(crate) fn errands_of(&self, node: NodeId) -> impl Iterator<Item = ByteRange> {
        let writes = self.writes.values();
        let writes = writes.map(|write| (write.requester, write.range));
        let reads = self.reads.values().map(|read| (read.requester, read.range));
        let of_peer = move |(requester, _): &(Requester, ByteRange)| requester.is_peer(node);
        writes.chain(reads).filter(of_peer).map(|(_, range)| range)
    }

    /// Forgets what a peer asked for over a link that is gone and that has not been started (A7).
    pub(super) fn forget_errands(&mut self, node: NodeId) {
        let writes: Vec<u64> = self.waiting_writes.iter().copied().collect();
        for id in writes {
            let of_peer = |write: &super::Write<B>| write.requester.is_peer(node);
            if self.writes.get(&id).is_some_and(of_peer) {
                self.waiting_writes.remove(&id);
                self.writes.remove(&id);
            }
        }
        let reads: Vec<u64> = self.waiting_reads.iter().copied().collect();
        for id in reads {
            let of_peer = |read: &super::Read| read.requester.is_peer(node);
            if self.reads.get(&id).is_some_and(of_peer) {
                self.waiting_reads.remove(&id);
                self.reads.remove(&id);
            }
        }
    }

    /// This node is being promoted without a disk: what the peer has is what clients see.
    pub(crate) fn show_data_of_server(&mut self) {
        let server = self.server().and_then(|(node, _)| self.peers.get(&node));
        self.exposed = server.map_or(GenerationId::NONE, |peer| peer.current);
    }

    /// Takes note of how large the volume is, as told by whoever has a disk. For clients that
    /// disk's size counts only if they are served from it.
    pub(crate) fn note_size(&mut self, (size_bytes, block_bytes): (u64, u32), serves: bool) {
        let counts = self.local.is_none() && (serves || self.role != Role::Primary);
        if counts && size_bytes > 0 && block_bytes.is_power_of_two() {
            self.told_size = (size_bytes, block_bytes);
        }
    }

    /// The generation of the data this node's clients see.
    pub(crate) fn shown_generation(&self) -> GenerationId {
        self.local.as_ref().map_or(self.exposed, LocalDisk::current)
    }
}
