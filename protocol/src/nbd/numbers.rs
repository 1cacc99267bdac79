//! Every number of the protocol and every limit of ours, in one place.
//!
//! Numbers are the protocol's and never change; limits are ours and each says why it is so much.
//! Nothing here has behaviour.

/// Longest string (export name, description, message) either side may send, in bytes.
/// The protocol's own limit.
pub const MAXIMUM_STRING: usize = 4096;

/// Most options one client may send. A real client needs about six (structured replies, a list of
/// contexts, one or two selections, INFO, GO); more is a client that holds the connection for fun.
pub const MAXIMUM_OPTIONS: u32 = 64;

/// Most option data that is kept in memory. The longest sensible option, a name of 4 KiB with a
/// dozen metadata queries, is far below it.
pub const MAXIMUM_OPTION_DATA: u32 = 64 << 10;

/// Most option data that is read and thrown away so that the client can be told its option is too
/// big or not supported. Past it the connection ends.
pub const MAXIMUM_DISCARDED_OPTION_DATA: u32 = 1 << 20;

/// Largest payload of one request, 32 MiB: the protocol asks every server to take that much, and
/// lets it treat anything above as an attack.
pub const MAXIMUM_PAYLOAD: u32 = 1 << 25;

/// Most extents in one block status chunk, as the protocol advises.
pub(super) const MAXIMUM_EXTENTS: u32 = 1 << 20;

/// Length of a request header; the payload of a WRITE follows it.
pub const REQUEST_HEADER_LENGTH: usize = 28;

/// Length of the client's first message, its flags.
pub(super) const CLIENT_FLAGS_LENGTH: usize = 4;
/// Length of an option header: magic, option, length of data.
pub(super) const OPTION_HEADER_LENGTH: usize = 16;

pub(super) const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, and with the same bits the client's.
pub(super) mod handshake_flag {
    pub(in crate::nbd) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(in crate::nbd) const NO_ZEROES: u16 = 1 << 1;
}

/// Transmission flags: what an export offers.
pub(super) mod transmission_flag {
    pub(in crate::nbd) const HAS_FLAGS: u16 = 1 << 0;
    pub(in crate::nbd) const READ_ONLY: u16 = 1 << 1;
    pub(in crate::nbd) const SEND_FLUSH: u16 = 1 << 2;
    pub(in crate::nbd) const SEND_FUA: u16 = 1 << 3;
    pub(in crate::nbd) const ROTATIONAL: u16 = 1 << 4;
    pub(in crate::nbd) const SEND_TRIM: u16 = 1 << 5;
    pub(in crate::nbd) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(in crate::nbd) const SEND_DF: u16 = 1 << 7;
    pub(in crate::nbd) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(in crate::nbd) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Options a client sends.
pub(super) mod option {
    pub(in crate::nbd) const EXPORT_NAME: u32 = 1;
    pub(in crate::nbd) const ABORT: u32 = 2;
    pub(in crate::nbd) const LIST: u32 = 3;
    pub(in crate::nbd) const INFO: u32 = 6;
    pub(in crate::nbd) const GO: u32 = 7;
    pub(in crate::nbd) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::nbd) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::nbd) const SET_META_CONTEXT: u32 = 10;
}

/// Kinds of option replies.
pub(super) mod option_reply {
    pub(in crate::nbd) const ACK: u32 = 1;
    pub(in crate::nbd) const SERVER: u32 = 2;
    pub(in crate::nbd) const INFO: u32 = 3;
    pub(in crate::nbd) const META_CONTEXT: u32 = 4;

    const ERROR: u32 = 1 << 31;
    pub(in crate::nbd) const ERR_UNSUP: u32 = ERROR + 1;
    pub(in crate::nbd) const ERR_POLICY: u32 = ERROR + 2;
    pub(in crate::nbd) const ERR_INVALID: u32 = ERROR + 3;
    pub(in crate::nbd) const ERR_UNKNOWN: u32 = ERROR + 6;
    pub(in crate::nbd) const ERR_BLOCK_SIZE_REQD: u32 = ERROR + 8;
    pub(in crate::nbd) const ERR_TOO_BIG: u32 = ERROR + 9;
}

/// Pieces of information about an export.
pub(super) mod info {
    pub(in crate::nbd) const EXPORT: u16 = 0;
    pub(in crate::nbd) const NAME: u16 = 1;
    pub(in crate::nbd) const DESCRIPTION: u16 = 2;
    pub(in crate::nbd) const BLOCK_SIZE: u16 = 3;
}

/// The one metadata context, its wildcard, and the number it goes by in block status replies.
pub(super) mod meta_context {
    pub(in crate::nbd) const ALLOCATION: &str = "base:allocation";
    pub(in crate::nbd) const BASE_WILDCARD: &str = "base:";
    pub(in crate::nbd) const ALLOCATION_ID: u32 = 1;
    /// Replies to LIST_META_CONTEXT carry no number that means anything.
    pub(in crate::nbd) const UNSELECTED_ID: u32 = 0;
    pub(in crate::nbd) const STATE_HOLE: u32 = 1 << 0;
    pub(in crate::nbd) const STATE_ZERO: u32 = 1 << 1;
}

/// Request types.
pub(super) mod command {
    pub(in crate::nbd) const READ: u16 = 0;
    pub(in crate::nbd) const WRITE: u16 = 1;
    pub(in crate::nbd) const DISCONNECT: u16 = 2;
    pub(in crate::nbd) const FLUSH: u16 = 3;
    pub(in crate::nbd) const TRIM: u16 = 4;
    pub(in crate::nbd) const CACHE: u16 = 5;
    pub(in crate::nbd) const WRITE_ZEROES: u16 = 6;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 7;
}

/// Flags of a request.
pub(super) mod command_flag {
    pub(in crate::nbd) const FUA: u16 = 1 << 0;
    pub(in crate::nbd) const NO_HOLE: u16 = 1 << 1;
    pub(in crate::nbd) const DF: u16 = 1 << 2;
    pub(in crate::nbd) const REQ_ONE: u16 = 1 << 3;
    pub(in crate::nbd) const FAST_ZERO: u16 = 1 << 4;
}

/// Structured reply chunks: their kinds and their one flag.
pub(super) mod chunk {
    pub(in crate::nbd) const NONE: u16 = 0;
    pub(in crate::nbd) const OFFSET_DATA: u16 = 1;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 5;
    pub(in crate::nbd) const ERROR: u16 = (1 << 15) + 1;
    pub(in crate::nbd) const FLAG_DONE: u16 = 1 << 0;
}
