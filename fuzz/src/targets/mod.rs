//! The targets, one file each: a function that takes bytes and panics when something is wrong.

pub(crate) mod configuration;
pub(crate) mod control;
pub(crate) mod engine_events;
pub(crate) mod engine_greetings;
pub(crate) mod metadata;
pub(crate) mod nbd_handshake;
pub(crate) mod nbd_session;
pub(crate) mod peer_greeting;
pub(crate) mod peer_packets;
pub(crate) mod undo;
