//! A request's header, from bytes to meaning.
//!
//! Decoding fails only where the stream itself can no longer be followed. Whether a request makes
//! sense is another question, asked in `check`.

use super::Session;
use crate::ids::ByteRange;
use crate::nbd::cursor::Cursor;
use crate::nbd::numbers::{
    MAXIMUM_PAYLOAD, REQUEST_HEADER_LENGTH, REQUEST_MAGIC, command, command_flag,
};

/// One request of a client, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The client's name for the request; every reply repeats it.
    pub cookie: u64,
    /// What is asked.
    pub kind: RequestKind,
    /// How it is to be done, with any bit the client cared to set.
    pub flags: CommandFlags,
    /// Where. As the client sent it: only [`Session::check`] makes it trustworthy.
    pub range: ByteRange,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Data of a range.
    Read,
    /// Replace a range by the payload that follows.
    Write,
    /// The client leaves; there is no reply. Requests in flight are finished first.
    Disconnect,
    /// Make everything that was completed before survive a power loss.
    Flush,
    /// The data of a range is no longer needed.
    Trim,
    /// A range will be wanted soon. Never offered, always refused.
    Cache,
    /// Make a range read as zeroes.
    WriteZeroes,
    /// Which parts of a range are allocated or zero.
    BlockStatus,
    /// A number the protocol does not define, or not for us.
    Unknown(u16),
}

/// The flag bits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandFlags(pub u16);

/// Why a connection is closed in the middle of transmission: the stream can no longer be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not as many bytes as [`Session::request_header_len`] asks for.
    #[error("request header of {0} bytes")]
    HeaderLength(usize),
    /// A request does not start with its magic.
    #[error("request magic is {0:#010x}")]
    Magic(u32),
    /// A WRITE so long that reading past it would be work without end. Its cookie is there for a
    /// last error reply.
    #[error("write payload of {length} bytes is more than {MAXIMUM_PAYLOAD}")]
    PayloadTooLong {
        /// The request to answer before closing.
        cookie: u64,
        /// What the header claims to follow.
        length: u32,
    },
}

impl Session {
    /// Reads one request header of [`request_header_len`](Self::request_header_len) bytes.
    ///
    /// After an error the connection has to be closed. A payload of up to 32 MiB is no such error
    /// even if the request is refused: it is received, thrown away, and the next header follows.
    pub fn decode(&self, header: &[u8]) -> Result<Request, SessionError> {
        let fields = if header.len() == REQUEST_HEADER_LENGTH {
            split(header)
        } else {
            None
        };
        let Some((magic, request)) = fields else {
            return Err(SessionError::HeaderLength(header.len()));
        };
        if magic != REQUEST_MAGIC {
            return Err(SessionError::Magic(magic));
        }
        let length = request.payload_len();
        if length > MAXIMUM_PAYLOAD {
            return Err(SessionError::PayloadTooLong {
                cookie: request.cookie,
                length,
            });
        }
        Ok(request)
    }
}

impl Request {
    /// Bytes that follow the header on the wire, whether or not the request will be carried out.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        if self.kind == RequestKind::Write {
            self.range.length
        } else {
            0
        }
    }
}

impl RequestKind {
    fn from_number(number: u16) -> Self {
        match number {
            command::READ => Self::Read,
            command::WRITE => Self::Write,
            command::DISCONNECT => Self::Disconnect,
            command::FLUSH => Self::Flush,
            command::TRIM => Self::Trim,
            command::CACHE => Self::Cache,
            command::WRITE_ZEROES => Self::WriteZeroes,
            command::BLOCK_STATUS => Self::BlockStatus,
            other => Self::Unknown(other),
        }
    }
}

impl CommandFlags {
    /// Complete only when the data of this request survives a power loss.
    #[must_use]
    pub fn fua(self) -> bool {
        self.has(command_flag::FUA)
    }

    /// WRITE_ZEROES must leave the range provisioned.
    #[must_use]
    pub fn no_hole(self) -> bool {
        self.has(command_flag::NO_HOLE)
    }

    /// READ must be answered in one piece, as ours always are.
    #[must_use]
    pub fn df(self) -> bool {
        self.has(command_flag::DF)
    }

    /// BLOCK_STATUS wants one extent only.
    #[must_use]
    pub fn req_one(self) -> bool {
        self.has(command_flag::REQ_ONE)
    }

    /// WRITE_ZEROES must fail with ENOTSUP rather than be as slow as a write.
    #[must_use]
    pub fn fast_zero(self) -> bool {
        self.has(command_flag::FAST_ZERO)
    }

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

fn split(header: &[u8]) -> Option<(u32, Request)> {
    let mut cursor = Cursor::new(header);
    let magic = cursor.u32()?;
    let flags = CommandFlags(cursor.u16()?);
    let kind = RequestKind::from_number(cursor.u16()?);
    let cookie = cursor.u64()?;
    let range = ByteRange::new(cursor.u64()?, cursor.u32()?);
    Some((
        magic,
        Request {
            cookie,
            kind,
            flags,
            range,
        },
    ))
}
