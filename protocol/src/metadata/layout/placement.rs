//! Where an area may lie, and the errors of computing a layout. Never reads a device.

use super::{BLOCK, MAX_DATA_BYTES};

/// Where the metadata of a volume is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the end of the backing device itself.
    Internal,
    /// On another device or file.
    External {
        /// First byte of the area there, a multiple of 4096.
        offset: u64,
        /// Bytes the area may use.
        available: u64,
    },
}

/// Why no layout exists for these sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Peer count outside 1..=31.
    #[error("{found} peer slots, 1 to 31 are possible")]
    PeerCount {
        /// The count asked for.
        found: u8,
    },
    /// Data size that is zero or not a multiple of 4096.
    #[error("data size of {bytes} bytes is not a positive multiple of 4096")]
    DataSize {
        /// The size asked for.
        bytes: u64,
    },
    /// The device cannot hold the data (and, if internal, the metadata).
    #[error("device too small: {device_bytes} bytes, {required} needed")]
    DeviceTooSmall {
        /// Size of the device.
        device_bytes: u64,
        /// Smallest size that would do.
        required: u64,
    },
    /// The external area cannot hold the metadata of so much data.
    #[error(
        "metadata area too small: {available} bytes, {required} needed for {data_bytes} bytes of \
         data"
    )]
    MetadataAreaTooSmall {
        /// Size of the area.
        available: u64,
        /// Size it needs.
        required: u64,
        /// Data it would describe.
        data_bytes: u64,
    },
    /// More data than block numbers reach.
    #[error("data size of {data_bytes} bytes, at most {MAX_DATA_BYTES} are possible; set a size")]
    TooLarge {
        /// The size asked for.
        data_bytes: u64,
    },
    /// External area that does not start on a block.
    #[error("metadata offset {offset} is not a multiple of 4096")]
    UnalignedOffset {
        /// The offset asked for.
        offset: u64,
    },
    /// The area would end past the last byte that can be addressed.
    #[error("metadata area of {available} bytes at offset {offset} is beyond 16 EiB")]
    OffsetOverflow {
        /// Start of the area.
        offset: u64,
        /// Its length.
        available: u64,
    },
    /// Indexed window past the end of the metadata device.
    #[error("metadata index {index} lies beyond the device of {device_bytes} bytes")]
    IndexOutside {
        /// The index asked for.
        index: u32,
        /// Size of the metadata device.
        device_bytes: u64,
    },
}

impl Placement {
    /// Window `index` of a shared metadata device of `device_bytes`: 128 MiB each, as in DRBD.
    pub fn indexed(index: u32, device_bytes: u64) -> Result<Self, LayoutError> {
        let offset = u64::from(index) * INDEXED_WINDOW;
        if offset >= device_bytes {
            return Err(LayoutError::IndexOutside {
                index,
                device_bytes,
            });
        }
        Ok(Self::External {
            offset,
            available: INDEXED_WINDOW.min(device_bytes - offset),
        })
    }

    /// Start of an external area, `None` when internal: what the superblock records.
    #[must_use]
    pub fn recorded_offset(self) -> Option<u64> {
        match self {
            Self::Internal => None,
            Self::External { offset, .. } => Some(offset),
        }
    }

    /// Byte offset of block `number` counted outward from the superblock.
    pub(super) fn offset_of_number(self, device_bytes: u64, number: u64) -> u64 {
        match self {
            Self::Internal => (device_bytes / BLOCK - number - 1) * BLOCK,
            Self::External { offset, .. } => offset + number * BLOCK,
        }
    }

    /// Whether an area may lie here and has room for `required` bytes.
    pub(super) fn check(self, required: u64, data_bytes: u64) -> Result<(), LayoutError> {
        let Self::External { offset, available } = self else {
            return Ok(());
        };
        if !offset.is_multiple_of(BLOCK) {
            return Err(LayoutError::UnalignedOffset { offset });
        }
        if offset.checked_add(available).is_none() {
            return Err(LayoutError::OffsetOverflow { offset, available });
        }
        if required > available {
            return Err(LayoutError::MetadataAreaTooSmall {
                available,
                required,
                data_bytes,
            });
        }
        Ok(())
    }
}

/// Bytes per index of an indexed external metadata device.
pub const INDEXED_WINDOW: u64 = 128 << 20;
