//! What people and programs are told.

use alloc::string::String;

use rbd_protocol::ids::{NodeId, VolumeNumber};

/// A change worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How urgent it is.
    pub level: Level,
    /// The peer concerned.
    pub peer: Option<NodeId>,
    /// The volume concerned.
    pub volume: Option<VolumeNumber>,
    /// What has happened, one line.
    pub text: String,
}

/// How urgent a [`Change`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A resource or disk went out of service.
    Error,
    /// A person should look.
    Warn,
    /// A state changed.
    Info,
    /// A decision and its reason.
    Debug,
}
