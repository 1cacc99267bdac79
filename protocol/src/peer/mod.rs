//! The link between two nodes: two TCP connections, *data* and *control*, each a stream of packets.
//!
//! A packet is a fixed [`header`] and a payload of the announced length. Bulk payloads (data to be
//! written, data that was read) are never decoded here: they stay where they were received. All
//! other payloads are structured bodies, decoded into the [`Packet`] itself.
//!
//! Numbers are assigned by hand and never reused; all integers are big endian; header and payload
//! each carry a CRC-32. `docs/protocol.md` has a row for every packet.

mod body;
mod decode;
mod encode;
mod failure;
pub mod greeting;
pub mod header;
mod hello;
mod packet;
#[cfg(test)]
mod tests;

pub use failure::FailureCode;
pub use header::{HEADER_BYTES, Header, Kind, WireError};
pub use hello::{Hello, HelloVolume};
pub use packet::{Channel, Digest, Packet, Place};

/// Longest bulk payload a packet may carry: the largest request a client may make.
pub const BULK_LIMIT: u32 = 32 << 20;

/// Longest structured body of any packet.
pub const BODY_LIMIT: u32 = 64 << 10;
