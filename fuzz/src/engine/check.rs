//! What must hold of every action, whatever the engine was told before.

use std::collections::{BTreeMap, BTreeSet};

use rbd_engine::{CallId, DiskRequest, RequestError, RequestId, RequestKind};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::peer::{BULK_LIMIT, HEADER_BYTES, Header, Packet};

use super::Tag;
use super::machine::{DiskOperation, Machine, MetaOperation};

/// A client's request that has not been answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    volume: VolumeNumber,
    kind: RequestKind,
    range: ByteRange,
    data: Option<Tag>,
    since: u64,
}

/// A disk operation that has ended well.
#[derive(Clone, Copy, Debug)]
struct Done {
    volume: VolumeNumber,
    request: DiskRequest,
    range: ByteRange,
    /// What was written or read.
    data: Option<Tag>,
    started: u64,
}

/// What is remembered for the checks.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Counts what the engine was told.
    pub(super) steps: u64,
    /// Volumes whose disk is attached or about to be.
    pub(super) attached: BTreeSet<VolumeNumber>,
    /// Commands without an answer.
    pub(super) calls: BTreeSet<CallId>,
    requests: BTreeMap<RequestId, Asked>,
    done: Vec<Done>,
    last_operation: u64,
}

impl Checks {
    pub(super) fn asked(
        &mut self,
        id: RequestId,
        volume: VolumeNumber,
        kind: RequestKind,
        range: ByteRange,
        data: Option<Tag>,
    ) {
        let since = self.steps;
        let asked = Asked {
            volume,
            kind,
            range,
            data,
            since,
        };
        self.requests.insert(id, asked);
    }

    pub(super) fn replied(&mut self, call: CallId) {
        assert!(self.calls.remove(&call), "{call:?} is answered twice");
    }

    pub(super) fn done(&mut self, operation: &DiskOperation, read: Option<Tag>) {
        self.done.push(Done {
            volume: operation.volume,
            request: operation.request,
            range: operation.range,
            data: operation.data.or(read),
            started: operation.started,
        });
    }

    /// The process is gone, and with it whoever asked.
    pub(super) fn forget(&mut self) {
        self.attached.clear();
        self.calls.clear();
        self.requests.clear();
        self.last_operation = 0;
    }

    pub(super) fn is_all_answered(&self) -> bool {
        self.requests.is_empty() && self.calls.is_empty()
    }

    pub(super) fn unanswered(&self) -> String {
        format!("{:?} {:?}", self.requests, self.calls)
    }

    /// Operations are named upwards, so none is named twice.
    fn started(&mut self, id: u64) {
        assert!(id > self.last_operation, "operation {id} is named twice");
        self.last_operation = id;
    }
}

impl Machine {
    pub(super) fn check_disk(&mut self, operation: &DiskOperation) {
        self.checks.started(operation.id.0);
        let DiskOperation { volume, range, .. } = *operation;
        assert!(
            self.checks.attached.contains(&volume),
            "{operation:?} on a disk that was let go"
        );
        let is_write = match operation.request {
            DiskRequest::Flush | DiskRequest::Digest => return,
            DiskRequest::Read | DiskRequest::ReadUnlessZero => {
                assert!(
                    range.length <= BULK_LIMIT,
                    "{operation:?} into too large a buffer"
                );
                false
            }
            DiskRequest::Write { .. } => {
                let length = operation.data.and_then(|data| self.lengths.get(&data));
                assert_eq!(length, Some(&range.length), "{operation:?} of other data");
                true
            }
            DiskRequest::Zero { .. } => true,
        };
        self.check_range(volume, range);
        if !is_write {
            return;
        }
        for other in &self.disk {
            let writes = matches!(
                other.request,
                DiskRequest::Write { .. } | DiskRequest::Zero { .. }
            );
            let meets = other.volume == volume && other.range.overlaps(range);
            assert!(
                !(writes && meets),
                "A6: {operation:?} while {other:?} is under way"
            );
        }
    }

    fn check_range(&self, volume: VolumeNumber, range: ByteRange) {
        let unit = self.shape().block_bytes;
        let end = range.offset.checked_add(u64::from(range.length));
        assert!(
            range.length > 0
                && end.is_some_and(|end| end <= self.shape().data_bytes)
                && range.offset.is_multiple_of(u64::from(unit))
                && range.length.is_multiple_of(unit),
            "{range:?} is no range of {volume:?}"
        );
    }

    pub(super) fn check_meta(&mut self, operation: &MetaOperation) {
        self.checks.started(operation.id.0);
        let MetaOperation { volume, offset, .. } = *operation;
        assert!(
            self.checks.attached.contains(&volume),
            "metadata of a disk that was let go"
        );
        assert!(
            self.areas[usize::from(volume.0)].has_place(offset),
            "no metadata block lies at {offset}"
        );
        assert!(
            !self
                .meta
                .iter()
                .any(|other| other.volume == volume && other.offset == offset),
            "the metadata block at {offset} is written twice at once"
        );
    }

    /// What goes out must come in at the other end as the same.
    pub(super) fn check_packet(&self, packet: &Packet, data: Option<Tag>) {
        let range = match packet {
            Packet::Write { range, .. }
            | Packet::ResyncData { range, .. }
            | Packet::RemoteWrite { range, .. }
            | Packet::RemoteData { range, .. } => Some(range),
            _ => None,
        };
        let length = data.and_then(|data| self.lengths.get(&data)).copied();
        assert_eq!(
            length,
            range.map(|range| range.length),
            "{packet:?} with other data"
        );
        assert!(length.unwrap_or(0) <= BULK_LIMIT, "{packet:?} is too long");
        if length.is_some() {
            return; // the payload itself is not here
        }
        let mut bytes = Vec::new();
        packet.encode(&[], &mut bytes);
        let (head, body) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .expect("a packet has a header");
        let header = Header::decode(head).expect("the peer understands our headers");
        let again = Packet::decode(&header, body).expect("the peer understands our packets");
        assert_eq!(&again, packet, "another packet at the other end");
    }

    pub(super) fn completed(&mut self, id: RequestId, result: Result<Option<Tag>, RequestError>) {
        let Some(asked) = self.checks.requests.remove(&id) else {
            panic!("{id:?} is answered twice");
        };
        if let Ok(data) = result {
            let proof = |done: &Done| {
                done.volume == asked.volume
                    && done.started >= asked.since
                    && proves(asked, *done, data)
            };
            // The oldest: a younger one may be all that proves a younger request.
            let proofs = self.checks.done.iter().enumerate();
            let proofs = proofs.filter(|(_, done)| proof(done));
            let Some((at, _)) = proofs.min_by_key(|(_, done)| done.started) else {
                panic!("success of {asked:?}, which no disk has reported");
            };
            self.checks.done.remove(at);
        }
    }
}

/// Whether what a disk has done is what was asked for.
fn proves(asked: Asked, done: Done, data: Option<Tag>) -> bool {
    let same = done.range == asked.range;
    match (asked.kind, done.request) {
        (RequestKind::Read, DiskRequest::Read) => same && data.is_some() && done.data == data,
        (RequestKind::Write { fua }, DiskRequest::Write { fua: durable }) => {
            same && done.data == asked.data && durable >= fua
        }
        (RequestKind::Zero { fua, .. }, DiskRequest::Zero { fua: durable, .. }) => {
            same && durable >= fua
        }
        (RequestKind::Flush, DiskRequest::Flush) => true,
        _ => false,
    }
}
