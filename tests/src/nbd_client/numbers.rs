//! Numbers of the NBD protocol, written down a second time: a client that took them from the
//! server's own table could not find a mistake in it.

pub(super) const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
pub(super) const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
pub(super) const FLAG_NO_ZEROES: u16 = 1 << 1;
pub(super) const OPT_GO: u32 = 7;
pub(super) const REP_ACK: u32 = 1;
pub(super) const REP_INFO: u32 = 3;
pub(super) const REP_ERROR: u32 = 1 << 31;
pub(super) const INFO_EXPORT: u16 = 0;
pub(super) const CMD_DISC: u16 = 2;

/// Refused by the server's policy.
pub const REP_ERR_POLICY: u32 = REP_ERROR | 2;
/// No such export.
pub const REP_ERR_UNKNOWN: u32 = REP_ERROR | 6;
/// Read.
pub const CMD_READ: u16 = 0;
/// Write.
pub const CMD_WRITE: u16 = 1;
/// Make everything completed durable.
pub const CMD_FLUSH: u16 = 3;
/// The content is no longer needed.
pub const CMD_TRIM: u16 = 4;
/// Write zeroes that are not sent.
pub const CMD_WRITE_ZEROES: u16 = 6;
/// Durable when answered.
pub const CMD_FLAG_FUA: u16 = 1 << 0;
/// Input or output error.
pub const EIO: u32 = 5;
/// The request makes no sense.
pub const EINVAL: u32 = 22;
/// No space left, or beyond the end.
pub const ENOSPC: u32 = 28;
