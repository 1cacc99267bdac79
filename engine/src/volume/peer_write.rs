//! What a peer writes here: mirrored client writes and resync data.
//!
//! They are applied in the order they were sent wherever they overlap (A6, E2), at most one at a
//! time per block. Those of a link that is gone and that have not started are forgotten; those that
//! have started are waited for before the next handshake, so that nothing of an old link is applied
//! after it (A7).

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{FailureCode, Packet, Place};
use rbd_protocol::state::{DiskState, ReplicationState};

use super::{Volume, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, LinkId, Time};
use crate::peer_device::Origin;

/// What a peer's write is.
#[derive(Clone, Debug)]
pub(crate) enum PeerWriteKind<B> {
    /// A mirrored write.
    Write { data: B, fua: bool },
    /// A mirrored zeroing.
    Zero { fua: bool, discard: bool },
    /// Data of a resync.
    Resync { data: B },
    /// Zeroes of a resync.
    ResyncZero,
    /// What a resync found to be here already: nothing to be written, in the same order.
    Same,
}

/// A write of a peer, from its arrival to the disk's answer.
#[derive(Clone, Debug)]
pub(crate) struct PeerWrite<B> {
    pub(crate) peer: NodeId,
    pub(crate) link: LinkId,
    /// The sender's name for it.
    pub(crate) id: u64,
    pub(crate) range: ByteRange,
    pub(crate) is_resync: bool,
    /// Which one it is of those that came over the link; 0 of a resync.
    pub(super) sequence: u64,
    /// How many of this node's writes its sender had received.
    pub(super) seen: u64,
    /// What it came with says nothing any more: it has been begun, and only has to end.
    pub(super) is_of_old: bool,
    /// Own writes that the peer has to acknowledge before this one is.
    waits_for: Vec<u64>,
    /// When it came.
    at: Time,
    /// Taken when it is given to the disk.
    work: Option<PeerWriteKind<B>>,
}

impl<B> PeerWrite<B> {
    /// Whether it has not been given to the disk.
    pub(super) fn is_waiting(&self) -> bool {
        self.work.is_some()
    }

    /// Whether its sender is promised that it is durable.
    fn is_fua(&self) -> bool {
        matches!(
            self.work,
            Some(PeerWriteKind::Write { fua: true, .. } | PeerWriteKind::Zero { fua: true, .. })
        )
    }
}

impl<B: Clone> Volume<B> {
    /// A peer wants something written. `Err` names the rule of the protocol it breaks.
    pub(crate) fn accept_peer_write(
        &mut self,
        peer: NodeId,
        link: LinkId,
        id: u64,
        range: ByteRange,
        (work, place): (PeerWriteKind<B>, Place),
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let is_resync = match work {
            PeerWriteKind::Write { .. } | PeerWriteKind::Zero { .. } => false,
            PeerWriteKind::Resync { .. } | PeerWriteKind::ResyncZero | PeerWriteKind::Same => true,
        };
        if self.local.is_none() {
            let (volume, code) = (self.number, FailureCode::NoDisk);
            cx.send(peer, link, Packet::NegativeAck { id, volume, code }, None);
            return Ok(());
        }
        if !self.accepts(range) {
            return Err("a write outside the volume or not on block boundaries");
        }
        let Some(device) = self.peers.get_mut(&peer) else {
            return Err("an unknown peer");
        };
        let expected = match device.replication {
            ReplicationState::Established => !is_resync,
            ReplicationState::WFBitMapT | ReplicationState::SyncTarget => true,
            // It has everything and has been promoted; only its word of the end of the resync,
            // which follows the acknowledgements on the other channel, has not come yet.
            ReplicationState::SyncSource => !is_resync && device.peer_disk == DiskState::UpToDate,
            _ => false,
        };
        if !expected {
            return Err("a write while nothing is being replicated");
        }
        if is_resync {
            let is_same = matches!(work, PeerWriteKind::Same);
            let target = device.target.as_mut();
            let asked = target.and_then(|target| target.outstanding.get_mut(&id));
            if !asked.is_some_and(|asked| asked.takes(range, is_same)) {
                return Err("resync data nobody asked for");
            }
        }
        let length = u64::from(range.length);
        match work {
            PeerWriteKind::Same => device.same_bytes += length,
            PeerWriteKind::ResyncZero => device.zero_bytes += length,
            _ => device.received_bytes += length,
        }
        let (sequence, seen) = if is_resync {
            (0, 0)
        } else {
            self.note_place(peer, range, place)?
        };
        self.shorten_books(peer, cx);
        let name = cx.name();
        let write = PeerWrite {
            peer,
            link,
            id,
            range,
            is_resync,
            sequence,
            seen,
            is_of_old: false,
            waits_for: Vec::new(),
            at: cx.now,
            work: Some(work),
        };
        self.peer_writes.insert(name, write);
        if !self.try_start_peer_write(name, cx) {
            self.waiting_peer_writes.insert(name);
        }
        Ok(())
    }

    /// Starts waiting writes of peers that nothing keeps back any more.
    pub(crate) fn start_peer_writes(&mut self, cx: &mut Context<B>) {
        if self.waiting_peer_writes.is_empty() {
            return;
        }
        let waiting: Vec<u64> = self.waiting_peer_writes.iter().copied().collect();
        for name in waiting {
            if self.try_start_peer_write(name, cx) {
                self.waiting_peer_writes.remove(&name);
            }
        }
    }

    fn try_start_peer_write(&mut self, name: u64, cx: &mut Context<B>) -> bool {
        let Some(write) = self.peer_writes.get(&name) else {
            return true;
        };
        let range = write.range;
        let is_under_way = self
            .peer_writes
            .range(..name)
            .any(|(_, earlier)| earlier.range.overlaps(range));
        // The peer has read what is being written anew before it began this write.
        if self.frozen.holding_peers
            || is_under_way
            || self.written_anew().any(|anew| anew.overlaps(range))
            || self.yields(name, write)
        {
            return false;
        }
        let Some(local) = &self.local else {
            return false;
        };
        // A target is durably Inconsistent before anything is written over its old data (E1).
        let target = self
            .peers
            .get(&write.peer)
            .and_then(|peer| peer.target.as_ref());
        if target.is_some_and(|target| !local.is_durable(target.inconsistent_version)) {
            return false;
        }
        let (waits_for, is_superfluous) = if self.writes.is_empty() || write.is_resync {
            (Vec::new(), false)
        } else {
            let is_superfluous = !write.is_fua() && self.is_covered(write);
            let (peer, standing) = (write.peer, (write.sequence, write.seen));
            (self.crossed_by(peer, range, standing), is_superfluous)
        };
        let Some(write) = self.peer_writes.get_mut(&name) else {
            return true;
        };
        write.waits_for = waits_for;
        if is_superfluous {
            write.work = None;
            self.end_peer_write(name, false, Ok(()), cx);
            return true;
        }
        let (request, data) = match write.work.take() {
            Some(PeerWriteKind::Write { data, fua }) => (DiskRequest::Write { fua }, Some(data)),
            Some(PeerWriteKind::Zero { fua, discard }) => {
                (DiskRequest::Zero { fua, discard }, None)
            }
            Some(PeerWriteKind::Resync { data }) => (DiskRequest::Write { fua: false }, Some(data)),
            Some(PeerWriteKind::ResyncZero) => {
                let discard = true;
                (
                    DiskRequest::Zero {
                        fua: false,
                        discard,
                    },
                    None,
                )
            }
            Some(PeerWriteKind::Same) => {
                self.peer_write_done(name, Ok(()), cx);
                return true;
            }
            None => return true,
        };
        let operation = Operation::PeerWrite {
            volume: self.number,
            write: name,
        };
        cx.disk(operation, request, range, data);
        true
    }

    /// The disk has answered.
    pub(crate) fn peer_write_done(
        &mut self,
        name: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        self.end_peer_write(name, true, result, cx);
    }

    fn end_peer_write(
        &mut self,
        name: u64,
        is_written: bool,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        let Some(write) = self.peer_writes.remove(&name) else {
            return;
        };
        if result.is_ok() {
            if is_written && !self.writes.is_empty() {
                self.write_over(&write);
            }
            self.release_settled(cx);
        }
        let PeerWrite {
            peer,
            link,
            id,
            range,
            is_resync,
            waits_for,
            ..
        } = write;
        let volume = self.number;
        self.unsettled |= !self.waiting_peer_writes.is_empty()
            || !self.waiting_reads.is_empty()
            || !self.waiting_writes.is_empty()
            || !self.deferred.is_empty();
        if let Err(error) = result {
            let code = match error {
                DiskError::NoSpace => FailureCode::NoSpace,
                DiskError::Io => FailureCode::Io,
                DiskError::Gone => FailureCode::NoDisk,
            };
            cx.send(peer, link, Packet::NegativeAck { id, volume, code }, None);
            self.fail_disk(describe(error), cx);
            return;
        }
        self.counters.written_bytes += u64::from(range.length);
        if !is_resync {
            self.note_done_for(peer, id);
        }
        let Some(device) = self.peers.get_mut(&peer) else {
            return;
        };
        if device.link != Some(link) {
            self.unsettled = true; // a handshake may wait for the last of the old link's writes
            return;
        }
        if let Some(target) = &mut device.target
            && is_resync
            && let Some(asked) = target.outstanding.get_mut(&id)
        {
            // Only resync data clears bits: the source clears its own on the acknowledgement, which
            // comes after both bitmaps have been joined, so both always agree on what is missing.
            let length = u64::from(range.length);
            asked.left = asked.left.saturating_sub(length);
            target.left_out.note_read(length);
            if asked.left == 0 {
                let (whole, asked) = (u64::from(asked.range.length), asked.asked);
                target.outstanding.remove(&id);
                target.outstanding_bytes -= whole;
                let options = &device.resync_options;
                target.window.answered(asked, whole, options, cx.now);
            }
            device.bitmap.clear_covered(range);
            device.pace.disk_took(write.at, cx.now);
            device.pace.done(length, cx.now);
            // The source may lose what it has just sent, and perhaps only this node has it marked.
            device.note_unstable(range, Origin::ResyncSource);
            self.unsettled = true;
        }
        if is_resync {
            cx.send(peer, link, Packet::ResyncAck { id, volume, range }, None);
        } else {
            self.acknowledge((peer, link, id), waits_for, cx);
        }
    }

    /// A peer wants everything it had acknowledged to be durable.
    pub(crate) fn accept_peer_flush(
        &mut self,
        peer: NodeId,
        link: LinkId,
        id: u64,
        cx: &mut Context<B>,
    ) {
        let volume = self.number;
        if self.local.is_none() {
            let packet = Packet::NegativeAck {
                id,
                volume,
                code: FailureCode::NoDisk,
            };
            cx.send(peer, link, packet, None);
            return;
        }
        let operation = Operation::PeerFlush {
            volume,
            peer,
            link,
            id,
        };
        cx.disk(operation, DiskRequest::Flush, ByteRange::new(0, 0), None);
    }

    /// The disk has been flushed for a peer, or could not be (B4).
    pub(crate) fn peer_flush_done(
        &mut self,
        peer: NodeId,
        link: LinkId,
        id: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        let volume = self.number;
        if let Err(error) = result {
            let packet = Packet::NegativeAck {
                id,
                volume,
                code: FailureCode::Io,
            };
            cx.send(peer, link, packet, None);
            self.fail_flush(describe(error), cx);
        } else {
            cx.send(peer, link, Packet::FlushAck { id, volume }, None);
        }
    }

    /// Forgets what a peer sent over a link that is gone and that has not started.
    pub(crate) fn forget_peer_writes(&mut self, peer: NodeId) {
        for name in core::mem::take(&mut self.waiting_peer_writes) {
            if self
                .peer_writes
                .get(&name)
                .is_some_and(|write| write.peer == peer)
            {
                self.peer_writes.remove(&name);
            } else {
                self.waiting_peer_writes.insert(name);
            }
        }
    }
}
