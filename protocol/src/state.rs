//! The states an administrator knows, with DRBD's names and order.
//!
//! Only the vocabulary: which transitions are legal is decided by the engine.

#[cfg(test)]
mod tests;

use core::fmt;

/// The role of a node in a resource.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
#[repr(u8)]
pub enum Role {
    /// The peer is not reachable, so its role is not known.
    Unknown = 0,
    /// Serves clients.
    Primary = 1,
    /// Only receives.
    Secondary = 2,
}

/// State of a disk, ordered: "at least `Outdated`" compares with this order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode,
)]
#[repr(u8)]
pub enum DiskState {
    /// No local disk.
    Diskless = 0,
    /// Metadata is being read.
    Attaching = 1,
    /// In-flight I/O is being drained before the disk is let go.
    Detaching = 2,
    /// An I/O error was seen; on the way to `Diskless`.
    Failed = 3,
    /// Attached while connected, waiting for the handshake.
    Negotiating = 4,
    /// Resync target, or never synchronised: not usable as a source.
    Inconsistent = 5,
    /// Consistent, and known to be behind.
    Outdated = 6,
    /// The peer's disk while the peer is not reachable.
    DUnknown = 7,
    /// Consistent; whether it is the newest is not known until a peer has been seen.
    Consistent = 8,
    /// The newest data: the only state that serves clients.
    UpToDate = 9,
}

/// State of the connection to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
#[repr(u8)]
pub enum ConnectionState {
    /// Not trying; an administrator's `connect` is needed.
    StandAlone = 0,
    /// An orderly disconnect is under way.
    Disconnecting = 1,
    /// Between two attempts.
    Unconnected = 2,
    /// The last link was lost because the peer did not answer in time.
    Timeout = 3,
    /// The last link was lost while sending.
    BrokenPipe = 4,
    /// The last link was lost by a network error.
    NetworkFailure = 5,
    /// The last link was dropped because the peer broke the protocol.
    ProtocolError = 6,
    /// The peer closed the link in an orderly way.
    TearDown = 7,
    /// Trying to reach the peer.
    Connecting = 8,
    /// Linked, and the handshake is done.
    Connected = 9,
}

/// Replication state of one volume towards one peer, meaningful only while connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
#[repr(u8)]
pub enum ReplicationState {
    /// Not replicating.
    Off = 0,
    /// Both copies are being kept identical.
    Established = 1,
    /// A full resync is about to start, this node being the source.
    StartingSyncS = 2,
    /// A full resync is about to start, this node being the target.
    StartingSyncT = 3,
    /// Bitmaps are being exchanged, this node being the source.
    WFBitMapS = 4,
    /// Bitmaps are being exchanged, this node being the target.
    WFBitMapT = 5,
    /// Waiting for the source's generation identifier.
    WFSyncUUID = 6,
    /// Resync runs, this node being the source.
    SyncSource = 7,
    /// Resync runs, this node being the target.
    SyncTarget = 8,
    /// Online verify runs, started here.
    VerifyS = 9,
    /// Online verify runs, started by the peer.
    VerifyT = 10,
    /// Resync is paused, this node being the source.
    PausedSyncS = 11,
    /// Resync is paused, this node being the target.
    PausedSyncT = 12,
}

/// What keeps a resync from being faster, as the node sees it that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
#[repr(u8)]
pub enum ResyncLimit {
    /// The link between the nodes: its bandwidth, or its delay.
    Link = 1,
    /// The disk of this node.
    DiskHere = 2,
    /// The disk of the peer.
    DiskOfPeer = 3,
    /// Clients are at work, and it makes room for them.
    Clients = 4,
    /// A rate that was configured.
    Configured = 5,
}

impl ResyncLimit {
    /// The same as the node at the other end sees it.
    #[must_use]
    pub fn from_there(self) -> Self {
        match self {
            Self::DiskHere => Self::DiskOfPeer,
            Self::DiskOfPeer => Self::DiskHere,
            Self::Link | Self::Clients | Self::Configured => self,
        }
    }
}

macro_rules! from_number {
    ($type:ident: $($variant:ident = $number:literal),+ $(,)?) => {
        impl $type {
            /// The state with this number, or `None` for a number nobody has assigned.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The number under which the state crosses the wire.
            #[must_use]
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }

            /// The word users see.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

from_number!(Role: Unknown = 0, Primary = 1, Secondary = 2);
from_number!(DiskState: Diskless = 0, Attaching = 1, Detaching = 2, Failed = 3, Negotiating = 4,
    Inconsistent = 5, Outdated = 6, DUnknown = 7, Consistent = 8, UpToDate = 9);
from_number!(ConnectionState: StandAlone = 0, Disconnecting = 1, Unconnected = 2, Timeout = 3,
    BrokenPipe = 4, NetworkFailure = 5, ProtocolError = 6, TearDown = 7, Connecting = 8,
    Connected = 9);
from_number!(ReplicationState: Off = 0, Established = 1, StartingSyncS = 2, StartingSyncT = 3,
    WFBitMapS = 4, WFBitMapT = 5, WFSyncUUID = 6, SyncSource = 7, SyncTarget = 8, VerifyS = 9,
    VerifyT = 10, PausedSyncS = 11, PausedSyncT = 12);
from_number!(ResyncLimit: Link = 1, DiskHere = 2, DiskOfPeer = 3, Clients = 4, Configured = 5);
