//! A client's write: when it may start, where it goes, when it is complete.
//!
//! A write starts only when nothing earlier in flight overlaps it (A6), no resync read of the same
//! blocks is under way (E2), its regions are hot (C1), and for every peer that will not get it, it
//! is durable that this peer is behind (A2, D6). All this is looked at once, in one event, and the
//! write is then for each peer either sent or marked (A3). It completes when the local disk and
//! every peer it was sent to have it; a peer that is lost meanwhile must first be durably behind.

use alloc::vec::Vec;

use rbd_protocol::control::OnIoError;
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ReplicationState, Role};

use super::{Requester, Volume, as_request_error, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, Level, RequestError, RequestId, Time};
use crate::peer_device::Origin;

/// Where one part of a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// Under way.
    Pending,
    /// Done.
    Done,
    /// It will never be done there; what that means for the replica has been recorded.
    Lost,
}

/// A write, from its arrival to its completion.
#[derive(Clone, Debug)]
pub(crate) struct Write<B> {
    pub(crate) requester: Requester,
    pub(crate) range: ByteRange,
    /// What to write; `None` to zero the range. Kept until it is complete: should the disk it went
    /// to be lost, it goes to another.
    pub(super) data: Option<B>,
    pub(super) fua: bool,
    pub(super) discard: bool,
    /// Which one of those sent over the link to the peer; 0 if it was not sent over this one.
    pub(super) sequence: u64,
    /// The own disk is at work on it.
    pub(super) is_on_disk: bool,
    /// It has been done already, when it came over another link.
    is_done: bool,
    /// It has been given to the disk and the peers.
    pub(crate) started: bool,
    pub(crate) local: Leg,
    /// Why a disk did not do it.
    pub(super) error: Option<RequestError>,
    /// The client is told so.
    pub(super) is_passed_on: bool,
    pub(crate) legs: Vec<(NodeId, Leg)>,
    pub(crate) since: Time,
}

impl<B> Write<B> {
    fn new(
        requester: Requester,
        range: ByteRange,
        data: Option<B>,
        (fua, discard): (bool, bool),
        since: Time,
    ) -> Self {
        Self {
            requester,
            range,
            data,
            fua,
            discard,
            sequence: 0,
            is_on_disk: false,
            is_done: false,
            started: false,
            local: Leg::Pending,
            error: None,
            is_passed_on: false,
            legs: Vec::new(),
            since,
        }
    }
}

impl<B: Clone> Volume<B> {
    /// A client wants to write (or, without data, to zero) the range.
    pub(crate) fn accept_write(
        &mut self,
        request: RequestId,
        range: ByteRange,
        data: Option<B>,
        fua: bool,
        discard: bool,
        cx: &mut Context<B>,
    ) {
        if let Err(error) = self.check_client(Some(range)) {
            cx.complete(request, Err(error));
            return;
        }
        cx.client_bytes += u64::from(range.length);
        self.take_write(Requester::Client(request), range, data, (fua, discard), cx);
    }

    /// Takes in a write that has been found possible.
    pub(super) fn take_write(
        &mut self,
        requester: Requester,
        range: ByteRange,
        data: Option<B>,
        (fua, discard): (bool, bool),
        cx: &mut Context<B>,
    ) {
        let write = Write::new(requester, range, data, (fua, discard), cx.now);
        self.take_in(write, cx);
    }

    /// Takes in a write of a peer that has been done already: the peer has not heard so, and what
    /// has been written over it since must stay.
    pub(super) fn take_done_write(
        &mut self,
        requester: Requester,
        range: ByteRange,
        cx: &mut Context<B>,
    ) {
        let mut write = Write::new(requester, range, None, (false, false), cx.now);
        write.is_done = true;
        self.take_in(write, cx);
    }

    fn take_in(&mut self, write: Write<B>, cx: &mut Context<B>) {
        let id = cx.name();
        self.writes.insert(id, write);
        if !self.try_start_write(id, cx) {
            self.waiting_writes.insert(id);
        }
        self.start_metadata(cx);
    }

    /// Whether a client may ask anything of this volume now.
    pub(crate) fn check_client(&self, range: Option<ByteRange>) -> Result<(), RequestError> {
        if self.role != Role::Primary {
            return Err(RequestError::NotPrimary);
        }
        if !self.has_data() && !self.is_frozen() {
            return Err(RequestError::Io);
        }
        match range {
            // As long as no disk has told the size, it is judged when one does.
            Some(range)
                if self.size_bytes() > 0
                    && (!self.accepts(range) || range.end() > self.shown_bytes()) =>
            {
                Err(RequestError::Invalid)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Starts waiting writes, oldest first, that nothing keeps back any more.
    pub(crate) fn start_writes(&mut self, cx: &mut Context<B>) {
        if self.waiting_writes.is_empty() {
            return;
        }
        let waiting: Vec<u64> = self.waiting_writes.iter().copied().collect();
        for id in waiting {
            if self.try_start_write(id, cx) {
                self.waiting_writes.remove(&id);
            }
        }
    }

    fn try_start_write(&mut self, id: u64, cx: &mut Context<B>) -> bool {
        let Some(write) = self.writes.get(&id) else {
            return true;
        };
        if self.is_held() {
            return false;
        }
        let range = write.range;
        if self.is_unstable_full() {
            return false;
        }
        let earlier_overlaps = self
            .writes
            .range(..id)
            .any(|(_, earlier)| earlier.range.overlaps(range));
        // An earlier read goes first: one that waits must not starve, and one under way must not
        // return what no other replica has yet (B8).
        let earlier_read = self
            .reads
            .range(..id)
            .any(|(_, read)| read.range.overlaps(range));
        let is_held = self.resync_read_overlaps(range) || self.is_being_verified(range);
        if earlier_overlaps || earlier_read || is_held {
            return false;
        }
        if !self.has_own_data() {
            return self.start_remote_write(id, cx);
        }
        let Some(local) = &mut self.local else {
            return false;
        };
        if !local.intent.admit(range, cx.now) {
            return false;
        }
        if !self.absent_peers_are_behind(cx) {
            return false;
        }
        if self.gives_way(id, range, cx) {
            return false;
        }
        self.start_write(id, cx);
        true
    }

    fn start_write(&mut self, id: u64, cx: &mut Context<B>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let range = write.range;
        write.started = true;
        write.since = cx.now;
        if write.is_done {
            write.local = Leg::Done;
            if let Some(local) = &mut self.local {
                local.intent.enter(range);
            }
            self.try_finish_write(id, cx);
            return;
        }
        let seen = self.seen_by(range);
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        for peer in self.peers.values_mut() {
            let Some(link) = peer.link.filter(|_| peer.is_mirrored()) else {
                peer.bitmap.set_touched(range);
                continue;
            };
            write.legs.push((peer.node, Leg::Pending));
            let (volume, fua) = (self.number, write.fua);
            let (sequence, place) = peer.crossing.send(seen);
            write.sequence = sequence;
            let packet = if write.data.is_some() {
                Packet::Write {
                    id,
                    volume,
                    range,
                    fua,
                    place,
                }
            } else {
                Packet::Zero {
                    id,
                    volume,
                    range,
                    fua,
                    discard: write.discard,
                    place,
                }
            };
            peer.sent_bytes += u64::from(range.length);
            cx.send(peer.node, link, packet, write.data.clone());
        }
        if let Some(local) = &mut self.local {
            local.intent.enter(range);
        }
        self.write_here(id, cx);
    }

    /// Gives a write to the own disk.
    pub(super) fn give_to_disk(&mut self, id: u64, cx: &mut Context<B>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        let range = write.range;
        write.is_on_disk = true;
        let request = if write.data.is_some() {
            DiskRequest::Write { fua: write.fua }
        } else {
            DiskRequest::Zero {
                fua: write.fua,
                discard: write.discard,
            }
        };
        let operation = Operation::Write {
            volume: self.number,
            write: id,
        };
        cx.disk(operation, request, range, write.data.clone());
    }

    /// The local disk has finished its part.
    pub(crate) fn local_write_done(
        &mut self,
        id: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        write.local = Leg::Done;
        write.is_on_disk = false;
        let sequence = write.sequence;
        self.counters.written_bytes += u64::from(write.range.length);
        if let Err(error) = result {
            // It is done again where there is a disk; where there is none, this is why it fails.
            write.error = Some(as_request_error(error));
            if !self.passes_on(error) {
                self.fail_disk(describe(error), cx);
                return;
            }
            self.pass_on(id, error, cx);
        }
        self.note_finished(sequence);
        self.unsettled |= self
            .peers
            .values()
            .any(|peer| !peer.source.reads.is_empty());
        self.unsettled |= self.is_verifying();
        self.try_finish_write(id, cx);
    }

    /// Whether a write's error is only told to the client: nobody else has all of the data, and a
    /// full disk, or one that its owner wants to go on with, still has it.
    fn passes_on(&self, error: DiskError) -> bool {
        let by_policy = self.config.on_disk_trouble.on_error == OnIoError::PassOn;
        let kept = error == DiskError::NoSpace || (by_policy && error == DiskError::Io);
        kept && self.has_own_data() && !self.peers.values().any(|peer| self.is_whole(peer))
    }

    fn pass_on(&mut self, id: u64, error: DiskError, cx: &mut Context<B>) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        write.is_passed_on = true;
        let range = write.range;
        for peer in self.peers.values_mut() {
            peer.source.has_failed_writes |= peer.is_resync_source();
        }
        let why = describe(error);
        let text = alloc::format!(
            "a write at {} failed ({why}): passed on to the client, no other node has the data",
            range.offset
        );
        cx.report(Level::Error, None, Some(self.number), text);
    }

    /// A write that failed here has ended. What is in its place now, nobody knows: wherever else it
    /// went, that differs. Not before every peer has answered: the acknowledgement of what a resync
    /// had sent before would clear the marks.
    fn mark_passed_on(&mut self, range: ByteRange) {
        for peer in self.peers.values_mut() {
            peer.bitmap.set_touched(range);
            // The target of a resync that has begun since does not know of it.
            peer.source.has_failed_writes |= peer.is_resync_source();
            self.renegotiate |= peer.replication == ReplicationState::Established;
        }
    }

    /// A peer has the write on its disk.
    pub(crate) fn peer_write_acked(&mut self, id: u64, node: NodeId, cx: &mut Context<B>) -> bool {
        let Some(write) = self.writes.get_mut(&id) else {
            return false;
        };
        let Some((_, leg)) = write.legs.iter_mut().find(|(peer, _)| *peer == node) else {
            return false;
        };
        if *leg != Leg::Pending {
            return false;
        }
        *leg = Leg::Done;
        if let Some(peer) = self.peers.get_mut(&node)
            && !write.fua
        {
            peer.note_unstable(write.range, Origin::Write);
        }
        self.note_acknowledged(id);
        self.unsettled |= self.is_verifying();
        self.try_finish_write(id, cx);
        true
    }

    /// The peer will not have this write: it is marked, and complete only when that is durable.
    pub(crate) fn peer_write_lost(&mut self, id: u64, node: NodeId) {
        let Some(write) = self.writes.get_mut(&id) else {
            return;
        };
        for (peer, leg) in &mut write.legs {
            if *peer == node && *leg == Leg::Pending {
                *leg = Leg::Lost;
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.bitmap.set_touched(write.range);
                }
            }
        }
        self.unsettled = true;
    }

    /// Completes writes that waited for something other than their own legs.
    pub(crate) fn finish_writes(&mut self, cx: &mut Context<B>) {
        let settled: Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, write)| {
                let of_peers = || write.legs.iter().map(|(_, leg)| *leg);
                write.started
                    && write.local != Leg::Pending
                    && of_peers().all(|leg| leg != Leg::Pending)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in settled {
            self.try_finish_write(id, cx);
        }
    }

    pub(super) fn try_finish_write(&mut self, id: u64, cx: &mut Context<B>) {
        let Some(write) = self.writes.get(&id) else {
            return;
        };
        let pending =
            write.local == Leg::Pending || write.legs.iter().any(|(_, leg)| *leg == Leg::Pending);
        // What a peer asked for over a link that is gone is told to nobody, and the handshake waits
        // for its end.
        let for_nobody = self.is_for_nobody(write.requester);
        if !write.started || pending || self.is_frozen() && !for_nobody {
            return;
        }
        let recorded = for_nobody
            || write
                .legs
                .iter()
                .all(|(node, leg)| *leg != Leg::Lost || self.loss_is_recorded(*node));
        let is_given_up = self.frozen.failing && write.requester.peer().is_none();
        let given_up = is_given_up.then_some(RequestError::NotPrimary);
        let error = match given_up {
            Some(error) => Some(error),
            None if !recorded => {
                // What was recorded when the peer was lost may count no more: it has come back, and
                // gone again on the way to this node's generation.
                self.leave_absent_peers_behind(cx);
                return;
            }
            None => write.error.filter(|_| write.is_passed_on),
        };
        let Some(write) = self.writes.remove(&id) else {
            return;
        };
        if write.is_passed_on && write.local == Leg::Done {
            self.mark_passed_on(write.range);
        }
        if let Some(local) = &mut self.local
            && write.local == Leg::Done
        {
            local.intent.leave(write.range, cx.now);
        }
        let result = error.map_or(Ok(None), Err);
        if let (Requester::Peer { node, id, .. }, Ok(_)) = (write.requester, &result) {
            self.note_done_for(node, id);
        }
        self.answer(write.requester, write.range, result, cx);
        self.unsettled |= !(self.waiting_writes.is_empty() && self.waiting_reads.is_empty());
    }

    /// Fails what has not started and is not kept.
    pub(super) fn end_waiting(
        &mut self,
        error: RequestError,
        is_kept: impl Fn(u64, Requester) -> bool,
        cx: &mut Context<B>,
    ) {
        for id in core::mem::take(&mut self.waiting_writes) {
            let write = self.writes.get(&id);
            if write.is_some_and(|write| is_kept(id, write.requester)) {
                self.waiting_writes.insert(id);
            } else if let Some(write) = self.writes.remove(&id) {
                let error = match error {
                    RequestError::Io => write.error.unwrap_or(error),
                    RequestError::NoSpace | RequestError::Invalid | RequestError::NotPrimary => {
                        error
                    }
                };
                self.answer(write.requester, write.range, Err(error), cx);
            }
        }
        for id in core::mem::take(&mut self.waiting_reads) {
            let read = self.reads.get(&id);
            if read.is_some_and(|read| is_kept(id, read.requester)) {
                self.waiting_reads.insert(id);
            } else if let Some(read) = self.reads.remove(&id) {
                self.answer(read.requester, read.range, Err(error), cx);
            }
        }
    }
}
