//! The first 512 bytes of an undo file.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Header, UndoError, VERSION, check_zero, checksum};
use crate::metadata::Name;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeaderBytes {
    magic: [u8; 8],
    version: U16,
    flags: u8,
    reserved_11: [u8; 5],
    tenure: U64,
    written_at: U64,
    resource_length: u8,
    resource: [u8; 127],
    node_length: u8,
    node: [u8; 63],
    kept_length: u8,
    kept: [u8; 63],
    reserved_288: [u8; 220],
    checksum: U32,
}

const _: () = assert!(size_of::<HeaderBytes>() == HEADER_BYTES);

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = HeaderBytes::new_zeroed();
        bytes.magic = MAGIC;
        bytes.version.set(VERSION);
        bytes.flags = u8::from(self.is_whole);
        bytes.tenure.set(self.tenure);
        bytes.written_at.set(self.written_at);
        bytes.resource_length = put_name(&mut bytes.resource, &self.resource);
        bytes.node_length = put_name(&mut bytes.node, &self.node);
        bytes.kept_length = put_name(&mut bytes.kept, &self.kept);
        let (content, _) = bytes.as_bytes().split_at(CONTENT_BYTES);
        bytes.checksum.set(checksum(&[content]));
        let mut block = [0; HEADER_BYTES];
        block.copy_from_slice(bytes.as_bytes());
        block
    }

    /// The header and its checksum.
    pub(super) fn decode(block: &[u8; HEADER_BYTES]) -> Result<(Self, u32), UndoError> {
        let Ok(bytes) = HeaderBytes::ref_from_bytes(block) else {
            return Err(UndoError::NotAnUndoFile);
        };
        if bytes.magic != MAGIC {
            return Err(UndoError::NotAnUndoFile);
        }
        let found = bytes.version.get();
        if found > VERSION {
            return Err(UndoError::FutureVersion { found });
        }
        let (content, _) = block.split_at(CONTENT_BYTES);
        if checksum(&[content]) != bytes.checksum.get() {
            return Err(UndoError::Checksum);
        }
        if found != VERSION {
            return Err(field("version", found));
        }
        if bytes.flags > 1 {
            return Err(field("flags", bytes.flags));
        }
        check_zero("reserved byte", &bytes.reserved_11)?;
        check_zero("reserved byte", &bytes.reserved_288)?;
        let header = Self {
            resource: name("resource", bytes.resource_length, &bytes.resource)?,
            node: name("node", bytes.node_length, &bytes.node)?,
            kept: name("kept node", bytes.kept_length, &bytes.kept)?,
            tenure: bytes.tenure.get(),
            written_at: bytes.written_at.get(),
            is_whole: bytes.flags == 1,
        };
        Ok((header, bytes.checksum.get()))
    }
}

fn put_name<const MAX: usize>(to: &mut [u8; MAX], name: &Name<MAX>) -> u8 {
    let name = name.as_str().as_bytes();
    for (to, from) in to.iter_mut().zip(name) {
        *to = *from;
    }
    u8::try_from(name.len()).unwrap_or(u8::MAX)
}

fn name<const MAX: usize>(
    what: &'static str,
    length: u8,
    bytes: &[u8; MAX],
) -> Result<Name<MAX>, UndoError> {
    let length_of = usize::from(length);
    let (Some(name), Some(rest)) = (bytes.get(..length_of), bytes.get(length_of..)) else {
        return Err(field(what, length));
    };
    check_zero(what, rest)?;
    let name = core::str::from_utf8(name).map_err(|_| field(what, length))?;
    Name::new(name).map_err(|_| field(what, length))
}

fn field(what: &'static str, found: impl Into<u64>) -> UndoError {
    let found = found.into();
    UndoError::Field { what, found }
}

/// Bytes of the header.
pub const HEADER_BYTES: usize = 512;

/// All of it but the checksum.
const CONTENT_BYTES: usize = HEADER_BYTES - 4;

const MAGIC: [u8; 8] = *b"rbdundo\0";
