//! What those need to know who let clients in.

use rbd_protocol::ids::GenerationId;

/// How much more a resource will take: exports stop reading requests at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Requests.
    pub requests: u32,
    /// Bytes of payload.
    pub bytes: u64,
}

/// What an export must know of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Usable size.
    pub size_bytes: u64,
    /// Smallest unit a request may have.
    pub block_bytes: u32,
    /// Its current generation.
    pub generation: GenerationId,
    /// Since this node came up, another one has had clients, or may have had: what was asked here
    /// before that must not be done now (F6).
    pub is_overtaken: bool,
}
