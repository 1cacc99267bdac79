//! The on-disk metadata of one volume on one node: bytes ⇄ values, and where each block lies.
//!
//! Three kinds of 4 KiB block: the *superblock* (who this is, generations, peers), the *intent
//! log* (regions that may differ because writes were in flight) and one *dirty bitmap* per peer
//! slot. Whatever fails to verify is reported as hot, dirty or an error, never as clean.
//! `docs/metadata.md` has the layout field by field.
//!
//! Never here: reading or writing a device (the caller hands in a reader and performs the writes),
//! deciding what a generation means, a clock, or chance.

mod bitmap;
mod create;
mod header;
mod intent;
mod layout;
mod open;
mod probe;
mod superblock;
mod superblock_bytes;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use core::fmt;

pub use bitmap::{decode_bitmap_block, encode_bitmap_block};
pub use create::{Write, create, wipe};
pub use header::{BlockError, Identity, Kind, VERSION};
pub use intent::{decode_intent_block, encode_intent_block};
pub use layout::{
    BITMAP_BLOCKS_PER_INTENT_BLOCK, BITS_PER_BLOCK, BYTES_PER_BITMAP_BLOCK, BYTES_PER_INTENT_BLOCK,
    BlockAddress, INDEXED_WINDOW, Layout, LayoutError, MAX_DATA_BYTES, MAX_PEERS, Placement,
    required_external_bytes,
};
pub use open::{
    Damage, Effect, FormerEnd, Image, Located, OpenError, OpenInputs, PeerBitmap, SuperblockSlot,
    open, open_internal, read_superblocks,
};
pub use probe::{Found, probe};
pub use superblock::{
    Creation, DiskFlags, MAX_SEQUENCE, Name, NameTooLong, NodeName, PeerFlags, PeerSlot,
    ResourceName, Superblock,
};

/// One metadata block as it is read and written: the unit of every transfer.
pub type Block = [u8; BLOCK_BYTES];

/// The 32256 bits of one bitmap or intent block. Bit `i` is bit `i % 64` of word `i / 64`.
pub type BitPage = [u64; WORDS_PER_PAGE];

/// Reads exactly the buffer's length from an absolute byte offset of the metadata's device.
pub type Reader<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), ReadError> + 'a;

/// Why the caller's reader could not fill the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The operating system's error number; 0 when there is none (a short read).
    pub code: i32,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read failed with error number {}", self.code)
    }
}

impl core::error::Error for ReadError {}

/// Bytes of a metadata block.
pub const BLOCK_BYTES: usize = 4096;

/// Words of 64 bits in the payload of a bitmap or intent block.
pub const WORDS_PER_PAGE: usize = 504;

fn empty_block() -> Box<Block> {
    Box::new([0; BLOCK_BYTES])
}
