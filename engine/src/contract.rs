//! What the engine is told and what it asks for: the whole interface between the mind and its
//! hands.
//!
//! Two interpreters perform [`Action`]s and report [`Event`]s: the daemon's io_uring loop and the
//! simulator. The rules both keep:
//!
//! 1. Any action may be started at once. If B must follow A, the engine asks for B only when A's
//!    completion has arrived. The only order the hands keep is that of packets on one channel of
//!    one link.
//! 2. Every action with an [`OperationId`] finishes exactly once, with the event of its kind, even
//!    after the disk or link it went to is gone.
//! 3. Facts cannot be refused. Wishes ([`Command`]) can, with a reason.
//! 4. A payload is a handle `B`: cloned and dropped here, never looked into. A buffer the kernel
//!    may still touch is owned by the operation in flight until its completion.

mod change;
mod disk;
mod export;
mod migration;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, ResourceConfig, Shown, Standing, VerifyOrder};
use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::metadata::FormerEnd;
use rbd_protocol::peer::{Channel, Digest, Packet};

use crate::handler::{Handler, HandlerFacts, HandlerResult};
pub use crate::time::Time;
pub use change::{Change, Level};
pub use disk::{AttachedDisk, DiskError, DiskMeasure, DiskNote, DiskRequest};
pub use export::{Room, VolumeFacts};
pub use migration::MigrationNews;

/// Names a client's request until it is completed. Chosen by the hands, unique while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a disk or metadata operation, or the run of a handler, until it is done. Chosen by the
/// engine, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Names one link (a pair of connections) to a peer. Chosen by the hands, never reused, so that
/// packets of an older link are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Names a command until it is answered. Chosen by the hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What a client asks of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Read the range.
    Read,
    /// Write the payload.
    Write {
        /// Durable on every UpToDate disk before it is completed.
        fua: bool,
    },
    /// Zero the range; with `discard`, give the space back if possible. Reads as zeroes afterwards
    /// either way, so that both replicas stay identical.
    Zero {
        /// As for a write.
        fua: bool,
        /// Give the space back.
        discard: bool,
    },
    /// Make durable every request completed before this one was made. The range is ignored.
    Flush,
}

/// How a request failed, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// No usable disk or an I/O error.
    Io,
    /// No space is left on a backing disk.
    NoSpace,
    /// The range lies outside the volume, or the request contradicts itself.
    Invalid,
    /// This node is not Primary (any more).
    NotPrimary,
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLoss {
    /// The peer closed it, or the network reset it.
    Closed,
    /// The peer did not answer in time.
    Timeout,
    /// The peer sent bytes that are not the protocol's.
    Protocol,
    /// The peer said goodbye.
    Goodbye,
    /// This node ended it on an administrator's command.
    Commanded,
    /// The link is being made anew so that both sides decide again.
    Renegotiate,
    /// The data of the two nodes must not be joined.
    Refused,
}

/// What has happened.
#[derive(Debug)]
pub enum Event<B> {
    /// A client asks. Answered by [`Action::Complete`]. `data` for writes only, of the range's
    /// length.
    Request {
        /// Names it.
        id: RequestId,
        /// The volume.
        volume: VolumeNumber,
        /// What is asked.
        kind: RequestKind,
        /// Where.
        range: ByteRange,
        /// What to write.
        data: Option<B>,
    },
    /// [`Action::Disk`] has finished; a read gives its buffer back.
    DiskDone {
        /// Which one.
        id: OperationId,
        /// How.
        result: Result<Option<B>, DiskError>,
    },
    /// [`Action::Disk`] has finished that asked for digests.
    Digests {
        /// Which one.
        id: OperationId,
        /// One for each block.
        result: Result<Vec<Digest>, DiskError>,
    },
    /// [`Action::Measure`] has finished.
    Measured {
        /// Which one.
        id: OperationId,
        /// How large the disk is.
        result: Result<DiskMeasure, DiskError>,
    },
    /// [`Action::NoteSize`] has finished; if `Ok`, it is durable.
    SizeNoted {
        /// Which one.
        id: OperationId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// [`Action::Meta`] has finished; if `Ok`, the block is durable.
    MetaDone {
        /// Which one.
        id: OperationId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// Both connections to the peer stand and each end has proven who it is. An older link to it
    /// that has not been reported down is over.
    LinkUp {
        /// The peer.
        peer: NodeId,
        /// The link.
        link: LinkId,
    },
    /// The link is gone. Also reported after [`Action::DropLink`].
    LinkDown {
        /// The peer.
        peer: NodeId,
        /// The link.
        link: LinkId,
        /// Why.
        loss: LinkLoss,
    },
    /// A packet has arrived, whole and with fitting checksums.
    Packet {
        /// The peer.
        peer: NodeId,
        /// The link it came over.
        link: LinkId,
        /// The packet.
        packet: Packet,
        /// Its bulk payload.
        data: Option<B>,
    },
    /// The time asked for by [`Action::WakeAt`] has come.
    Timer,
    /// Someone wishes something. Answered by [`Action::Reply`].
    Command {
        /// Names it.
        call: CallId,
        /// The wish.
        command: Command,
    },
    /// [`Action::RunHandler`] has finished.
    HandlerDone {
        /// Which one.
        id: OperationId,
        /// How.
        result: HandlerResult,
    },
    /// How many clients have this volume open, after any change.
    Openers {
        /// The volume.
        volume: VolumeNumber,
        /// How many.
        count: u32,
    },
}

/// A wish. It can be refused, and then nothing has changed.
#[derive(Debug)]
pub enum Command {
    /// Use this disk.
    Attach {
        /// The volume.
        volume: VolumeNumber,
        /// The disk.
        disk: AttachedDisk,
    },
    /// Cease to use this volume's disk; clients go on through a peer that has everything.
    Detach {
        /// The volume.
        volume: VolumeNumber,
        /// Do not wait for the disk, and do not ask who else has the data.
        force: bool,
    },
    /// Take over options that may change while running (connection and resource options).
    Configure(Box<ResourceConfig>),
    /// Start trying to reach the peer, or all peers. Done when trying has begun.
    Connect {
        /// The peer, or all.
        peer: Option<NodeId>,
        /// In a split brain, give up this node's changes.
        discard_my_data: bool,
        /// Only find out what a connection would do, and drop it.
        tentative: bool,
    },
    /// End a split brain with this peer: one of the two nodes gives up its changes. Done when the
    /// order has been taken down; the next handshake carries it out.
    Resolve {
        /// The peer.
        peer: NodeId,
        /// This node's data is kept and the peer's changes are given up; else the other way round.
        keep_own: bool,
        /// What was shown of the peer: refused if it has changed since.
        shown: Shown,
        /// What of this node's data has been saved: refused if it has changed since, or if it is
        /// not all that would be given up. Empty when nothing was to be saved.
        saved: Vec<Standing>,
    },
    /// Stop talking to the peer, or to all. Done when the link is gone.
    Disconnect {
        /// The peer, or all.
        peer: Option<NodeId>,
        /// Even if both nodes are Primary, and each then goes on or is fenced without the other.
        force: bool,
    },
    /// Become Primary.
    Promote {
        /// Declare local data UpToDate even if it is not known to be.
        force: bool,
    },
    /// Become Primary beside the other Primary, for a migration.
    Migrate {
        /// After so many milliseconds one of the two is to be Secondary again.
        ms: u32,
    },
    /// Become Secondary.
    Demote {
        /// Fail in-flight requests instead of refusing because of openers.
        force: bool,
    },
    /// Start a new data generation.
    NewGeneration {
        /// The volume.
        volume: VolumeNumber,
        /// Declare both just-created replicas identical.
        clear_bitmap: bool,
    },
    /// Record durably that this node's data is behind; done when it is (G3).
    Outdate,
    /// Declare the data of one of the two nodes bad, so that it is copied anew from the other.
    /// Done when that is durable.
    Invalidate {
        /// The volume.
        volume: VolumeNumber,
        /// Which peer keeps its data or gives it up; the one there is when none is named.
        peer: Option<NodeId>,
        /// The peer's data; else this node's.
        remote: bool,
        /// Copy only what is marked out of sync; else everything.
        marked_only: bool,
        /// Give up the own data even if no peer is known to have it.
        force: bool,
    },
    /// Compare both copies while clients go on. Done when it has begun, or ended by command.
    Verify {
        /// The volume.
        volume: VolumeNumber,
        /// Against this peer; the one there is when none is named.
        peer: Option<NodeId>,
        /// What is to be done.
        order: VerifyOrder,
    },
    /// Hold back resyncs, or let them go on.
    PauseSync(crate::pause::PauseOrder),
    /// Let the volume grow as far as both disks have room for it. Done when that is durable on
    /// both.
    Resize {
        /// The volume.
        volume: VolumeNumber,
        /// What is new counts as in sync: nobody minds what it holds.
        assume_clean: bool,
    },
    /// Let requests wait.
    SuspendIo,
    /// Let requests go on, whatever they wait for.
    ResumeIo,
    /// Demote, disconnect, write metadata, let go of the disks. Refused while open. After its reply
    /// the resource takes no more requests and can be dropped when all operations have finished.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action<B> {
    /// Do this on the volume's disk. Answered by [`Event::DiskDone`].
    Disk {
        /// Names it.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
        /// What.
        request: DiskRequest,
        /// Where; ignored for a flush.
        range: ByteRange,
        /// What to write.
        data: Option<B>,
    },
    /// Find out how large the volume's disk is now. Answered by [`Event::Measured`].
    Measure {
        /// Names it.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
    },
    /// Note durably, elsewhere than on the disk, that metadata at the end of a device of this size
    /// counts, or about to be moved to the end of one of another size may: there an attach looks
    /// for it when the device has grown. Answered by [`Event::SizeNoted`].
    NoteSize {
        /// Names it.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
        /// The sizes, and whose metadata it is.
        end: FormerEnd,
    },
    /// Note at once, elsewhere than on the volume's disk, what that may be unable to say itself
    /// when the next process attaches it, or that it is no longer so. Before any later action; not
    /// answered.
    NoteOfDisk {
        /// The volume.
        volume: VolumeNumber,
        /// What is noted.
        note: DiskNote,
        /// It is so.
        holds: bool,
    },
    /// Write this metadata block, durably. Answered by [`Event::MetaDone`].
    Meta {
        /// Names it.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
        /// Where on the device that holds the metadata.
        offset: u64,
        /// The block.
        block: Box<[u8; 4096]>,
    },
    /// Send this packet, after all sent before on the same channel of the same link. Silently
    /// without effect when the link is gone.
    Send {
        /// The peer.
        peer: NodeId,
        /// The link.
        link: LinkId,
        /// Which of its connections.
        channel: Channel,
        /// The packet.
        packet: Packet,
        /// Its bulk payload.
        data: Option<B>,
    },
    /// Close the link after what has been sent has gone out (or a short time has passed), then
    /// report [`Event::LinkDown`] with the same reason.
    DropLink {
        /// The peer.
        peer: NodeId,
        /// The link.
        link: LinkId,
        /// Why.
        loss: LinkLoss,
    },
    /// Start or stop trying to reach the peer and accepting links from it. Trying stops by itself
    /// with [`Event::LinkUp`] and is asked for again after a loss.
    SeekLink {
        /// The peer.
        peer: NodeId,
        /// How.
        seek: Seek,
    },
    /// Answer the client. A successful read carries its data.
    Complete {
        /// Which request.
        id: RequestId,
        /// How it ended.
        result: Result<Option<B>, RequestError>,
    },
    /// Answer the command.
    Reply {
        /// Which one.
        call: CallId,
        /// Done, with a note for the user or without, or refused.
        result: Result<Option<String>, Refusal>,
    },
    /// Send [`Event::Timer`] at this time, or soon after. Replaces the earlier wish.
    WakeAt(Time),
    /// Let go of the volume's disk as soon as its operations have finished.
    ReleaseDisk {
        /// The volume.
        volume: VolumeNumber,
    },
    /// Close all clients of the volume: it is no longer served here.
    CloseClients {
        /// The volume.
        volume: VolumeNumber,
    },
    /// Run this handler, which is configured. Answered by [`Event::HandlerDone`], within a deadline
    /// of the hands' and however the handler behaves.
    RunHandler {
        /// Names it.
        id: OperationId,
        /// Which one.
        handler: Handler,
        /// The peer it is about.
        peer: Option<NodeId>,
        /// The volume it is about; `None` for the resource as a whole.
        volume: Option<VolumeNumber>,
        /// What it is told beside the configuration.
        facts: HandlerFacts,
    },
    /// A migration has begun, is to end, or has ended.
    Migration(MigrationNews),
    /// Something changed that people or programs may want to know.
    Report(Change),
}

/// How a link is sought. Whatever the pause before dialling, a call of the peer is accepted at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Not at all: neither dial nor accept.
    Stop,
    /// Dial at once.
    AtOnce,
    /// Dial after a short pause.
    Soon,
    /// Dial after several times the configured interval: nothing is expected to have changed.
    Patiently,
}
