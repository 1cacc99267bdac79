//! Transmission: what was agreed with one client, and how its requests and replies look.
//!
//! A session is immutable: it decodes a header ([`Session::decode`]), says whether the request may
//! be carried out ([`Session::check`]) and writes the bytes that go before, or in place of, data.
//! It does not remember requests, and the data itself never passes through it.

mod check;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use check::{Reason, Refusal};
pub use reply::{Errno, Extent, ReplyHeader};
pub use request::{CommandFlags, Request, RequestKind, SessionError};

use super::export::{BlockSizes, ExportInfo, Features};
use super::numbers::REQUEST_HEADER_LENGTH;

/// What one client and this server agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    export: ExportInfo,
    structured_replies: bool,
    /// The number of `base:allocation`, if the client selected it.
    allocation_context: Option<u32>,
}

impl Session {
    pub(super) fn new(
        export: ExportInfo,
        structured_replies: bool,
        allocation_context: Option<u32>,
    ) -> Self {
        Self {
            export,
            structured_replies,
            allocation_context,
        }
    }

    /// What holds with a client that does not negotiate but was told all of this by other means:
    /// replies are simple, and there are no metadata contexts.
    #[must_use]
    pub fn without_negotiation(export: ExportInfo) -> Self {
        Self::new(export, false, None)
    }

    /// The flags a client that negotiates would have been told.
    #[must_use]
    pub fn transmission_flags(&self) -> u16 {
        self.export.transmission_flags(self.structured_replies)
    }

    /// The canonical name of the export, whatever alias the client used.
    #[must_use]
    pub fn export_name(&self) -> &str {
        &self.export.name
    }

    /// Bytes the client was told it can address. It stays so when the device grows meanwhile: the
    /// protocol has no way to tell the client, so it has to connect again.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.export.size
    }

    /// What requests of this client may do.
    #[must_use]
    pub fn features(&self) -> Features {
        self.export.features
    }

    /// Alignment and payload limits of this client's requests.
    #[must_use]
    pub fn block_sizes(&self) -> BlockSizes {
        self.export.block_sizes
    }

    /// Whether replies are structured, so that errors reach the client with a text.
    #[must_use]
    pub fn has_structured_replies(&self) -> bool {
        self.structured_replies
    }

    /// The number of the metadata context `base:allocation`, without which there is no
    /// BLOCK_STATUS.
    #[must_use]
    pub fn allocation_context(&self) -> Option<u32> {
        self.allocation_context
    }

    /// How many bytes to receive before the next [`decode`](Self::decode).
    #[must_use]
    pub fn request_header_len(&self) -> usize {
        REQUEST_HEADER_LENGTH
    }
}
