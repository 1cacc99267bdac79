//! The superblock as a value: who this metadata belongs to, how large, which generations, which
//! peers. `superblock_bytes` codes it. Never decides what a flag or generation means.

use super::header::MAX_COUNTER;
use super::layout::{Layout, MAX_PEERS};
use super::{BlockAddress, Identity};
use crate::ids::{GenerationId, NodeId, VolumeNumber};
use alloc::string::String;
use core::fmt;

/// A name that fits its field: at most `MAX` bytes of UTF-8, right by construction.
#[derive(Clone, Eq, Default)]
pub struct Name<const MAX: usize>(String);

/// Name of a resource as the superblock stores it.
pub type ResourceName = Name<127>;

/// Name of a node as the superblock stores it.
pub type NodeName = Name<63>;

/// With every change of the metadata all slots are compared, and nearly all of them are unused: no
/// call is made for empty names.
impl<const MAX: usize> PartialEq for Name<MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && (self.0.is_empty() || self.0 == other.0)
    }
}

impl<const MAX: usize> core::hash::Hash for Name<MAX> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A name longer than its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name of {bytes} bytes, metadata holds at most {most}")]
pub struct NameTooLong {
    /// Length of the name.
    pub bytes: usize,
    /// Room in the field.
    pub most: usize,
}

/// Everything the superblock holds. `encode` writes it under `sequence`; raise that by exactly one
/// before each write, so that the two slots take turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Resource the volume belongs to.
    pub resource: ResourceName,
    /// Node this metadata lives on.
    pub node: NodeName,
    /// That node's id in the resource.
    pub node_id: NodeId,
    /// Volume described.
    pub volume: VolumeNumber,
    /// Drawn at random when the area was created; every block of the area repeats it.
    pub device_id: u64,
    /// Usable size of the volume in bytes.
    pub data_bytes: u64,
    /// Size of the backing device when this was written.
    pub device_bytes: u64,
    /// Start of the area on an external device, `None` when internal.
    pub metadata_offset: Option<u64>,
    /// Peer slots with a bitmap, 1..=31.
    pub max_peers: u8,
    /// Seconds since 1970 at creation, as the creator told; informational.
    pub created_at: u64,
    /// Generation of the data.
    pub generation: GenerationId,
    /// Earlier generations, newest first.
    pub history: [GenerationId; 32],
    /// State that must outlive a restart.
    pub flags: DiskFlags,
    /// One entry per peer slot; entries from `max_peers` on are unused.
    pub peers: [PeerSlot; MAX_PEERS as usize],
    /// Intent blocks count if written under this epoch or its successor.
    pub attach_epoch: u64,
    /// Boot of the machine in which the disk was last in sync with a peer; 0 before the first time.
    pub boot_id: u128,
    /// Number of this write; its lowest bit is the slot.
    pub sequence: u64,
}

/// What the disk knows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFlags {
    /// The data is one generation's, not a half-finished resync.
    pub consistent: bool,
    /// The disk was UpToDate when last written about.
    pub was_up_to_date: bool,
    /// This node was Primary: set after a crash, it was a crashed Primary.
    pub primary: bool,
    /// Nothing was in flight and both sides had flushed when this was written.
    pub clean_shutdown: bool,
    /// A peer is known to have newer data.
    pub outdated: bool,
}

/// One peer's place in the metadata. The default is an unused slot, completely out of sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSlot {
    /// The peer's node-id, `None` while the slot is unused.
    pub node_id: Option<NodeId>,
    /// The peer's name, empty while unused.
    pub name: NodeName,
    /// Generation since which this slot's bitmap has recorded changes; none = in sync.
    pub bitmap_generation: GenerationId,
    /// When that began, by this node's clock, in seconds since 1970; 0 if not known. For people
    /// only.
    pub counted_since: u64,
    /// What is known about the peer.
    pub flags: PeerFlags,
}

/// What the disk knows about a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFlags {
    /// The bitmap blocks do not count: everything is out of sync.
    pub full_sync: bool,
    /// The peer's disk is known to be Outdated.
    pub peer_outdated: bool,
    /// The peer, resynchronised from here, may have adopted the current generation without this
    /// node's having heard of it.
    pub may_have_current: bool,
    /// The peer's disk took part at least once.
    pub seen: bool,
    /// This node was Primary when the bitmap began to record changes.
    pub was_primary: bool,
    /// The fence handler has been called about the peer, and what it may have done has not been
    /// taken back.
    pub fenced: bool,
}

/// What a new superblock cannot take from its layout.
#[derive(Clone, Debug)]
pub struct Creation {
    /// Resource the volume belongs to.
    pub resource: ResourceName,
    /// Node the metadata lives on.
    pub node: NodeName,
    /// That node's id.
    pub node_id: NodeId,
    /// The volume.
    pub volume: VolumeNumber,
    /// A fresh random number.
    pub device_id: u64,
    /// Seconds since 1970.
    pub created_at: u64,
}

impl<const MAX: usize> Name<MAX> {
    /// Takes the name if it fits.
    pub fn new(name: &str) -> Result<Self, NameTooLong> {
        if name.len() > MAX {
            return Err(NameTooLong {
                bytes: name.len(),
                most: MAX,
            });
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Superblock {
    /// What `create-md` writes: just created, inconsistent, every peer completely out of sync.
    #[must_use]
    pub fn new(creation: Creation, layout: &Layout) -> Self {
        Self {
            resource: creation.resource,
            node: creation.node,
            node_id: creation.node_id,
            volume: creation.volume,
            device_id: creation.device_id,
            data_bytes: layout.data_bytes(),
            device_bytes: layout.device_bytes(),
            metadata_offset: layout.placement().recorded_offset(),
            max_peers: layout.max_peers(),
            created_at: creation.created_at,
            generation: GenerationId::JUST_CREATED,
            history: [GenerationId::NONE; 32],
            flags: DiskFlags::default(),
            peers: core::array::from_fn(|_| PeerSlot::default()),
            attach_epoch: 1,
            boot_id: 0,
            sequence: 1,
        }
    }

    /// What every other block of this area repeats.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            device_id: self.device_id,
            volume: self.volume,
            node: self.node_id,
        }
    }

    /// The slot `encode`'s bytes belong in.
    #[must_use]
    pub fn address(&self) -> BlockAddress {
        BlockAddress::Superblock {
            slot: u8::from(self.sequence & 1 == 1),
        }
    }

    /// The slot index of a peer, if it has one.
    #[must_use]
    pub fn peer_slot_of(&self, peer: NodeId) -> Option<u8> {
        let found = self
            .peers
            .iter()
            .position(|slot| slot.node_id == Some(peer))?;
        u8::try_from(found).ok()
    }
}

impl Default for PeerSlot {
    fn default() -> Self {
        Self {
            node_id: None,
            name: NodeName::default(),
            bitmap_generation: GenerationId::NONE,
            counted_since: 0,
            flags: PeerFlags {
                full_sync: true,
                ..PeerFlags::default()
            },
        }
    }
}

impl<const MAX: usize> fmt::Debug for Name<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Name<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Largest sequence or attach epoch that is accepted from a disk; adding to it cannot overflow.
pub const MAX_SEQUENCE: u64 = MAX_COUNTER;
