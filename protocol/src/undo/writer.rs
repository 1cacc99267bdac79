//! Records in the order in which they are written.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::header::HEADER_BYTES;
use super::record::{FACTS_BYTES, HEAD_BYTES, Head, Kind};
use super::{Header, SavedVolume, Totals};
use crate::ids::{ByteRange, VolumeNumber};

/// Gives the bytes of an undo file, piece by piece. The caller writes them one after the other.
#[derive(Clone, Debug)]
pub struct Writer {
    before: u32,
    volume: VolumeNumber,
    totals: Totals,
}

impl Writer {
    /// Begins a file.
    #[must_use]
    pub fn new(header: &Header) -> (Self, [u8; HEADER_BYTES]) {
        let bytes = header.encode();
        let [.., a, b, c, d] = bytes;
        let writer = Self {
            before: u32::from_le_bytes([a, b, c, d]),
            volume: VolumeNumber(0),
            totals: Totals::default(),
        };
        (writer, bytes)
    }

    /// Begins a volume, whose number is higher than those before.
    pub fn volume(&mut self, volume: &SavedVolume) -> Vec<u8> {
        self.volume = volume.volume;
        let range = ByteRange::new(0, FACTS_BYTES);
        self.with_payload(Kind::Volume, range, volume.payload().as_bytes())
    }

    /// What stands in front of this data, of at most [`super::PIECE_BYTES`], of the volume begun
    /// last. The data itself follows as it is.
    pub fn data(&mut self, offset: u64, data: &[u8]) -> [u8; HEAD_BYTES] {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.totals.data_bytes += u64::from(length);
        self.record(Kind::Data, ByteRange::new(offset, length), data)
    }

    /// A run of zeroes of the volume begun last.
    pub fn zero(&mut self, range: ByteRange) -> [u8; HEAD_BYTES] {
        self.totals.zero_bytes += u64::from(range.length);
        self.record(Kind::Zero, range, &[])
    }

    /// What has been written so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The last record.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.volume = VolumeNumber(0);
        let payload = self.totals.payload();
        let range = ByteRange::new(0, FACTS_BYTES);
        self.with_payload(Kind::End, range, payload.as_bytes())
    }

    fn with_payload(&mut self, kind: Kind, range: ByteRange, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.record(kind, range, payload).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn record(&mut self, kind: Kind, range: ByteRange, payload: &[u8]) -> [u8; HEAD_BYTES] {
        let head = Head::new(kind, self.volume, range).sealed(self.before, payload);
        self.before = head.checksum();
        self.totals.records += 1;
        head.bytes()
    }
}
