//! Reading an undo file. It is read to its end before anything in it is believed.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::undo::{
    HEAD_BYTES, HEADER_BYTES, Header, Reader, Record, SavedVolume, Totals, UndoError,
};
use rustix::fs::OFlags;

use super::UndoFileError;

/// An open undo file.
#[derive(Debug)]
pub(crate) struct UndoFile {
    file: File,
    path: PathBuf,
}

/// What is in one, once it is known to be complete.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Whose it is.
    pub(crate) header: Header,
    /// Its volumes.
    pub(crate) volumes: Vec<VolumeContents>,
    /// Everything together.
    pub(crate) totals: Totals,
}

/// One volume in an undo file.
#[derive(Debug)]
pub(crate) struct VolumeContents {
    /// What it was.
    pub(crate) saved: SavedVolume,
    /// Bytes of data.
    pub(crate) data_bytes: u64,
    /// Bytes of zeroes.
    pub(crate) zero_bytes: u64,
    /// How many runs that are apart from each other.
    pub(crate) runs: u64,
    /// Where the last of them ends.
    end: u64,
}

impl UndoFile {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> Result<Self, UndoFileError> {
        let file = OpenOptions::new()
            .read(true)
            // Nobody may ever write to what is a pipe.
            .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0))
            .open(path)
            .map_err(UndoFileError::file(path, "opened"))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Reads all of it and tells what it holds.
    pub(crate) fn verify(&self) -> Result<Contents, UndoFileError> {
        let mut volumes: Vec<VolumeContents> = Vec::new();
        let (header, totals) = self.visit::<UndoFileError>(|record, _| {
            match (record, volumes.last_mut()) {
                (Record::Volume(saved), _) => volumes.push(VolumeContents {
                    saved,
                    data_bytes: 0,
                    zero_bytes: 0,
                    runs: 0,
                    end: u64::MAX,
                }),
                (Record::Data(_, range), Some(volume)) => {
                    volume.data_bytes += u64::from(range.length);
                    volume.add(range);
                }
                (Record::Zero(_, range), Some(volume)) => {
                    volume.zero_bytes += u64::from(range.length);
                    volume.add(range);
                }
                (Record::Data(..) | Record::Zero(..) | Record::End(_), _) => {}
            }
            Ok(())
        })?;
        Ok(Contents {
            header,
            volumes,
            totals,
        })
    }

    /// Reads all of it, and shows every record with its payload.
    pub(super) fn visit<E: From<UndoFileError>>(
        &self,
        mut show: impl FnMut(Record, &[u8]) -> Result<(), E>,
    ) -> Result<(Header, Totals), E> {
        let damaged = |source: UndoError| UndoFileError::Damaged {
            path: self.path.clone(),
            source,
        };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))
            .map_err(UndoFileError::file(&self.path, "read"))?;
        let mut input = BufReader::with_capacity(1 << 16, file);
        let mut head = [0; HEADER_BYTES];
        self.fill_header(&mut input, &mut head)?;
        let (mut reader, header) = Reader::new(&head).map_err(damaged)?;
        let mut payload = Vec::new();
        loop {
            let mut head = [0; HEAD_BYTES];
            self.fill(&mut input, &mut head)?;
            payload.resize(Reader::payload_bytes(&head).map_err(damaged)?, 0);
            self.fill(&mut input, &mut payload)?;
            let record = reader.record(&head, &payload).map_err(damaged)?;
            show(record, &payload)?;
            if let Record::End(totals) = record {
                let mut more = [0; 1];
                return match input.read(&mut more) {
                    Ok(0) => Ok((header, totals)),
                    Ok(_) => Err(damaged(UndoError::OutOfPlace).into()),
                    Err(source) => Err(UndoFileError::file(&self.path, "read")(source).into()),
                };
            }
        }
    }

    /// A file too short for a header is none, unless it is the beginning of one.
    fn fill_header(
        &self,
        input: &mut impl Read,
        head: &mut [u8; HEADER_BYTES],
    ) -> Result<(), UndoFileError> {
        match self.fill(input, head) {
            Err(UndoFileError::Incomplete(path)) if !head.starts_with(b"rbdundo\0") => {
                let source = UndoError::NotAnUndoFile;
                Err(UndoFileError::Damaged { path, source })
            }
            filled => filled,
        }
    }

    fn fill(&self, input: &mut impl Read, buffer: &mut [u8]) -> Result<(), UndoFileError> {
        input
            .read_exact(buffer)
            .map_err(|source| match source.kind() {
                ErrorKind::UnexpectedEof => UndoFileError::Incomplete(self.path.clone()),
                _ => UndoFileError::file(&self.path, "read")(source),
            })
    }
}

impl Contents {
    /// The volume with this number.
    pub(crate) fn volume(&self, number: VolumeNumber) -> Option<&VolumeContents> {
        self.volumes.iter().find(|one| one.saved.volume == number)
    }
}

impl VolumeContents {
    fn add(&mut self, range: ByteRange) {
        self.runs += u64::from(self.end != range.offset);
        self.end = range.end();
    }
}
