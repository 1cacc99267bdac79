//! A block device of the kernel's: which one, and how large it is.

use std::fmt;
use std::fs;
use std::path::Path;

/// By which driver, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockDevice {
    Ublk(u32),
    Nbd(u32),
}

impl BlockDevice {
    /// What the kernel calls it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Ublk(number) => format!("ublkb{number}"),
            Self::Nbd(number) => format!("nbd{number}"),
        }
    }

    /// Where it is opened.
    pub(super) fn path(self) -> String {
        format!("/dev/{}", self.name())
    }

    /// What others see as its size; `None` while there is no such device.
    pub(super) fn size_bytes(self) -> Option<u64> {
        let file = Path::new("/sys/block").join(self.name()).join("size");
        let sectors: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
        sectors.checked_mul(SECTOR_BYTES)
    }
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path())
    }
}

/// The unit in which the system tells sizes, whatever the device's blocks are.
const SECTOR_BYTES: u64 = 512;
