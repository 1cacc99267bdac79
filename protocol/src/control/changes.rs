//! What a node in a split brain would give up, for whoever wants to keep a copy of it first.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::{ByteRange, GenerationId, VolumeNumber};

/// Where a volume holds data that would be overwritten and that the peer does not have. A part of
/// the answer, as long as [`next`](Self::next) says that there is more.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Changes {
    /// The state this is true of.
    pub standing: Standing,
    /// The disk the data is on, at the same offsets.
    pub backing: Backing,
    /// Usable size of the volume in bytes.
    pub size_bytes: u64,
    /// Generation since which the changes are counted; none if everything is listed.
    pub since: GenerationId,
    /// Everything is listed, as nobody knows any more what the peer does not have.
    pub is_everything: bool,
    /// The places, in ascending order and apart from each other.
    pub runs: Vec<ByteRange>,
    /// Where to go on asking; `None` after the last part.
    pub next: Option<u64>,
}

/// The data of a volume that gives up its changes, as it was when it was saved. While all of this
/// is the same, so is the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Standing {
    /// The volume.
    pub volume: VolumeNumber,
    /// Which attaching of a disk it is, since the resource came up.
    pub attachment: u64,
    /// Its current generation.
    pub generation: GenerationId,
    /// Blocks marked for the peer.
    pub marked_blocks: u64,
    /// Bytes written to the disk since the resource came up, by whomever.
    pub written_bytes: u64,
}

/// Which disk a volume is on, so that nobody takes another one of the same name for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Backing {
    /// Its path as configured.
    pub path: String,
    /// A block device; otherwise a regular file.
    pub is_block_device: bool,
    /// Number of the block device, or of the device the file is on.
    pub device: u64,
    /// Number of the file on that device; 0 for a block device.
    pub inode: u64,
}
