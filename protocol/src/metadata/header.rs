//! The 64 bytes every metadata block starts with: what the block is, whose, and its checksums.
//!
//! Two checksums: one over the block, one over its first 512 bytes. The second lets a reader say of
//! a torn block whether its header is the old or the new one. Never looks at payloads.

use super::{BLOCK_BYTES, Block, ReadError};
use crate::ids::{NodeId, VolumeNumber};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a block holds; the number is on disk and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Names, sizes, generations and peers; two slots.
    Superblock = 1,
    /// Marks of regions that may be in flight; two slots per block.
    Intent = 2,
    /// Blocks one peer lacks; in place.
    Bitmap = 3,
}

/// What ties all blocks of one metadata area together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random number drawn when the area was created.
    pub device_id: u64,
    /// The volume the area describes.
    pub volume: VolumeNumber,
    /// The node the area lives on.
    pub node: NodeId,
}

/// Why a block was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not even the first word is ours.
    #[error("no rbd metadata signature, found {found:#018x}")]
    NoSignature {
        /// The first eight bytes, little endian.
        found: u64,
    },
    /// Written by a newer program; nothing past the version may be interpreted.
    #[error("metadata format version {found}, this program reads up to {supported}")]
    FutureVersion {
        /// Version in the block.
        found: u16,
        /// Newest version understood here.
        supported: u16,
    },
    /// The contents are not what was written.
    #[error("checksum {found:#010x} recorded, {computed:#010x} computed")]
    Checksum {
        /// Checksum in the block.
        found: u32,
        /// Checksum of the block.
        computed: u32,
    },
    /// A whole block, but another one than should be here.
    #[error("misplaced block: {what} {found}, expected {expected}")]
    Misplaced {
        /// The field that tells.
        what: &'static str,
        /// Its value for the place that was read.
        expected: u64,
        /// Its value in the block.
        found: u64,
    },
    /// The checksum holds and a field still has a value no writer writes.
    #[error("impossible {what} {found}")]
    Field {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// Not the length of a block.
    #[error("{found} bytes, a metadata block has 4096")]
    Length {
        /// Bytes handed in.
        found: usize,
    },
    /// The two slots of a block are not one write apart.
    #[error("sequence {found} beside {newest}: an acknowledged write is missing")]
    RolledBack {
        /// The higher of the two sequences.
        newest: u64,
        /// The lower one.
        found: u64,
    },
    /// The device did not return the block.
    #[error("unreadable block: {0}")]
    Unreadable(ReadError),
}

/// The values of a header, as a writer chooses them and a reader expects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) kind: Kind,
    pub(super) peer_slot: u8,
    pub(super) identity: Identity,
    pub(super) index: u32,
    pub(super) attach_epoch: u64,
    pub(super) sequence: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: U64,
    pub(super) version: U16,
    pub(super) kind: u8,
    pub(super) peer_slot: u8,
    pub(super) volume: U16,
    pub(super) node: u8,
    reserved_15: u8,
    pub(super) device_id: U64,
    pub(super) index: U32,
    reserved_28: U32,
    pub(super) attach_epoch: U64,
    pub(super) sequence: U64,
    reserved_48: U64,
    head_checksum: U32,
    block_checksum: U32,
}

impl Header {
    /// The header of a block whose signature, version and checksum hold.
    pub(super) fn verify(bytes: &[u8]) -> Result<Self, BlockError> {
        let header = Self::signed(bytes)?;
        let computed = block_checksum(bytes);
        let found = header.block_checksum.get();
        if found != computed {
            return Err(BlockError::Checksum { found, computed });
        }
        if header.version.get() != VERSION {
            return Err(field("version", header.version.get()));
        }
        let reserved = u64::from(header.reserved_15)
            | u64::from(header.reserved_28.get())
            | header.reserved_48.get();
        if reserved != 0 {
            return Err(field("reserved header field", reserved));
        }
        if header.sequence.get() > MAX_COUNTER {
            return Err(field("sequence", header.sequence.get()));
        }
        if header.attach_epoch.get() > MAX_COUNTER {
            return Err(field("attach epoch", header.attach_epoch.get()));
        }
        Ok(header)
    }

    /// The header of a block whose first sector is whole, whatever became of the others.
    pub(super) fn of_whole_head(bytes: &[u8]) -> Option<Self> {
        let header = Self::signed(bytes).ok()?;
        (header.head_checksum.get() == head_checksum(bytes) && header.version.get() == VERSION)
            .then_some(header)
    }

    /// Whether the header is the one that belongs here; epoch and sequence are the caller's to
    /// judge.
    pub(super) fn expect(
        &self,
        kind: Kind,
        identity: Identity,
        peer_slot: u8,
        index: u32,
    ) -> Result<(), BlockError> {
        let fields: [(&'static str, u64, u64); 6] = [
            ("kind", kind.number().into(), self.kind.into()),
            ("device id", identity.device_id, self.device_id.get()),
            ("volume", identity.volume.0.into(), self.volume.get().into()),
            ("node-id", identity.node.0.into(), self.node.into()),
            ("peer slot", peer_slot.into(), self.peer_slot.into()),
            ("block index", index.into(), self.index.get().into()),
        ];
        for (what, expected, found) in fields {
            if expected != found {
                return Err(BlockError::Misplaced {
                    what,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            device_id: self.device_id.get(),
            volume: VolumeNumber(self.volume.get()),
            node: NodeId(self.node),
        }
    }

    fn signed(bytes: &[u8]) -> Result<Self, BlockError> {
        if bytes.len() != BLOCK_BYTES {
            return Err(BlockError::Length { found: bytes.len() });
        }
        let (header, _) =
            Self::read_from_prefix(bytes).map_err(|_| BlockError::Length { found: bytes.len() })?;
        if header.magic.get() != MAGIC {
            return Err(BlockError::NoSignature {
                found: header.magic.get(),
            });
        }
        if header.version.get() > VERSION {
            let found = header.version.get();
            return Err(BlockError::FutureVersion {
                found,
                supported: VERSION,
            });
        }
        Ok(header)
    }
}

impl Kind {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Superblock => 1,
            Self::Intent => 2,
            Self::Bitmap => 3,
        }
    }
}

/// Writes the header and both checksums; everything after the header must be in place.
pub(super) fn seal(block: &mut Block, stamp: &Stamp) {
    let mut header = Header {
        magic: MAGIC.into(),
        version: VERSION.into(),
        kind: stamp.kind.number(),
        peer_slot: stamp.peer_slot,
        volume: stamp.identity.volume.0.into(),
        node: stamp.identity.node.0,
        reserved_15: 0,
        device_id: stamp.identity.device_id.into(),
        index: stamp.index.into(),
        reserved_28: 0.into(),
        attach_epoch: stamp.attach_epoch.into(),
        sequence: stamp.sequence.into(),
        reserved_48: 0.into(),
        head_checksum: 0.into(),
        block_checksum: 0.into(),
    };
    block[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    header.head_checksum = head_checksum(block).into();
    block[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    header.block_checksum = block_checksum(block).into();
    block[..HEADER_BYTES].copy_from_slice(header.as_bytes());
}

pub(super) fn field(what: &'static str, found: impl Into<u64>) -> BlockError {
    BlockError::Field {
        what,
        found: found.into(),
    }
}

/// Over the first sector with both checksum fields taken as zero.
fn head_checksum(bytes: &[u8]) -> u32 {
    checksum(&[&bytes[..56], &[0; 8], &bytes[HEADER_BYTES..SECTOR_BYTES]])
}

/// Over the block with the block checksum taken as zero.
fn block_checksum(bytes: &[u8]) -> u32 {
    checksum(&[&bytes[..60], &[0; 4], &bytes[HEADER_BYTES..]])
}

pub(super) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Format version written and understood here. The signature and the version keep their place
/// (bytes 0..10) in every future version, so an old program can always tell.
pub const VERSION: u16 = 1;

/// `rbdmeta` and a zero byte, read as a little-endian number.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"rbdmeta\0");

/// Bytes of the header; the payload follows.
pub(super) const HEADER_BYTES: usize = 64;

/// The smallest unit a device writes atomically.
pub(super) const SECTOR_BYTES: usize = 512;

/// Peer slot of blocks that belong to no peer.
pub(super) const NO_PEER_SLOT: u8 = 255;

/// Sequences and epochs stop here: adding one to a value read from a disk never overflows.
pub(super) const MAX_COUNTER: u64 = 1 << 62;
