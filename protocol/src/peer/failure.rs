//! Why a peer says no.

/// Why a peer could not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureCode {
    /// The disk returned an error.
    Io = 1,
    /// The disk has no space left.
    NoSpace = 2,
    /// There is no usable disk.
    NoDisk = 3,
}

impl FailureCode {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Io => 1,
            Self::NoSpace => 2,
            Self::NoDisk => 3,
        }
    }

    pub(super) fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Io),
            2 => Some(Self::NoSpace),
            3 => Some(Self::NoDisk),
            _ => None,
        }
    }
}
