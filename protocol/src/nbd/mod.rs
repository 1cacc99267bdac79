//! Placeholder until the NBD room is merged.

/// What was negotiated with one client.
#[derive(Clone, Debug)]
pub struct Session;
