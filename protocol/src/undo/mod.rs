//! The undo file: what a node gave up to end a split brain, kept for the administrator.
//!
//! One header, then records: for each volume what it was, then its data in ascending order, at the
//! end a record that says that nothing is missing. Every record's checksum also covers the one
//! before, so that nothing can be missing, doubled or exchanged between two records, either.
//! `docs/undo-file.md` has the layout field by field.
//!
//! Never here: reading or writing a file, or deciding what belongs into it.

mod header;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use crate::ids::{GenerationId, VolumeNumber};
use crate::metadata::{NodeName, ResourceName};

pub use header::HEADER_BYTES;
pub use reader::{Reader, Record};
pub use record::HEAD_BYTES;
pub use writer::Writer;

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The resource.
    pub resource: ResourceName,
    /// The node that gave up its changes.
    pub node: NodeName,
    /// The node whose data was kept.
    pub kept: NodeName,
    /// The tenure in which the node that gave up its changes made the last of them, or a later one.
    pub tenure: u64,
    /// When it was written, in seconds since 1970 by that node's clock.
    pub written_at: u64,
    /// Whole volumes were saved, whatever was changed of them.
    pub is_whole: bool,
}

/// One volume, as it was before its changes were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedVolume {
    /// Its number.
    pub volume: VolumeNumber,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its generation.
    pub generation: GenerationId,
    /// The generation since which what is in here was changed; none if everything is in here.
    pub since: GenerationId,
}

/// How much there is; the last record says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records before this one.
    pub records: u64,
    /// Bytes of data that are in the file.
    pub data_bytes: u64,
    /// Bytes that were zero, which are not.
    pub zero_bytes: u64,
}

/// Why a file is not an undo file that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndoError {
    /// It begins with something else.
    #[error("not an undo file")]
    NotAnUndoFile,
    /// Written by a newer program.
    #[error("undo file of format version {found}, this program reads {VERSION}")]
    FutureVersion {
        /// The version in the file.
        found: u16,
    },
    /// The contents are not what was written.
    #[error("damaged: a checksum does not fit")]
    Checksum,
    /// The checksum fits and a field still has a value no writer writes.
    #[error("damaged: impossible {what} {found}")]
    Field {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// A record that has no place here: data before its volume, or not in ascending order.
    #[error("damaged: a record is out of place")]
    OutOfPlace,
}

/// Format version written and understood here.
pub const VERSION: u16 = 1;

/// The longest payload of a record.
pub const PIECE_BYTES: u32 = 1 << 20;

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn check_zero(what: &'static str, bytes: &[u8]) -> Result<(), UndoError> {
    match bytes.iter().find(|byte| **byte != 0) {
        None => Ok(()),
        Some(byte) => Err(UndoError::Field {
            what,
            found: u64::from(*byte),
        }),
    }
}
