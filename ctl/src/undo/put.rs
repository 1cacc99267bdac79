//! Writing what is in an undo file onto a disk or an image of one.

use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::undo::Record;

use super::{UndoFile, UndoFileError};
use crate::offline::{Disk, OfflineError};

/// Why it was not done.
#[derive(Debug)]
pub(crate) enum Put {
    /// The file.
    File(UndoFileError),
    /// The disk.
    Disk(OfflineError),
}

/// Writes the data of one volume to a disk, and makes it durable. The file has been verified and
/// the disk is large enough.
pub(crate) fn put(file: &UndoFile, volume: VolumeNumber, disk: &Disk) -> Result<(), Put> {
    let zeroes = vec![0; ZEROES];
    file.visit(|record, payload| match record {
        Record::Data(number, range) if number == volume => {
            disk.write(range.offset, payload).map_err(Put::Disk)
        }
        Record::Zero(number, range) if number == volume => {
            write_zeroes(disk, range.offset, range.end(), &zeroes).map_err(Put::Disk)
        }
        Record::Volume(_) | Record::Data(..) | Record::Zero(..) | Record::End(_) => Ok(()),
    })?;
    disk.flush().map_err(Put::Disk)
}

impl From<UndoFileError> for Put {
    fn from(error: UndoFileError) -> Self {
        Self::File(error)
    }
}

fn write_zeroes(disk: &Disk, from: u64, to: u64, zeroes: &[u8]) -> Result<(), OfflineError> {
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(ZEROES);
        let part = zeroes.get(..left.min(ZEROES)).unwrap_or(zeroes);
        disk.write(at, part)?;
        at += u64::try_from(part.len()).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// How many zeroes are written at once.
const ZEROES: usize = 1 << 20;
