//! Holding resyncs back: the wish, and who may have it.

use rbd_protocol::ids::{NodeId, VolumeNumber};

/// Hold back a volume's resyncs, or let them go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseOrder {
    /// The volume.
    pub volume: VolumeNumber,
    /// Those with this peer, or all.
    pub peer: Option<NodeId>,
    /// Who wishes it: each has a brake of its own.
    pub by: PausedBy,
    /// Hold back; else go on.
    pub paused: bool,
}

/// Who holds a resync back on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// A person. Told if it is so already, as DRBD does.
    User,
    /// Another resync, which goes first (`resync-after`). May be said again and again.
    Dependency,
}
