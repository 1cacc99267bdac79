//! One opened and locked disk: a block device or a regular file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbd_protocol::metadata::ReadError;
use rustix::fs::{FlockOperation, OFlags, SeekFrom, flock, major, minor, seek};
use rustix::io::Errno;

use super::OfflineError;

/// What is going to be done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is only read; others that only read are let in.
    Read,
    /// It is written, by nobody else.
    Write,
    /// It is written in a part of its own, beside others with parts of their own.
    WritePart,
}

/// An open disk. The lock ends with it.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    path: PathBuf,
    /// Bytes.
    size: u64,
    identity: (u64, u64),
}

impl Disk {
    /// Opens and locks an existing disk.
    pub(crate) fn open(path: &Path, access: Access) -> Result<Self, OfflineError> {
        let found = std::fs::metadata(path).map_err(|source| cannot_open(path, source))?;
        let is_block = found.file_type().is_block_device();
        if !is_block && !found.is_file() {
            return Err(OfflineError::NotADisk(path.to_owned()));
        }
        let mut flags = OFlags::CLOEXEC;
        if is_block && access == Access::Write {
            // For a block device this means: nobody has it mounted or in a RAID.
            flags |= OFlags::EXCL;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path)
            .map_err(|source| cannot_open(path, source))?;
        lock(&file, access).map_err(|errno| match errno {
            Errno::WOULDBLOCK => OfflineError::InUse {
                path: path.to_owned(),
                holder: holder(&file),
            },
            other => cannot_open(path, other.into()),
        })?;
        let size = seek(&file, SeekFrom::End(0)).map_err(|errno| OfflineError::Read {
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
            identity: identity(&found),
        })
    }

    /// Its path as configured.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the path leads to this disk too.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let found = std::fs::metadata(path);
        found.is_ok_and(|found| identity(&found) == self.identity)
    }

    /// Fills the buffer from an offset.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| ReadError {
                code: error.raw_os_error().unwrap_or(0),
            })
    }

    /// Writes the whole buffer at an offset.
    pub(crate) fn write(&self, offset: u64, buffer: &[u8]) -> Result<(), OfflineError> {
        let result = self.file.write_all_at(buffer, offset);
        result.map_err(|source| self.cannot_write(source))
    }

    /// Makes durable what was written.
    pub(crate) fn flush(&self) -> Result<(), OfflineError> {
        let result = self.file.sync_all();
        result.map_err(|source| self.cannot_write(source))
    }

    fn cannot_write(&self, source: io::Error) -> OfflineError {
        OfflineError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// What is the same for all paths to a disk, and for no other disk.
fn identity(found: &Metadata) -> (u64, u64) {
    if found.file_type().is_block_device() {
        (u64::MAX, found.rdev())
    } else {
        (found.dev(), found.ino())
    }
}

fn lock(file: &File, access: Access) -> Result<(), Errno> {
    let operation = match access {
        Access::Write => FlockOperation::NonBlockingLockExclusive,
        Access::Read | Access::WritePart => FlockOperation::NonBlockingLockShared,
    };
    // A lock that is being given up can be held a moment longer, by a process that was forked while
    // it was held and has not reached its exec, or by the kernel cleaning up after a killed daemon.
    let mut attempts = LOCK_ATTEMPTS;
    loop {
        match flock(file, operation) {
            Err(Errno::WOULDBLOCK) if attempts > 0 => attempts -= 1,
            result => return result,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// How often a lock that is held is tried again, and after which pause: half a second in all.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

fn cannot_open(path: &Path, source: io::Error) -> OfflineError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::NotFound => OfflineError::Missing(path),
        ErrorKind::ResourceBusy => OfflineError::InUse {
            path,
            holder: "a mount, a RAID, a volume manager or another exclusive user".to_owned(),
        },
        _ => OfflineError::Open { path, source },
    }
}

/// Who holds the lock on the file: name and process id if they can be found out.
fn holder(file: &File) -> String {
    let unknown = || "another process".to_owned();
    let (Ok(found), Ok(locks)) = (file.metadata(), std::fs::read_to_string("/proc/locks")) else {
        return unknown();
    };
    let device = found.dev();
    let inode = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        found.ino()
    );
    let mut flocks = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let pid = flocks.find_map(|words| match *words {
        [_, "FLOCK", _, _, pid, file, ..] if file == inode => Some(pid.to_owned()),
        _ => None,
    });
    let Some(pid) = pid else { return unknown() };
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} (pid {pid})", crate::failure::printable(name.trim_end())),
        Err(_) => format!("process {pid}"),
    }
}
