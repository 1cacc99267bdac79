//! The server side of the NBD protocol: bytes in, bytes and decisions about bytes out.
//!
//! A connection lives in two phases, and so does this room:
//!
//! | Phase | Here | Driven by |
//! |---|---|---|
//! | negotiation | [`Handshake`] | whatever reads the socket at human pace |
//! | transmission | [`Session`] | the data path, one header at a time |
//!
//! The protocol document is `doc/proto.md` of the NBD project. Of its sections, negotiation follows
//! "Newstyle negotiation", "Fixed newstyle negotiation", "Option types" and "Option reply types";
//! transmission "Request message", "Structured reply chunk message", "Size constraints", "Request
//! types" and "Error values".
//!
//! [`Exports`] is the one question negotiation asks of its surroundings: what is behind this name?
//! `base:allocation` ("Metadata querying") is the only metadata context.
//! TLS, extended headers, resize and the oldstyle negotiation are not spoken: a client that asks
//! for one of the first two is told so and goes on without. `docs/nbd.md` has all of it as tables.
//!
//! This room never reads a socket, never touches a data byte, keeps no list of requests in flight
//! and allocates nothing during transmission except what a caller's own buffer grows by. What a
//! client claims is checked against a limit before it is believed, and nothing that a client sends
//! makes it panic.

mod cursor;
mod export;
mod handshake;
mod numbers;
mod session;
mod text;

pub use export::{BlockSizeError, BlockSizes, ExportInfo, Exports, Features, Lookup};
pub use handshake::{Handshake, HandshakeError, Policy, Step};
pub use numbers::{
    MAXIMUM_DISCARDED_OPTION_DATA, MAXIMUM_OPTION_DATA, MAXIMUM_OPTIONS, MAXIMUM_PAYLOAD,
    MAXIMUM_STRING, REQUEST_HEADER_LENGTH,
};
pub use session::{
    CommandFlags, Errno, Extent, Reason, Refusal, ReplyHeader, Request, RequestKind, Session,
    SessionError,
};
