//! Names and quantities shared by every room: node, volume, generation, byte range.
//!
//! Newtypes keep indices, counts and sizes apart; nothing here decides or performs anything.

use core::fmt;

/// Number of a node inside one resource (`node-id` in the configuration), 0..=31.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct NodeId(pub u8);

/// Number of a volume inside its resource, 0..=65534.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct VolumeNumber(pub u16);

/// A generation identifier: names one version of a volume's data (DRBD's UUID).
///
/// Zero means "none"; [`GenerationId::JUST_CREATED`] is what `create-md` writes.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode,
)]
pub struct GenerationId(pub u64);

impl GenerationId {
    /// No generation: an empty slot.
    pub const NONE: Self = Self(0);
    /// Metadata was created and no data has ever been declared good.
    pub const JUST_CREATED: Self = Self(4);

    /// Whether it names data: something has been declared good under it.
    #[must_use]
    pub fn names_data(self) -> bool {
        !self.is_none() && self != Self::JUST_CREATED
    }

    /// Whether this slot is empty.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A run of bytes on a volume's data area.
#[derive(Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Number of bytes; a request never spans more than `u32::MAX`.
    pub length: u32,
}

impl ByteRange {
    /// A range from its first byte and its length.
    #[must_use]
    pub fn new(offset: u64, length: u32) -> Self {
        Self { offset, length }
    }

    /// The first byte after the range. Saturates, so a hostile range compares as too large
    /// instead of wrapping.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }

    /// Whether the two ranges share at least one byte.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

impl fmt::Debug for VolumeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume {}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for VolumeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.offset, self.length)
    }
}

/// The unit of the dirty bitmap: one bit covers this many bytes (as in DRBD).
pub const BLOCK_SIZE: u32 = 4096;

/// The unit of the write-intent log: one mark covers this many bytes.
pub const REGION_SIZE: u64 = 4 << 20;
