//! What a server has to offer: the question negotiation asks and the answer it needs.
//!
//! The answer decides what is advertised and, later, what a request may do. Nothing here knows
//! what an export is made of.

use alloc::string::String;
use alloc::vec::Vec;

use super::numbers::{MAXIMUM_PAYLOAD, transmission_flag as flag};

/// The exports of a server, as negotiation sees them.
///
/// Asked again for every option that names an export, so the answer may change while a client
/// negotiates (a node may be promoted meanwhile); what counts is the answer to the last one.
pub trait Exports {
    /// What is behind `name`, exactly as the client sent it: valid text without NUL, at most
    /// [`MAXIMUM_STRING`](super::MAXIMUM_STRING) bytes. The empty name asks for the default export,
    /// if there is one; that is for the implementer to say.
    fn lookup(&self, name: &str) -> Lookup;

    /// Name and description (possibly empty) of every export worth showing, including those that
    /// [`lookup`](Self::lookup) would refuse at the moment.
    fn list(&self) -> Vec<(String, String)>;
}

/// The answer to a client that names an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The client may have it.
    Serve(ExportInfo),
    /// It exists and cannot be had now. The text says why and reaches the person at the client,
    /// unless the client chose the old option that has no room for it (EXPORT_NAME).
    Refuse(String),
    /// There is no export of that name.
    Unknown,
}

/// An export as it is advertised to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The name it is listed under, whatever alias the client used.
    pub name: String,
    /// One line for people; empty for none.
    pub description: String,
    /// Bytes a client can address. A multiple of the minimum block, or the tail is out of reach.
    pub size: u64,
    /// What requests may do and what the client may assume.
    pub features: Features,
    /// Alignment and payload limits.
    pub block_sizes: BlockSizes,
}

/// What an export offers beyond read, write, flush and forced unit access, which it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// No writes: WRITE, TRIM and WRITE_ZEROES fail with EPERM.
    pub read_only: bool,
    /// The client may order its accesses as for a spinning disk.
    pub rotational: bool,
    /// TRIM is understood.
    pub trim: bool,
    /// WRITE_ZEROES, with its flag to keep the blocks provisioned, is understood.
    pub write_zeroes: bool,
    /// A WRITE_ZEROES that must be fast may be asked for, and will fail at once with ENOTSUP
    /// where it is not. Means nothing without `write_zeroes`.
    pub fast_zero: bool,
    /// A flush on one connection covers the writes completed on all of them.
    pub multi_conn: bool,
}

/// Minimum block, preferred block and maximum payload, consistent with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    minimum: u32,
    preferred: u32,
    maximum_payload: u32,
}

/// Block sizes the protocol does not allow to be advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockSizeError {
    /// Not a power of two, or above 64 KiB.
    #[error("minimum block size {0} is not a power of two up to 65536")]
    Minimum(u32),
    /// Not a power of two, or below 512 or the minimum block.
    #[error("preferred block size {0} is not a power of two of at least 512 and the minimum block")]
    Preferred(u32),
    /// Below the preferred block, above 32 MiB, or no multiple of the minimum block.
    #[error(
        "maximum payload {0} is not a multiple of the minimum block between the preferred block \
         and 33554432"
    )]
    MaximumPayload(u32),
}

impl BlockSizes {
    /// What a client may assume of a server that says nothing: any alignment, 32 MiB payloads.
    pub const UNCONSTRAINED: Self = Self {
        minimum: 1,
        preferred: 4096,
        maximum_payload: MAXIMUM_PAYLOAD,
    };

    /// Checks the three sizes against the protocol's rules and each other.
    pub fn new(minimum: u32, preferred: u32, maximum_payload: u32) -> Result<Self, BlockSizeError> {
        if !minimum.is_power_of_two() || minimum > 1 << 16 {
            return Err(BlockSizeError::Minimum(minimum));
        }
        if !preferred.is_power_of_two() || preferred < minimum.max(512) {
            return Err(BlockSizeError::Preferred(preferred));
        }
        let fits = (preferred..=MAXIMUM_PAYLOAD).contains(&maximum_payload);
        if !fits || !maximum_payload.is_multiple_of(minimum) {
            return Err(BlockSizeError::MaximumPayload(maximum_payload));
        }
        Ok(Self {
            minimum,
            preferred,
            maximum_payload,
        })
    }

    /// Every offset and length is a multiple of this power of two.
    #[must_use]
    pub fn minimum(self) -> u32 {
        self.minimum
    }

    /// Requests aligned to this power of two cost least.
    #[must_use]
    pub fn preferred(self) -> u32 {
        self.preferred
    }

    /// Longest READ and WRITE that is served, in bytes.
    #[must_use]
    pub fn maximum_payload(self) -> u32 {
        self.maximum_payload
    }

    /// Whether a client that was told nothing keeps to them anyway.
    pub(super) fn need_no_telling(self) -> bool {
        self.minimum == 1 && self.maximum_payload == MAXIMUM_PAYLOAD
    }
}

impl ExportInfo {
    /// The transmission flags this export is advertised with. Not fragmenting a reply exists only
    /// where replies are structured; on a read-only export the commands that write are not offered.
    pub(super) fn transmission_flags(&self, structured_replies: bool) -> u16 {
        let features = self.features;
        let zeroes = features.write_zeroes && !features.read_only;
        let offered = [
            (true, flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA),
            (features.read_only, flag::READ_ONLY),
            (features.rotational, flag::ROTATIONAL),
            (features.trim && !features.read_only, flag::SEND_TRIM),
            (zeroes, flag::SEND_WRITE_ZEROES),
            (zeroes && features.fast_zero, flag::SEND_FAST_ZERO),
            (structured_replies, flag::SEND_DF),
            (features.multi_conn, flag::CAN_MULTI_CONN),
        ];
        offered
            .iter()
            .filter(|(is_offered, _)| *is_offered)
            .fold(0, |flags, (_, bit)| flags | bit)
    }
}
