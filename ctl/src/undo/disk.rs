//! The backing disk of a volume that is up, opened beside the daemon and only read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rbd_protocol::control::Backing;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;

use super::UndoFileError;

/// An open backing disk, the very one that the daemon has.
#[derive(Debug)]
pub(crate) struct BackingDisk {
    file: File,
    path: PathBuf,
}

impl BackingDisk {
    /// Opens it. Past the page cache where that can be done, as the daemon writes past it.
    pub(crate) fn open(backing: &Backing) -> Result<Self, UndoFileError> {
        let path = Path::new(&backing.path);
        let open = |flags: OFlags| {
            OpenOptions::new()
                .read(true)
                .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
                .open(path)
        };
        let opened = match open(OFlags::DIRECT | OFlags::NONBLOCK) {
            Err(error) if is_unfit(&error) => open(OFlags::NONBLOCK),
            opened => opened,
        };
        let file = opened.map_err(UndoFileError::file(path, "opened"))?;
        let facts =
            fstat(&file).map_err(|errno| UndoFileError::file(path, "looked at")(errno.into()))?;
        let kind = FileType::from_raw_mode(facts.st_mode);
        let is_same = if backing.is_block_device {
            kind == FileType::BlockDevice && facts.st_rdev == backing.device
        } else {
            kind == FileType::RegularFile
                && (facts.st_dev, facts.st_ino) == (backing.device, backing.inode)
        };
        if !is_same {
            return Err(UndoFileError::AnotherDisk(path.to_owned()));
        }
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Fills the buffer, whose start is as aligned as [`ALIGNMENT`], from an offset.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), UndoFileError> {
        let result = match self.file.read_exact_at(buffer, offset) {
            Err(error) if is_unfit(&error) && self.use_cache() => {
                self.file.read_exact_at(buffer, offset)
            }
            result => result,
        };
        result.map_err(UndoFileError::file(&self.path, "read"))
    }

    /// A disk that asks for more alignment than any block has is read through the page cache.
    /// Whether that is a change.
    fn use_cache(&self) -> bool {
        let Ok(flags) = fcntl_getfl(&self.file) else {
            return false;
        };
        flags.contains(OFlags::DIRECT) && fcntl_setfl(&self.file, flags - OFlags::DIRECT).is_ok()
    }
}

fn is_unfit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Alignment of everything that is read: no disk asks for more than a block.
pub(super) const ALIGNMENT: usize = 4096;
