//! Bytes the server sends during transmission, except the data itself.
//!
//! A header that goes before data, or stands alone, is a small array the caller sends from where
//! it likes; the two replies of variable length grow a buffer of the caller's.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use super::{Request, Session};
use crate::nbd::numbers::{
    MAXIMUM_EXTENTS, MAXIMUM_STRING, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk,
    meta_context,
};
use crate::nbd::text::clip_to;

/// The errors the protocol knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Errno {
    /// EPERM: the export is read-only.
    NotPermitted,
    /// EIO: the data could not be read, or not be made safe.
    InputOutput,
    /// ENOMEM: not now; the protocol would rather not see it.
    OutOfMemory,
    /// EINVAL: the request makes no sense here.
    Invalid,
    /// ENOSPC: the device ends, or is full, before the write does.
    NoSpace,
    /// EOVERFLOW: the same with less would do.
    Overflow,
    /// ENOTSUP: a WRITE_ZEROES that must be fast would not be.
    NotSupported,
    /// ESHUTDOWN: the server is going away; the client has to leave.
    Shutdown,
}

/// A reply header without allocation: sent alone, or before the data it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

/// A run of bytes with one allocation status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of bytes.
    pub length: u64,
    /// Nothing is allocated there.
    pub is_hole: bool,
    /// It reads as zeroes, surely.
    pub is_zero: bool,
}

impl Errno {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::InputOutput => 5,
            Self::OutOfMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::Shutdown => 108,
        }
    }
}

impl ReplyHeader {
    /// The longest header: a structured chunk with the offset of its data.
    pub const CAPACITY: usize = CHUNK_HEADER_LENGTH + 8;

    /// What goes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn from_parts(parts: &[&[u8]]) -> Self {
        let mut header = Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        };
        for part in parts {
            let end = header.length + part.len();
            header.bytes[header.length..end].copy_from_slice(part);
            header.length = end;
        }
        header
    }
}

impl Session {
    /// A READ succeeded: this goes out, then the data, all `request.range.length` bytes of it.
    ///
    /// The data must be complete before: the reply cannot be taken back. That is also why one
    /// chunk is enough and is the last.
    #[must_use]
    pub fn encode_read(&self, request: &Request) -> ReplyHeader {
        if !self.structured_replies {
            return simple_reply(request.cookie, 0);
        }
        let length = request.range.length.saturating_add(8);
        let header = chunk_header(chunk::OFFSET_DATA, request.cookie, length);
        ReplyHeader::from_parts(&[&header, &request.range.offset.to_be_bytes()])
    }

    /// Any request without data in its reply succeeded.
    #[must_use]
    pub fn encode_done(&self, request: &Request) -> ReplyHeader {
        if !self.structured_replies {
            return simple_reply(request.cookie, 0);
        }
        ReplyHeader::from_parts(&[&chunk_header(chunk::NONE, request.cookie, 0)])
    }

    /// The request with this cookie failed, whatever it was. The message reaches the client if
    /// replies are structured, up to 4 KiB of it.
    pub fn encode_error(
        &self,
        cookie: u64,
        errno: Errno,
        message: &dyn fmt::Display,
        out: &mut Vec<u8>,
    ) {
        if !self.structured_replies {
            out.extend_from_slice(simple_reply(cookie, errno.number()).as_bytes());
            return;
        }
        let start = out.len();
        out.extend_from_slice(&chunk_header(chunk::ERROR, cookie, 0));
        out.extend_from_slice(&errno.number().to_be_bytes());
        let message_length_at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut clipped = Clipped {
            out,
            room: MAXIMUM_STRING,
        };
        // A message that cannot be formatted, or has reached its limit, ends where it is.
        let _ended_early = write!(clipped, "{message}").is_err();
        let length = u16::try_from(out.len() - message_length_at - 2)
            .expect("the message was clipped to 4 KiB");
        out[message_length_at..message_length_at + 2].copy_from_slice(&length.to_be_bytes());
        patch_chunk_length(start, out);
    }

    /// A BLOCK_STATUS succeeded. `extents` follow each other from the start of the request's range.
    ///
    /// Empty extents are left out, equal neighbours joined, and what lies after the range, or
    /// after the first extent if the client wants only one, is cut off. They may cover less than
    /// the range; if they cover nothing, the range is said to be data, which is always true enough.
    pub fn encode_block_status(&self, request: &Request, extents: &[Extent], out: &mut Vec<u8>) {
        let Some(context) = self.allocation_context else {
            let message = "no metadata context was selected for this export";
            return self.encode_error(request.cookie, Errno::Invalid, &message, out);
        };
        let start = out.len();
        out.extend_from_slice(&chunk_header(chunk::BLOCK_STATUS, request.cookie, 0));
        out.extend_from_slice(&context.to_be_bytes());
        let most = if request.flags.req_one() {
            1
        } else {
            self.maximum_extents()
        };
        push_extents(request.range.length, extents, most, out);
        patch_chunk_length(start, out);
    }
}

impl Session {
    /// A chunk's list may be no longer than what the client takes as payload.
    fn maximum_extents(&self) -> u32 {
        let maximum_payload = self.block_sizes().maximum_payload();
        MAXIMUM_EXTENTS.min(maximum_payload / 8)
    }
}

/// Length of a structured chunk's header.
const CHUNK_HEADER_LENGTH: usize = 20;
/// Where in it the length of the payload is.
const CHUNK_LENGTH_AT: usize = 16;
/// Length of one extent on the wire.
const EXTENT_LENGTH: usize = 8;

fn push_extents(requested: u32, extents: &[Extent], most: u32, out: &mut Vec<u8>) {
    let mut remaining = requested;
    let mut count = 0;
    let mut last: Option<(u32, u32)> = None;
    for extent in extents {
        let length = u32::try_from(extent.length)
            .unwrap_or(u32::MAX)
            .min(remaining);
        if length == 0 {
            continue;
        }
        let flags = extent.flags();
        match last {
            Some((before, same)) if same == flags => {
                // Both are part of the requested length, so the sum fits.
                out.truncate(out.len() - EXTENT_LENGTH);
                last = Some((before + length, flags));
            }
            Some(_) | None if count == most => break,
            Some(_) | None => {
                count += 1;
                last = Some((length, flags));
            }
        }
        remaining -= length;
        push_extent(last.unwrap_or_default(), out);
    }
    if last.is_none() {
        push_extent((requested, 0), out);
    }
}

fn push_extent((length, flags): (u32, u32), out: &mut Vec<u8>) {
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
}

impl Extent {
    fn flags(self) -> u32 {
        let hole = if self.is_hole {
            meta_context::STATE_HOLE
        } else {
            0
        };
        let zero = if self.is_zero {
            meta_context::STATE_ZERO
        } else {
            0
        };
        hole | zero
    }
}

fn simple_reply(cookie: u64, error: u32) -> ReplyHeader {
    ReplyHeader::from_parts(&[
        &SIMPLE_REPLY_MAGIC.to_be_bytes(),
        &error.to_be_bytes(),
        &cookie.to_be_bytes(),
    ])
}

/// The header of a chunk that is the only one of its reply.
fn chunk_header(kind: u16, cookie: u64, length: u32) -> [u8; CHUNK_HEADER_LENGTH] {
    let mut header = [0; CHUNK_HEADER_LENGTH];
    header[0..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    header[4..6].copy_from_slice(&chunk::FLAG_DONE.to_be_bytes());
    header[6..8].copy_from_slice(&kind.to_be_bytes());
    header[8..16].copy_from_slice(&cookie.to_be_bytes());
    header[CHUNK_LENGTH_AT..].copy_from_slice(&length.to_be_bytes());
    header
}

/// Writes into the chunk that begins at `start` how long it has become.
fn patch_chunk_length(start: usize, out: &mut [u8]) {
    let payload = out.len() - start - CHUNK_HEADER_LENGTH;
    let payload = u32::try_from(payload).expect("a message or at most 2^20 extents");
    let at = start + CHUNK_LENGTH_AT;
    out[at..at + 4].copy_from_slice(&payload.to_be_bytes());
}

/// Takes text until its room is used up, never cutting a character in two.
struct Clipped<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
}

impl fmt::Write for Clipped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = clip_to(text, self.room);
        self.out.extend_from_slice(fitting.as_bytes());
        self.room -= fitting.len();
        if fitting.len() == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
