//! The handlers: programs of the administrator's that are told of something, or asked something.
//!
//! What a handler is told and what its end means is decided here and in `resource`; how it is
//! started, watched and ended is the hands' business. Whether it is configured is looked up before
//! it is asked for, so that the hands never have to invent an answer.

use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{ConnectionState, DiskState};

/// One of the programs an administrator can configure, each under its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handler {
    /// Make sure that the peer cannot use its data; its exit code is a verdict.
    FencePeer,
    /// Take back what `FencePeer` has done: both replicas are identical again.
    UnfencePeer,
    /// A split brain has been found, whether or not a policy is going to end it.
    InitialSplitBrain,
    /// A split brain has been found that no policy ends.
    SplitBrain,
    /// This disk is about to be overwritten by a resync.
    BeforeResyncTarget,
    /// It has been, and is UpToDate.
    AfterResyncTarget,
    /// The peer's disk is about to be overwritten by a resync.
    BeforeResyncSource,
    /// A Primary has lost its last complete copy while its own is incomplete.
    PrimaryOnInconsistentDegraded,
    /// This Primary's data has lost against the peer's.
    PrimaryLost,
    /// This Primary's data has lost in the policies after a split brain.
    PrimaryLostAfterSplitBrain,
    /// The local disk has failed.
    LocalIoError,
    /// A verify has found blocks that differ.
    OutOfSync,
    /// This node has lost quorum.
    QuorumLost,
    /// The link to a peer is gone.
    Disconnected,
}

impl Handler {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::FencePeer,
        Self::UnfencePeer,
        Self::InitialSplitBrain,
        Self::SplitBrain,
        Self::BeforeResyncTarget,
        Self::AfterResyncTarget,
        Self::BeforeResyncSource,
        Self::PrimaryOnInconsistentDegraded,
        Self::PrimaryLost,
        Self::PrimaryLostAfterSplitBrain,
        Self::LocalIoError,
        Self::OutOfSync,
        Self::QuorumLost,
        Self::Disconnected,
    ];

    /// Its name in the configuration's `handlers` section.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FencePeer => "fence-peer",
            Self::UnfencePeer => "unfence-peer",
            Self::InitialSplitBrain => "initial-split-brain",
            Self::SplitBrain => "split-brain",
            Self::BeforeResyncTarget => "before-resync-target",
            Self::AfterResyncTarget => "after-resync-target",
            Self::BeforeResyncSource => "before-resync-source",
            Self::PrimaryOnInconsistentDegraded => "pri-on-incon-degr",
            Self::PrimaryLost => "pri-lost",
            Self::PrimaryLostAfterSplitBrain => "pri-lost-after-sb",
            Self::LocalIoError => "local-io-error",
            Self::OutOfSync => "out-of-sync",
            Self::QuorumLost => "quorum-lost",
            Self::Disconnected => "disconnected",
        }
    }
}

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerResult {
    /// By itself, with this exit code.
    Exited(u8),
    /// It could not be started, was killed, or did not end in time: whatever it was asked, it has
    /// not answered (G5).
    Failed,
}

/// What only the engine knows of what a handler is told. Names, addresses and paths are in the
/// configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerFacts {
    /// The connection to the peer it is about.
    pub connection: Option<ConnectionState>,
    /// This node's disk of the volume it is about.
    pub disk: Option<DiskState>,
    /// The nodes known to be UpToDate, by the bit of their number.
    pub up_to_date_nodes: u32,
}

/// A handler to be run, as noted by whoever found the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) handler: Handler,
    pub(crate) peer: Option<NodeId>,
    pub(crate) volume: Option<rbd_protocol::ids::VolumeNumber>,
}
