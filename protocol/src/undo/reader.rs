//! Records in the order in which they are read, each of them checked.

use super::header::HEADER_BYTES;
use super::record::{FACTS_BYTES, HEAD_BYTES, Head, Kind};
use super::{Header, PIECE_BYTES, SavedVolume, Totals, UndoError};
use crate::ids::{ByteRange, VolumeNumber};

/// Follows an undo file record by record. Nothing in it is to be believed before the last record
/// has been read, and nothing may follow that.
#[derive(Clone, Debug)]
pub struct Reader {
    before: u32,
    volume: Option<SavedVolume>,
    /// Where the next data of the volume may begin.
    position: u64,
    totals: Totals,
    has_ended: bool,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A volume begins.
    Volume(SavedVolume),
    /// The payload is the data of this volume at this place.
    Data(VolumeNumber, ByteRange),
    /// This place of this volume is zero.
    Zero(VolumeNumber, ByteRange),
    /// The file is complete.
    End(Totals),
}

impl Reader {
    /// Begins with the header.
    ///
    /// # Errors
    /// When it is not one.
    pub fn new(header: &[u8; HEADER_BYTES]) -> Result<(Self, Header), UndoError> {
        let (header, before) = Header::decode(header)?;
        let reader = Self {
            before,
            volume: None,
            position: 0,
            totals: Totals::default(),
            has_ended: false,
        };
        Ok((reader, header))
    }

    /// How many bytes of payload follow this head.
    ///
    /// # Errors
    /// When it is no head.
    pub fn payload_bytes(head: &[u8; HEAD_BYTES]) -> Result<usize, UndoError> {
        let head = Head::of_bytes(head)?;
        let length = head.range().length;
        let payload = match head.kind()? {
            Kind::Zero => 0,
            Kind::Volume | Kind::End if length == FACTS_BYTES => length,
            Kind::Data if (1..=PIECE_BYTES).contains(&length) => length,
            Kind::Volume | Kind::End | Kind::Data => {
                return Err(UndoError::Field {
                    what: "length of a record",
                    found: u64::from(length),
                });
            }
        };
        usize::try_from(payload).map_err(|_| UndoError::OutOfPlace)
    }

    /// The next record.
    ///
    /// # Errors
    /// When it is damaged or not the next one.
    pub fn record(&mut self, head: &[u8; HEAD_BYTES], payload: &[u8]) -> Result<Record, UndoError> {
        if self.has_ended || payload.len() != Self::payload_bytes(head)? {
            return Err(UndoError::OutOfPlace);
        }
        let head = Head::of_bytes(head)?;
        if !head.follows(self.before, payload) {
            return Err(UndoError::Checksum);
        }
        let record = match head.kind()? {
            Kind::Volume => self.begin(head, payload)?,
            Kind::Data => {
                let range = self.advance(head)?;
                self.totals.data_bytes += u64::from(range.length);
                Record::Data(head.volume(), range)
            }
            Kind::Zero => {
                let range = self.advance(head)?;
                self.totals.zero_bytes += u64::from(range.length);
                Record::Zero(head.volume(), range)
            }
            Kind::End => self.finish(head, payload)?,
        };
        self.before = head.checksum();
        self.totals.records += 1;
        Ok(record)
    }

    /// Whether the last record has been read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn begin(&mut self, head: Head, payload: &[u8]) -> Result<Record, UndoError> {
        let volume = SavedVolume::of_payload(head.volume(), payload)?;
        let is_next = self
            .volume
            .is_none_or(|before| before.volume < volume.volume);
        if !is_next || volume.volume.0 == u16::MAX || head.range().offset != 0 {
            return Err(UndoError::OutOfPlace);
        }
        self.volume = Some(volume);
        self.position = 0;
        Ok(Record::Volume(volume))
    }

    /// The place the record is about, which comes after those before and inside the volume.
    fn advance(&mut self, head: Head) -> Result<ByteRange, UndoError> {
        let range = head.range();
        let Some(volume) = self.volume else {
            return Err(UndoError::OutOfPlace);
        };
        let end = range.offset.checked_add(u64::from(range.length));
        let fits = end.is_some_and(|end| end <= volume.size_bytes);
        if head.volume() != volume.volume
            || range.length == 0
            || range.offset < self.position
            || !fits
        {
            return Err(UndoError::OutOfPlace);
        }
        self.position = range.end();
        Ok(range)
    }

    fn finish(&mut self, head: Head, payload: &[u8]) -> Result<Record, UndoError> {
        let totals = Totals::of_payload(payload)?;
        if totals != self.totals || head.volume().0 != 0 || head.range().offset != 0 {
            return Err(UndoError::OutOfPlace);
        }
        self.has_ended = true;
        Ok(Record::End(totals))
    }
}
