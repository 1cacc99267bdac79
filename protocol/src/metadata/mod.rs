//! Placeholder until the metadata room is merged.

/// What was found on a disk.
#[derive(Clone, Debug)]
pub struct Image;
