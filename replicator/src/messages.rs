//! What the control plane (tokio, one thread) and a resource's own thread (io_uring) say to each
//! other. Only owned values cross; there is nothing shared and no lock.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rbd_engine::{
    AttachedDisk, Change, Command, DiskError, DiskMeasure, Handler, HandlerFacts, HandlerResult,
    MigrationNews, OperationId, Seek, VolumeFacts,
};
use rbd_protocol::control::{Changes, Refusal, ResourceStatus};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::FormerEnd;
use rbd_protocol::nbd::Session;
use rbd_protocol::state::Role;
use tokio::sync::oneshot;

use crate::ublk::abi::Numbering;

/// To a resource's thread.
#[derive(Debug)]
pub enum ToResource {
    /// A wish for the engine.
    Command {
        /// The wish.
        command: Command,
        /// Where its answer goes.
        reply: oneshot::Sender<Result<Option<String>, Refusal>>,
    },
    /// A disk whose metadata has been read; the files are locked and stay open in the thread.
    Attach {
        /// The volume.
        volume: VolumeNumber,
        /// The files.
        files: DiskFiles,
        /// What was read from them.
        disk: AttachedDisk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Option<String>, Refusal>>,
    },
    /// A snapshot is wanted.
    Status {
        /// Where it goes.
        reply: oneshot::Sender<ResourceStatus>,
    },
    /// Where is what this volume would give up?
    Changes {
        /// The peer that is kept.
        peer: NodeId,
        /// The volume.
        volume: VolumeNumber,
        /// Where to go on.
        from: u64,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Changes, Refusal>>,
    },
    /// Can this volume be served to a client now?
    Export {
        /// The volume.
        volume: VolumeNumber,
        /// Where the answer goes.
        reply: oneshot::Sender<ExportAnswer>,
    },
    /// A client whose negotiation is over; from here on its bytes are the resource's.
    Client {
        /// The volume it chose.
        volume: VolumeNumber,
        /// Its socket, non-blocking.
        socket: OwnedFd,
        /// What was negotiated.
        session: Session,
        /// Bytes already received that belong to the transmission phase.
        leftover: Vec<u8>,
    },
    /// A kernel device that is to be served.
    Serve {
        /// The volume it is.
        volume: VolumeNumber,
        /// How its requests come.
        device: KernelDevice,
        /// Which of the volume's devices and connections it is, in the order they came.
        number: u64,
        /// Where the answer goes: from then on it is served.
        reply: oneshot::Sender<io::Result<()>>,
    },
    /// Both connections to a peer, each end having proven who it is.
    Link {
        /// The peer.
        peer: NodeId,
        /// The data connection.
        data: OwnedFd,
        /// The control connection.
        control: OwnedFd,
    },
    /// A handler has ended.
    HandlerDone {
        /// Which one.
        id: OperationId,
        /// How.
        result: HandlerResult,
    },
    /// The size of a disk has been looked at.
    Measured {
        /// Which operation asked.
        id: OperationId,
        /// How large it is.
        result: Result<DiskMeasure, DiskError>,
    },
    /// It is durably remembered where a volume's metadata is, or cannot be.
    SizeNoted {
        /// Which operation asked.
        id: OperationId,
        /// How it went.
        result: Result<(), DiskError>,
    },
    /// Finish what is in flight within a deadline and end the thread.
    Shutdown,
}

/// How the requests of a kernel device come.
#[derive(Debug)]
pub enum KernelDevice {
    /// Through a queue of the ublk driver's.
    Queue(KernelQueue),
    /// From the kernel's NBD client.
    Socket {
        /// The server's end, non-blocking.
        socket: OwnedFd,
        /// What the client has been told.
        session: Session,
    },
}

/// The queue of a ublk device, which nobody else has open.
#[derive(Debug)]
pub struct KernelQueue {
    /// Its character device.
    pub(crate) file: File,
    /// How many requests it may have under way.
    pub(crate) depth: u16,
    /// The longest payload of one.
    pub(crate) payload_bytes: u32,
    /// How this kernel numbers its commands.
    pub(crate) numbering: Numbering,
}

/// The open files of one volume's disk.
#[derive(Debug)]
pub struct DiskFiles {
    /// The data, opened with `O_DIRECT` where the file system can.
    pub data: OwnedFd,
    /// Whether it is `O_DIRECT`.
    pub direct: bool,
    /// Alignment of buffers, offsets and lengths it asks for, in bytes.
    pub alignment: u32,
    /// Whether it is a block device.
    pub block_device: bool,
    /// The device of external metadata; `None` when it lies on the data device.
    pub metadata: Option<OwnedFd>,
    /// Path of the data device, for messages.
    pub path: String,
}

/// Answer to [`ToResource::Export`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportAnswer {
    /// This node's role.
    pub role: Role,
    /// The peer that is Primary, if one is known to be.
    pub primary_peer: Option<NodeId>,
    /// Facts for the export; `None` while the volume has no usable data.
    pub facts: Option<VolumeFacts>,
}

/// A handler to be run.
#[derive(Clone, Copy, Debug)]
pub struct HandlerRun {
    /// Which one.
    pub handler: Handler,
    /// The peer it is about.
    pub peer: Option<NodeId>,
    /// The volume it is about; `None` for the resource as a whole.
    pub volume: Option<VolumeNumber>,
    /// What it is told beside the configuration.
    pub facts: HandlerFacts,
}

/// From a resource's thread, with the resource's name beside it.
#[derive(Debug)]
pub enum FromResource {
    /// A migration has begun, is to end, or has ended.
    Migration(MigrationNews),
    /// Start or stop trying to reach a peer.
    SeekLink {
        /// The peer.
        peer: NodeId,
        /// How.
        seek: Seek,
    },
    /// A handler is to be run. Answered by [`ToResource::HandlerDone`].
    RunHandler {
        /// Names the run.
        id: OperationId,
        /// What to run.
        run: HandlerRun,
    },
    /// How large is a disk now? Answered by [`ToResource::Measured`].
    Measure {
        /// Names the question.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
        /// Its data, opened once more.
        data: OwnedFd,
        /// The device of external metadata.
        metadata: Option<OwnedFd>,
    },
    /// Remember where a volume's metadata is. Answered by [`ToResource::SizeNoted`].
    NoteSize {
        /// Names the wish.
        id: OperationId,
        /// The volume.
        volume: VolumeNumber,
        /// Where it is.
        end: FormerEnd,
    },
    /// The size clients are shown of a volume has changed.
    SizeChanged {
        /// The volume.
        volume: VolumeNumber,
    },
    /// The kernel's NBD client has lost the connection of a volume's device.
    DeviceLost {
        /// The volume.
        volume: VolumeNumber,
        /// Which one was lost, by the number it was handed over with.
        number: u64,
    },
    /// Something changed that belongs in the log.
    Report(Change),
    /// The engine has let go of everything and the thread is about to end.
    Stopped {
        /// Every request that had been begun for a kernel device was answered before.
        in_order: bool,
    },
    /// The thread cannot go on; the resource is out of service.
    Failed {
        /// Why, in one line.
        why: String,
    },
}
