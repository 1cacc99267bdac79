//! Writing an undo file. Unless it is kept, it is removed again: a file of this kind on the disk
//! means that it was needed, or that the program was killed.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rbd_protocol::ids::{BLOCK_SIZE, ByteRange};
use rbd_protocol::undo::{Header, PIECE_BYTES, SavedVolume, Totals, Writer};

use super::disk::ALIGNMENT;
use super::{BackingDisk, UndoFile, UndoFileError};

/// A file that has just been created and has nothing in it.
#[derive(Debug)]
pub(crate) struct Saving {
    copy: Copy,
    file: File,
}

/// An undo file of this run of the program. It disappears with this value unless it is kept.
#[derive(Debug)]
pub(crate) struct Copy {
    path: PathBuf,
    is_kept: bool,
}

/// A file that is being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    copy: Copy,
    file: BufWriter<File>,
    writer: Writer,
    buffer: Vec<u8>,
}

impl Saving {
    /// Creates the file; one that exists is never touched.
    pub(crate) fn create(path: &Path) -> Result<Self, UndoFileError> {
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .open(path);
        let file = created.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => UndoFileError::Exists(path.to_owned()),
            _ => UndoFileError::file(path, "created")(source),
        })?;
        let copy = Copy {
            path: path.to_owned(),
            is_kept: false,
        };
        Ok(Self { copy, file })
    }

    /// Begins to fill it.
    pub(crate) fn begin(self, header: &Header) -> Result<Filling, UndoFileError> {
        let (writer, bytes) = Writer::new(header);
        let mut filling = Filling {
            copy: self.copy,
            file: BufWriter::with_capacity(BUFFER_BYTES, self.file),
            writer,
            buffer: vec![0; BUFFER_BYTES + ALIGNMENT],
        };
        filling.write(&bytes)?;
        // Whoever finds it half written can tell what it was to become.
        let flushed = filling.file.flush();
        flushed.map_err(UndoFileError::file(&filling.copy.path, "written"))?;
        Ok(filling)
    }
}

impl Filling {
    /// Begins a volume.
    pub(crate) fn volume(&mut self, volume: &SavedVolume) -> Result<(), UndoFileError> {
        let bytes = self.writer.volume(volume);
        self.write(&bytes)
    }

    /// Copies a run of blocks of the volume begun last.
    pub(crate) fn copy(&mut self, disk: &BackingDisk, run: ByteRange) -> Result<(), UndoFileError> {
        let mut at = run.offset;
        while at < run.end() {
            let left = usize::try_from(run.end() - at).unwrap_or(BUFFER_BYTES);
            let length = left.min(BUFFER_BYTES);
            let mut buffer = std::mem::take(&mut self.buffer);
            let shift = buffer.as_ptr().align_offset(ALIGNMENT);
            let piece = buffer
                .get_mut(shift..shift + length)
                .expect("the buffer has room for its alignment");
            let written = disk.read(at, piece).and_then(|()| self.piece(at, piece));
            self.buffer = buffer;
            written?;
            at += bytes(length);
        }
        Ok(())
    }

    /// The end: the file is complete and durable, its name too, and holds what was written.
    pub(crate) fn finish(mut self) -> Result<(Copy, Totals), UndoFileError> {
        let totals = self.writer.totals();
        let end = self.writer.clone().end();
        self.write(&end)?;
        let path = self.copy.path.clone();
        let fail = |what| UndoFileError::file(&path, what);
        self.file.flush().map_err(fail("written"))?;
        self.file.get_ref().sync_all().map_err(fail("written"))?;
        sync_directory(&path).map_err(fail("made durable"))?;
        let contents = UndoFile::open(&path)?.verify()?;
        if contents.totals != totals {
            return Err(UndoFileError::Altered(path));
        }
        Ok((self.copy, totals))
    }

    /// Writes what was read, leaving out blocks of zeroes.
    fn piece(&mut self, offset: u64, data: &[u8]) -> Result<(), UndoFileError> {
        let block = usize::try_from(BLOCK_SIZE).unwrap_or(ALIGNMENT);
        let alike = |one: &[u8], other: &[u8]| is_zero(one) == is_zero(other);
        let blocks: Vec<&[u8]> = data.chunks(block).collect();
        let mut at = offset;
        for group in blocks.chunk_by(|one, other| alike(one, other)) {
            let length: usize = group.iter().map(|one| one.len()).sum();
            let from = usize::try_from(at - offset).unwrap_or(usize::MAX);
            let part = data.get(from..from + length).unwrap_or_default();
            if group.first().is_some_and(|first| is_zero(first)) {
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                let head = self.writer.zero(ByteRange::new(at, length));
                self.write(&head)?;
            } else {
                let head = self.writer.data(at, part);
                self.write(&head)?;
                self.write(part)?;
            }
            at += bytes(length);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), UndoFileError> {
        let result = self.file.write_all(bytes);
        result.map_err(UndoFileError::file(&self.copy.path, "written"))
    }
}

impl Copy {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It is needed from now on, whatever happens.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.is_kept {
            // It was created by this run, and nothing depends on it.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// What [`Saving::create`] would say of a file that exists.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), UndoFileError> {
    match path.symlink_metadata() {
        Ok(_) => Err(UndoFileError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

/// How much room there is for the file, if that can be found out.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(directory_of(path)).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// The name of a new file is durable only when its directory is.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// It is somebody's data: for nobody but who runs the command.
const PRIVATE: u32 = 0o600;

/// How much is read at once: a piece.
const BUFFER_BYTES: usize = PIECE_BYTES as usize;
