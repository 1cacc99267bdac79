//! The head of a record, and the payloads that are not data.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{SavedVolume, Totals, UndoError, checksum};
use crate::ids::{ByteRange, GenerationId, VolumeNumber};

/// What a record is; the number is in the file and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Volume = 1,
    Data = 2,
    Zero = 3,
    End = 4,
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Head {
    kind: u8,
    reserved_1: u8,
    volume: U16,
    length: U32,
    offset: U64,
    reserved_16: U32,
    checksum: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct VolumeBytes {
    size: U64,
    generation: U64,
    since: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EndBytes {
    records: U64,
    data: U64,
    zero: U64,
}

const _: () = assert!(size_of::<Head>() == HEAD_BYTES);

impl Head {
    pub(super) fn new(kind: Kind, volume: VolumeNumber, range: ByteRange) -> Self {
        Self {
            kind: kind as u8,
            reserved_1: 0,
            volume: U16::new(volume.0),
            length: U32::new(range.length),
            offset: U64::new(range.offset),
            reserved_16: U32::new(0),
            checksum: U32::new(0),
        }
    }

    pub(super) fn of_bytes(bytes: &[u8; HEAD_BYTES]) -> Result<Self, UndoError> {
        Self::read_from_bytes(bytes).map_err(|_| UndoError::OutOfPlace)
    }

    pub(super) fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes.copy_from_slice(self.as_bytes());
        bytes
    }

    /// Adds the checksum, which covers the one before.
    pub(super) fn sealed(mut self, before: u32, payload: &[u8]) -> Self {
        self.checksum.set(self.sum(before, payload));
        self
    }

    pub(super) fn checksum(&self) -> u32 {
        self.checksum.get()
    }

    /// Whether it follows the record with this checksum.
    pub(super) fn follows(&self, before: u32, payload: &[u8]) -> bool {
        self.checksum() == self.sum(before, payload)
    }

    fn sum(&self, before: u32, payload: &[u8]) -> u32 {
        let bytes = self.bytes();
        let (content, _) = bytes.split_at(HEAD_BYTES - 4);
        checksum(&[&before.to_le_bytes(), content, payload])
    }

    pub(super) fn kind(&self) -> Result<Kind, UndoError> {
        if self.reserved_1 != 0 || self.reserved_16.get() != 0 {
            return Err(UndoError::Field {
                what: "reserved byte",
                found: 1,
            });
        }
        match self.kind {
            1 => Ok(Kind::Volume),
            2 => Ok(Kind::Data),
            3 => Ok(Kind::Zero),
            4 => Ok(Kind::End),
            other => Err(UndoError::Field {
                what: "kind of record",
                found: u64::from(other),
            }),
        }
    }

    pub(super) fn volume(&self) -> VolumeNumber {
        VolumeNumber(self.volume.get())
    }

    pub(super) fn range(&self) -> ByteRange {
        ByteRange::new(self.offset.get(), self.length.get())
    }
}

impl SavedVolume {
    pub(super) fn payload(&self) -> VolumeBytes {
        VolumeBytes {
            size: U64::new(self.size_bytes),
            generation: U64::new(self.generation.0),
            since: U64::new(self.since.0),
        }
    }

    pub(super) fn of_payload(volume: VolumeNumber, bytes: &[u8]) -> Result<Self, UndoError> {
        let bytes = VolumeBytes::ref_from_bytes(bytes).map_err(|_| UndoError::OutOfPlace)?;
        Ok(Self {
            volume,
            size_bytes: bytes.size.get(),
            generation: GenerationId(bytes.generation.get()),
            since: GenerationId(bytes.since.get()),
        })
    }
}

impl Totals {
    pub(super) fn payload(&self) -> EndBytes {
        EndBytes {
            records: U64::new(self.records),
            data: U64::new(self.data_bytes),
            zero: U64::new(self.zero_bytes),
        }
    }

    pub(super) fn of_payload(bytes: &[u8]) -> Result<Self, UndoError> {
        let bytes = EndBytes::ref_from_bytes(bytes).map_err(|_| UndoError::OutOfPlace)?;
        Ok(Self {
            records: bytes.records.get(),
            data_bytes: bytes.data.get(),
            zero_bytes: bytes.zero.get(),
        })
    }
}

/// Bytes of a record's head.
pub const HEAD_BYTES: usize = 24;

/// Bytes of the payload of a volume's record, and of the last one.
pub(super) const FACTS_BYTES: u32 = 24;
