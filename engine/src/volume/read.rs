//! A read, of a client or for a peer's. It waits for overlapping writes in flight, and later ones
//! wait for it: their data must not be seen before it is on every replica, or a fail-over could
//! take back what was read (B8).

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;

use super::{Requester, Volume};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, RequestError, RequestId, Time};

/// A read, from its arrival to its completion.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) requester: Requester,
    pub(crate) range: ByteRange,
    /// The peer that has been asked for the data, if it was one.
    pub(super) remote: Option<NodeId>,
    pub(super) since: Time,
}

impl<B: Clone> Volume<B> {
    /// A client wants to read the range.
    pub(crate) fn accept_read(
        &mut self,
        request: RequestId,
        range: ByteRange,
        cx: &mut Context<B>,
    ) {
        if let Err(error) = self.check_client(Some(range)) {
            cx.complete(request, Err(error));
            return;
        }
        cx.client_bytes += u64::from(range.length);
        self.take_read(Requester::Client(request), range, cx);
    }

    /// Takes in a read that has been found possible.
    pub(super) fn take_read(
        &mut self,
        requester: Requester,
        range: ByteRange,
        cx: &mut Context<B>,
    ) {
        let id = cx.name();
        let read = Read {
            requester,
            range,
            remote: None,
            since: cx.now,
        };
        self.reads.insert(id, read);
        if !self.try_start_read(id, cx) {
            self.waiting_reads.insert(id);
        }
    }

    /// Starts waiting reads that nothing keeps back any more.
    pub(crate) fn start_reads(&mut self, cx: &mut Context<B>) {
        if self.waiting_reads.is_empty() {
            return;
        }
        let waiting: Vec<u64> = self.waiting_reads.iter().copied().collect();
        for id in waiting {
            if self.try_start_read(id, cx) {
                self.waiting_reads.remove(&id);
            }
        }
    }

    fn try_start_read(&mut self, id: u64, cx: &mut Context<B>) -> bool {
        let Some(read) = self.reads.get(&id) else {
            return true;
        };
        if self.is_held() {
            return false;
        }
        let range = read.range;
        let in_the_way = self
            .writes
            .range(..id)
            .any(|(_, write)| write.range.overlaps(range));
        if in_the_way
            || self.is_being_mended(range)
            || self
                .peer_writes
                .values()
                .any(|write| write.range.overlaps(range))
        {
            return false;
        }
        if self.has_own_data() {
            let operation = Operation::Read {
                volume: self.number,
                read: id,
            };
            cx.disk(operation, DiskRequest::Read, range, None);
            return true;
        }
        let Some((node, link)) = self.server() else {
            return false;
        };
        if let Some(read) = self.reads.get_mut(&id) {
            (read.remote, read.since) = (Some(node), cx.now);
        }
        let volume = self.number;
        cx.send(node, link, Packet::RemoteRead { id, volume, range }, None);
        true
    }

    /// The disk has answered.
    pub(crate) fn read_done(
        &mut self,
        id: u64,
        result: Result<Option<B>, DiskError>,
        cx: &mut Context<B>,
    ) {
        match result {
            Err(error) => self.read_failed(id, error, cx),
            Ok(data) => self.has_read(id, data, cx),
        }
    }

    /// A read has its data.
    pub(super) fn has_read(&mut self, id: u64, data: Option<B>, cx: &mut Context<B>) {
        if let Err(data) = self.await_settling(id, data, cx) {
            self.end_read(id, Ok(data), cx);
        }
    }

    /// A read has been done, or cannot be. While clients wait, so does what they are told (G4). A
    /// peer does not: its handshake waits for the last of its errands, and what has frozen this
    /// volume may wait for that handshake.
    pub(super) fn end_read(
        &mut self,
        id: u64,
        result: Result<Option<B>, RequestError>,
        cx: &mut Context<B>,
    ) {
        let read = self.reads.get(&id);
        let for_peer = read.is_some_and(|read| matches!(read.requester, Requester::Peer { .. }));
        if self.is_frozen() && !for_peer {
            if result.is_ok() {
                self.keep_read(id, result);
            } else {
                self.waiting_reads.insert(id); // what can be read may be another thing by then
            }
        } else {
            self.answer_read(id, result, cx);
        }
    }

    /// Answers a read that has been done.
    pub(super) fn answer_read(
        &mut self,
        id: u64,
        result: Result<Option<B>, RequestError>,
        cx: &mut Context<B>,
    ) {
        let Some(read) = self.reads.remove(&id) else {
            return;
        };
        self.unsettled |= !self.waiting_writes.is_empty();
        let result = if self.frozen.failing && read.requester.peer().is_none() {
            Err(RequestError::NotPrimary)
        } else {
            result
        };
        if result.is_ok() && !matches!(read.requester, Requester::Scrub(_)) {
            self.counters.read_bytes += u64::from(read.range.length);
        }
        self.answer(read.requester, read.range, result, cx);
    }
}
