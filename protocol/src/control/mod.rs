//! The words between `rbdadm` and `rbdd`, spoken over a local socket only its owner may open.
//!
//! A conversation is one [`Request`] and one [`Reply`], each in a frame (see [`frame`]). Both ends
//! come from the same package, so the encoding is `bincode` and carries no schema evolution: a
//! frame starts with [`frame::VERSION`], and a daemon of another version answers with a clear
//! refusal instead of guessing. Scripts use `rbdadm --json`, never this.

pub mod changes;
pub mod config;
pub mod frame;
pub mod refusal;
pub mod status;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::VolumeNumber;

pub use changes::{Backing, Changes, Standing};
pub use config::{
    DiskTrouble, Fencing, KernelExport, LAYOUT, MetaDisk, NbdExport, NetOptions, OnIoError,
    PeerConfig, ResourceConfig, ResourceOptions, ResyncOptions, VerifyOrder, VolumeConfig,
};
pub use refusal::{Refusal, RefusalCode};
pub use status::{
    ConnectionStatus, DeviceStatus, Divergence, Pauses, PeerDeviceStatus, RefusedPeer,
    RefusedVolume, ResourceStatus, ResyncProgress, Shown, Suspended, TwoPrimaries, VerifyProgress,
    WriteCache,
};

/// What `rbdadm` asks of the daemon.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub enum Request {
    /// Who are you? Answered by [`Reply::Daemon`].
    Daemon,
    /// Create what is missing of the resource, attach its disks, start connecting. Idempotent.
    Up(ResourceConfig),
    /// Bring the running resource to this configuration with the fewest changes. Idempotent.
    Adjust(ResourceConfig),
    /// Stop the resource. Refused while Primary with clients. Idempotent.
    Down {
        /// Name of the resource.
        resource: String,
    },
    /// Use the disk of this volume, or of all that have none. Idempotent.
    Attach {
        /// The configuration the disk is opened by.
        config: ResourceConfig,
        /// The volume, or all.
        volume: Option<u16>,
    },
    /// Cease to use the disk of this volume, or of all; clients go on through a peer. Idempotent.
    Detach {
        /// Name of the resource.
        resource: String,
        /// The volume, or all.
        volume: Option<u16>,
        /// Do not wait for the disk, nor ask who else has the data.
        force: bool,
    },
    /// Start trying to reach the peer (all peers when `None`).
    Connect {
        /// Name of the resource.
        resource: String,
        /// Name of the peer, or all.
        peer: Option<String>,
        /// If the handshake finds a split brain, this node gives up its own changes.
        discard_my_data: bool,
        /// Only find out what a connection would do, and drop it.
        tentative: bool,
    },
    /// Stop talking to the peer until `Connect`. Idempotent.
    Disconnect {
        /// Name of the resource.
        resource: String,
        /// Name of the peer, or all.
        peer: Option<String>,
        /// Even if both nodes are Primary, and each then goes on or is fenced without the other.
        force: bool,
    },
    /// End a split brain with the peer: one of the two nodes gives up its changes.
    Resolve {
        /// Name of the resource.
        resource: String,
        /// Name of the peer.
        peer: String,
        /// This node's data is kept and the peer gives up its own; else the other way round.
        keep_own: bool,
        /// What was shown of the peer: refused if it has changed since.
        shown: Shown,
        /// This node's volumes whose changes have been saved: refused if one of them has changed
        /// since, or is missing. Empty when nothing was saved.
        saved: Vec<Standing>,
    },
    /// Where does this node hold what it would give up? Answered by [`Reply::Changes`]; refused
    /// while that may still grow.
    Changes {
        /// Name of the resource.
        resource: String,
        /// Name of the peer.
        peer: String,
        /// The volume.
        volume: VolumeNumber,
        /// Where to go on, in bytes; 0 to begin.
        from: u64,
    },
    /// Become Primary.
    Promote {
        /// Name of the resource.
        resource: String,
        /// Declare the local data UpToDate even if it is not known to be.
        force: bool,
    },
    /// Become Primary beside the other Primary, for a migration.
    Migrate {
        /// Name of the resource.
        resource: String,
        /// After so many seconds one of the two is Secondary again.
        seconds: u32,
    },
    /// Become Secondary. Idempotent.
    Demote {
        /// Name of the resource.
        resource: String,
        /// Fail in-flight and new client I/O instead of refusing because of clients.
        force: bool,
    },
    /// Record durably that this node's data is behind. Idempotent.
    Outdate {
        /// Name of the resource.
        resource: String,
    },
    /// Declare the data of one of the two nodes bad, and copy it anew from the other.
    Invalidate {
        /// Name of the resource.
        resource: String,
        /// The volume, or all.
        volume: Option<u16>,
        /// Name of the peer, or whichever fits.
        peer: Option<String>,
        /// The peer's data; else this node's.
        remote: bool,
        /// Copy only what is marked out of sync; else everything.
        marked_only: bool,
        /// Even if no peer is known to have the data.
        force: bool,
    },
    /// Compare both copies of a volume while clients go on.
    Verify {
        /// Name of the resource.
        resource: String,
        /// The volume, or all.
        volume: Option<u16>,
        /// Name of the peer, or whichever there is.
        peer: Option<String>,
        /// What is to be done.
        order: VerifyOrder,
    },
    /// Hold back a volume's resyncs, or let them go on.
    PauseSync {
        /// Name of the resource.
        resource: String,
        /// The volume, or all.
        volume: Option<u16>,
        /// Name of the peer, or all.
        peer: Option<String>,
        /// Hold back; else go on.
        paused: bool,
    },
    /// Let a volume grow as far as both disks have room for it. Idempotent.
    Resize {
        /// Name of the resource.
        resource: String,
        /// The volume, or all.
        volume: Option<u16>,
        /// What is new counts as in sync: nobody minds what it holds.
        assume_clean: bool,
    },
    /// Let requests wait until `ResumeIo`. Idempotent.
    SuspendIo {
        /// Name of the resource.
        resource: String,
    },
    /// Let requests go on, whatever they wait for. Idempotent.
    ResumeIo {
        /// Name of the resource.
        resource: String,
    },
    /// The state of one resource, or of all when `None`. Answered by [`Reply::Status`]; of all by
    /// [`Reply::StatusOfSome`] when one does not answer.
    Status {
        /// Name of the resource, or all.
        resource: Option<String>,
    },
    /// Start a new data generation on this volume.
    NewGeneration {
        /// Name of the resource.
        resource: String,
        /// The volume.
        volume: u16,
        /// Declare both just-created replicas identical, skipping the initial sync.
        clear_bitmap: bool,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub enum Reply {
    /// Done, or already so.
    Done,
    /// Done, and the user should know this.
    DoneWithNotes(Vec<String>),
    /// Not done, nothing changed.
    Refused(Refusal),
    /// The state asked for.
    Status(Vec<ResourceStatus>),
    /// A part of what would be given up.
    Changes(Changes),
    /// The daemon introduces itself.
    Daemon {
        /// Version of the package.
        version: String,
        /// Process id.
        pid: u32,
        /// Name of the node it serves.
        node: String,
    },
    /// The state of all that answered, and why there is none of the others, by their names.
    StatusOfSome {
        /// Those that answered.
        answered: Vec<ResourceStatus>,
        /// Those that did not.
        silent: Vec<(String, Refusal)>,
    },
}
