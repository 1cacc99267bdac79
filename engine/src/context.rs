//! What every part of the engine needs while it handles one event: the time, the list of actions,
//! and the operations in flight.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::metadata::FormerEnd;
use rbd_protocol::peer::{Channel, Packet};

use crate::contract::{
    Action, CallId, Change, DiskNote, DiskRequest, Level, LinkId, OperationId, RequestError,
    RequestId, Time,
};
use crate::handler::{Handler, Wanted};
use crate::random::Random;

/// What an operation in flight is for. Its completion is handled accordingly, whatever has become
/// of the disk or link in the meantime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The local leg of a client's write.
    Write { volume: VolumeNumber, write: u64 },
    /// A client's read.
    Read { volume: VolumeNumber, read: u64 },
    /// What a read could not read is written anew.
    Mend { volume: VolumeNumber, read: u64 },
    /// A write for a peer.
    PeerWrite { volume: VolumeNumber, write: u64 },
    /// The local leg of a barrier.
    Barrier { volume: VolumeNumber, barrier: u64 },
    /// A flush a peer asked for.
    PeerFlush {
        volume: VolumeNumber,
        peer: NodeId,
        link: LinkId,
        id: u64,
    },
    /// A read on behalf of a resync target.
    ResyncRead {
        volume: VolumeNumber,
        peer: NodeId,
        link: LinkId,
        id: u64,
        range: ByteRange,
    },
    /// Digests of what a resync is about to copy: at the target before it asks, at the source when
    /// it is asked what differs.
    ResyncDigest {
        volume: VolumeNumber,
        peer: NodeId,
        link: LinkId,
        id: u64,
        at_source: bool,
    },
    /// Digests for a verify.
    Digest {
        volume: VolumeNumber,
        peer: NodeId,
        link: LinkId,
        id: u64,
        /// It is the peer that leads the verify, and the name is the peer's.
        for_peer: bool,
    },
    /// The superblock, in this version, of this attachment.
    Superblock {
        volume: VolumeNumber,
        attachment: u64,
        version: u64,
    },
    /// A block of the write-intent log.
    Intent {
        volume: VolumeNumber,
        attachment: u64,
        block: u32,
    },
    /// A page of the bitmap towards a peer.
    BitmapPage {
        volume: VolumeNumber,
        attachment: u64,
        peer: NodeId,
        page: u32,
    },
    /// How large the disk is.
    Measure { volume: VolumeNumber },
    /// A metadata block on its way to another end of the disk.
    Relocation {
        volume: VolumeNumber,
        attachment: u64,
    },
    /// Where that end is.
    NoteSize {
        volume: VolumeNumber,
        attachment: u64,
    },
}

/// An operation in flight on a disk that has been let go.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    volume: VolumeNumber,
    flushes: bool,
}

/// The surroundings of the event being handled.
#[derive(Clone, Debug)]
pub(crate) struct Context<B> {
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) out: Vec<Action<B>>,
    pub(crate) client_requests: u32,
    pub(crate) client_bytes: u64,
    /// Handlers there is a reason to run, in the order in which the reasons came up.
    pub(crate) handlers: Vec<Wanted>,
    operations: BTreeMap<u64, (Operation, Time)>,
    /// Operations in flight on disks that have been let go: whatever becomes of them, it counts no
    /// more (H6), unless it shows what the disk has lost.
    orphans: BTreeMap<u64, Orphan>,
    unix_start: u64,
    next_operation: u64,
    next_name: u64,
    wake: Option<Time>,
}

impl<B> Context<B> {
    pub(crate) fn new(random: Random, unix_start: u64) -> Self {
        Self {
            now: Time(0),
            random,
            out: Vec::new(),
            client_requests: 0,
            client_bytes: 0,
            handlers: Vec::new(),
            operations: BTreeMap::new(),
            orphans: BTreeMap::new(),
            unix_start,
            next_operation: 0,
            next_name: 0,
            wake: None,
        }
    }

    /// The time on the wall, in seconds since 1970, as far as it is known; 0 if not.
    pub(crate) fn unix_seconds(&self) -> u64 {
        let elapsed = self.now.ms_since(Time(0)) / 1000;
        match self.unix_start {
            0 => 0,
            start => start.saturating_add(elapsed),
        }
    }

    /// A number nothing else in this resource has had.
    pub(crate) fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name
    }

    fn operation(&mut self, operation: Operation) -> OperationId {
        let id = self.operation_id();
        self.operations.insert(id.0, (operation, self.now));
        id
    }

    /// A name for an operation that is kept elsewhere.
    pub(crate) fn operation_id(&mut self) -> OperationId {
        self.next_operation += 1;
        OperationId(self.next_operation)
    }

    /// There is a reason to run this handler, if it is configured.
    pub(crate) fn call_handler(
        &mut self,
        handler: Handler,
        peer: Option<NodeId>,
        volume: Option<VolumeNumber>,
    ) {
        self.handlers.push(Wanted {
            handler,
            peer,
            volume,
        });
    }

    /// Takes a finished operation out; `None` if its disk has been let go, or if it finished
    /// before, which breaks the contract.
    pub(crate) fn finished(&mut self, id: OperationId) -> Option<Operation> {
        self.orphans.remove(&id.0);
        self.operations
            .remove(&id.0)
            .map(|(operation, _)| operation)
    }

    /// Takes out an operation whose disk has been let go. If that disk should have made durable
    /// with it what it had acknowledged: the volume.
    pub(crate) fn orphan_finished(&mut self, id: OperationId) -> Option<VolumeNumber> {
        let orphan = self.orphans.remove(&id.0)?;
        orphan.flushes.then_some(orphan.volume)
    }

    /// Since when the oldest operation on this volume's disk is under way.
    pub(crate) fn oldest_on(&self, number: VolumeNumber) -> Option<Time> {
        let mut operations = self.operations.values();
        let found = operations.find(|(operation, _)| operation.volume() == number);
        found.map(|(_, since)| *since)
    }

    /// The volume's disk has been let go: its operations finish for nobody.
    pub(crate) fn orphan(&mut self, number: VolumeNumber) {
        let mut operations = core::mem::take(&mut self.operations);
        operations.retain(|id, (operation, _)| {
            let stays = operation.volume() != number;
            if !stays {
                let flushes = operation.flushes();
                self.orphans.insert(
                    *id,
                    Orphan {
                        volume: number,
                        flushes,
                    },
                );
            }
            stays
        });
        self.operations = operations;
    }

    /// Operations in flight.
    pub(crate) fn operation_count(&self) -> usize {
        self.operations.len() + self.orphans.len()
    }

    /// Operations in flight on one volume's disk.
    pub(crate) fn operations_on(&self, number: VolumeNumber) -> usize {
        let orphans = self.orphans.values();
        let operations = self
            .operations
            .values()
            .map(|(operation, _)| operation.volume());
        operations
            .chain(orphans.map(|orphan| orphan.volume))
            .filter(|volume| *volume == number)
            .count()
    }

    pub(crate) fn disk(
        &mut self,
        operation: Operation,
        request: DiskRequest,
        range: ByteRange,
        data: Option<B>,
    ) {
        let volume = operation.volume();
        let id = self.operation(operation);
        self.out.push(Action::Disk {
            id,
            volume,
            request,
            range,
            data,
        });
    }

    pub(crate) fn meta(
        &mut self,
        operation: Operation,
        offset: u64,
        block: alloc::boxed::Box<[u8; 4096]>,
    ) {
        let volume = operation.volume();
        let id = self.operation(operation);
        self.out.push(Action::Meta {
            id,
            volume,
            offset,
            block,
        });
    }

    pub(crate) fn measure(&mut self, volume: VolumeNumber) {
        let id = self.operation(Operation::Measure { volume });
        self.out.push(Action::Measure { id, volume });
    }

    pub(crate) fn note_of_disk(&mut self, volume: VolumeNumber, note: DiskNote, holds: bool) {
        self.out.push(Action::NoteOfDisk {
            volume,
            note,
            holds,
        });
    }

    pub(crate) fn note_size(&mut self, operation: Operation, end: FormerEnd) {
        let volume = operation.volume();
        let id = self.operation(operation);
        self.out.push(Action::NoteSize { id, volume, end });
    }

    pub(crate) fn send(&mut self, peer: NodeId, link: LinkId, packet: Packet, data: Option<B>) {
        let channel = channel_of(&packet);
        self.out.push(Action::Send {
            peer,
            link,
            channel,
            packet,
            data,
        });
    }

    pub(crate) fn complete(&mut self, id: RequestId, result: Result<Option<B>, RequestError>) {
        self.client_requests = self.client_requests.saturating_sub(1);
        self.out.push(Action::Complete { id, result });
    }

    pub(crate) fn reply(
        &mut self,
        call: CallId,
        result: Result<Option<String>, rbd_protocol::control::Refusal>,
    ) {
        self.out.push(Action::Reply { call, result });
    }

    pub(crate) fn report(
        &mut self,
        level: Level,
        peer: Option<NodeId>,
        volume: Option<VolumeNumber>,
        text: impl Into<String>,
    ) {
        self.out.push(Action::Report(Change {
            level,
            peer,
            volume,
            text: text.into(),
        }));
    }

    /// Makes sure the timer fires at `time` or earlier.
    pub(crate) fn wake_by(&mut self, time: Time) {
        if self.wake.is_none_or(|wake| time < wake) {
            self.wake = Some(time);
            self.out.push(Action::WakeAt(time));
        }
    }

    /// Whether the timer will fire.
    pub(crate) fn is_wake_pending(&self) -> bool {
        self.wake.is_some()
    }

    /// The timer has fired: no wake-up is pending any more.
    pub(crate) fn timer_fired(&mut self) {
        self.wake = None;
    }
}

impl Operation {
    pub(crate) fn volume(&self) -> VolumeNumber {
        match self {
            Self::Write { volume, .. }
            | Self::Read { volume, .. }
            | Self::Mend { volume, .. }
            | Self::PeerWrite { volume, .. }
            | Self::Barrier { volume, .. }
            | Self::PeerFlush { volume, .. }
            | Self::ResyncRead { volume, .. }
            | Self::ResyncDigest { volume, .. }
            | Self::Digest { volume, .. }
            | Self::Superblock { volume, .. }
            | Self::Intent { volume, .. }
            | Self::BitmapPage { volume, .. }
            | Self::Relocation { volume, .. }
            | Self::NoteSize { volume, .. }
            | Self::Measure { volume } => *volume,
        }
    }

    /// Whether the disk is to make durable with it what it has acknowledged before. Metadata is
    /// written so that it is durable at once: on the same disk that is a flush.
    fn flushes(&self) -> bool {
        match self {
            Self::Barrier { .. }
            | Self::PeerFlush { .. }
            | Self::Superblock { .. }
            | Self::Intent { .. }
            | Self::BitmapPage { .. }
            | Self::Relocation { .. } => true,
            Self::Write { .. }
            | Self::Read { .. }
            | Self::Mend { .. }
            | Self::PeerWrite { .. }
            | Self::ResyncRead { .. }
            | Self::ResyncDigest { .. }
            | Self::Digest { .. }
            | Self::NoteSize { .. }
            | Self::Measure { .. } => false,
        }
    }
}

/// Acknowledgements and signs of life take the control connection, all else the data connection.
/// What must not overtake acknowledgements goes with them.
fn channel_of(packet: &Packet) -> Channel {
    match packet {
        Packet::WriteAck { .. }
        | Packet::NegativeAck { .. }
        | Packet::FlushAck { .. }
        | Packet::Settled { .. }
        | Packet::RemoteDone { .. }
        | Packet::RemoteFailed { .. }
        | Packet::VerifyReply { .. }
        | Packet::ResyncAck { .. }
        | Packet::ResyncNegativeAck { .. }
        | Packet::ResyncDone { .. }
        | Packet::Ping { .. }
        | Packet::PingAck { .. } => Channel::Control,
        Packet::Hello(_)
        | Packet::State { .. }
        | Packet::PromoteRequest { .. }
        | Packet::PromoteReply { .. }
        | Packet::NewGeneration { .. }
        | Packet::NewGenerationAck { .. }
        | Packet::Goodbye
        | Packet::VerifyRequest { .. }
        | Packet::VerifyRelease { .. }
        | Packet::Leave
        | Packet::LeaveReply { .. }
        | Packet::Outdated
        | Packet::InvalidateRequest { .. }
        | Packet::InvalidateReply { .. }
        | Packet::ResizeRequest { .. }
        | Packet::ResizeReply { .. }
        | Packet::Write { .. }
        | Packet::Zero { .. }
        | Packet::Flush { .. }
        | Packet::Settle { .. }
        | Packet::Bitmap { .. }
        | Packet::BitmapEnd { .. }
        | Packet::RemoteRead { .. }
        | Packet::RemoteWrite { .. }
        | Packet::RemoteZero { .. }
        | Packet::RemoteFlush { .. }
        | Packet::RemoteData { .. }
        | Packet::ResyncState { .. }
        | Packet::ResyncCompare { .. }
        | Packet::ResyncSame { .. }
        | Packet::ResyncZero { .. }
        | Packet::ResyncRequest { .. }
        | Packet::ResyncData { .. } => Channel::Data,
    }
}
