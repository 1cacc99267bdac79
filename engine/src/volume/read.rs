//! A client's read. It waits for overlapping writes in flight, and later ones wait for it: their
//! data must not be seen before it is on every replica, or a fail-over could take back what was
//! read (B8).

use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;

use super::{Volume, as_request_error, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, RequestError, RequestId};

/// A client's read, from its arrival to its completion.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) request: RequestId,
    pub(crate) range: ByteRange,
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
        let id = cx.name();
        self.reads.insert(id, Read { request, range });
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
        if self.is_frozen() {
            return false;
        }
        let range = read.range;
        let in_the_way = self
            .writes
            .range(..id)
            .any(|(_, write)| write.range.overlaps(range));
        if in_the_way
            || self
                .peer_writes
                .values()
                .any(|write| write.range.overlaps(range))
        {
            return false;
        }
        let operation = Operation::Read {
            volume: self.number,
            read: id,
        };
        cx.disk(operation, DiskRequest::Read, range, None);
        true
    }

    /// The disk has answered.
    pub(crate) fn read_done(
        &mut self,
        id: u64,
        result: Result<Option<B>, DiskError>,
        cx: &mut Context<B>,
    ) {
        let failed = result.as_ref().err().copied();
        if let Some(error) = failed {
            self.fail_disk(describe(error), cx);
        }
        match result.map_err(as_request_error) {
            // It is done again when there is data again.
            Err(_) if self.is_frozen() => {
                self.waiting_reads.insert(id);
            }
            result if self.is_frozen() => self.keep_read(id, result),
            result => self.answer_read(id, result, cx),
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
        cx.client_bytes = cx.client_bytes.saturating_sub(u64::from(read.range.length));
        let result = if self.frozen.failing {
            Err(RequestError::NotPrimary)
        } else {
            result
        };
        if result.is_ok() {
            self.counters.read_bytes += u64::from(read.range.length);
        }
        cx.complete(read.request, result);
    }
}
