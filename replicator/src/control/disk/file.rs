//! One backing file or block device: opening it for this process alone, and its measures.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rbd_protocol::control::{Refusal, RefusalCode, WriteCache};
use rbd_protocol::metadata::ReadError;
use rustix::fs::{AtFlags, FlockOperation, OFlags, StatxFlags};
use rustix::io::Errno;

/// An open file or device.
#[derive(Debug)]
pub(super) struct BackingFile {
    pub(super) file: File,
    pub(super) path: String,
    pub(super) block_device: bool,
    pub(super) direct: bool,
    pub(super) size_bytes: u64,
    /// Alignment of buffers, offsets and lengths; 1 unless `direct`.
    pub(super) alignment: u32,
    /// Smallest unit it can write.
    pub(super) block_bytes: u32,
    /// What it says of its cache.
    pub(super) write_cache: WriteCache,
}

/// Who else may have it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody.
    Exclusive,
    /// Other volumes that have another slot of it.
    WithOtherVolumes,
}

impl BackingFile {
    /// Opens it, with `O_DIRECT` where the file system can; `code` is what a failure is called.
    pub(super) fn open(path: &str, sharing: Sharing, code: RefusalCode) -> Result<Self, Refusal> {
        let failed = |error: io::Error| {
            Refusal::new(code, format!("cannot open {path}: {error}"), help(&error))
        };
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        let block_device = kind.is_block_device();
        if !block_device && !kind.is_file() {
            return Err(Refusal::new(
                code,
                format!("cannot open {path}: it is neither a block device nor a regular file"),
                "",
            ));
        }
        let exclusive = block_device && sharing == Sharing::Exclusive;
        let (file, direct) = open_when_free(path, exclusive).map_err(|error| {
            if is_busy(&error) {
                Refusal::new(
                    RefusalCode::DiskInUse,
                    format!("{path} is mounted or used by the kernel or another process"),
                    format!("lsblk {path}"),
                )
            } else {
                failed(error)
            }
        })?;
        if block_device && is_read_only(&file) {
            return Err(Refusal::new(
                code,
                format!("cannot open {path}: it is a read-only device"),
                format!("blockdev --setrw {path}, if it should not be"),
            ));
        }
        if !block_device {
            lock(&file, path, sharing, code)?;
        }
        let size_bytes = (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        let (alignment, block_bytes) = granularity(&file, block_device, direct);
        let write_cache = if block_device {
            write_cache_of(&file)
        } else {
            WriteCache::Volatile // a file's data is in the page cache, or in its disk's
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            block_device,
            direct,
            size_bytes,
            alignment,
            block_bytes,
            write_cache,
        })
    }

    /// Writes a metadata block.
    pub(super) fn write(&self, offset: u64, block: &[u8]) -> io::Result<()> {
        let alignment = usize_from(u64::from(self.alignment.max(1)));
        let mut bounce = vec![0_u8; block.len() + alignment];
        let shift = bounce.as_ptr().align_offset(alignment);
        let aligned = bounce.get_mut(shift..shift + block.len());
        let aligned = aligned.unwrap_or_default();
        if aligned.len() != block.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        aligned.copy_from_slice(block);
        self.file.write_all_at(aligned, offset)
    }

    /// Fills the buffer from an offset, whatever alignment the file asks for.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let alignment = u64::from(self.alignment.max(1));
        let first = offset - offset % alignment;
        let lead = usize_from(offset - first);
        let length = (lead + buffer.len()).next_multiple_of(usize_from(alignment));
        let mut bounce = vec![0_u8; length + usize_from(alignment)];
        let shift = bounce.as_ptr().align_offset(usize_from(alignment));
        let aligned = bounce.get_mut(shift..shift + length).unwrap_or_default();
        let count = read_to_end(&self.file, first, aligned).map_err(|error| ReadError {
            code: error.raw_os_error().unwrap_or(0),
        })?;
        match aligned.get(lead..lead + buffer.len()) {
            Some(wanted) if count >= lead + buffer.len() => {
                buffer.copy_from_slice(wanted);
                Ok(())
            }
            _ => Err(ReadError { code: 0 }),
        }
    }
}

/// What the kernel knows of a block device's cache.
fn write_cache_of(device: &File) -> WriteCache {
    let Ok(facts) = device.metadata() else {
        return WriteCache::Volatile;
    };
    let (major, minor) = (
        rustix::fs::major(facts.rdev()),
        rustix::fs::minor(facts.rdev()),
    );
    let whole = format!("/sys/dev/block/{major}:{minor}");
    write_cache_in(Path::new(&whole))
}

/// A partition has no queue of its own; its disk's is one directory up. Whoever does not say
/// clearly that nothing can be lost is taken to have a cache that loses.
pub(super) fn write_cache_in(device: &Path) -> WriteCache {
    let read = |queue: &str| std::fs::read_to_string(device.join(queue)).ok();
    let text = read("queue/write_cache").or_else(|| read("../queue/write_cache"));
    match text.as_deref().map(str::trim) {
        Some("write through") => WriteCache::Through,
        _ => WriteCache::Volatile,
    }
}

/// Whether the kernel refuses writes to a block device, which for root it only does when they come.
fn is_read_only(device: &File) -> bool {
    device.metadata().is_ok_and(|facts| {
        let (major, minor) = (
            rustix::fs::major(facts.rdev()),
            rustix::fs::minor(facts.rdev()),
        );
        std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"))
            .is_ok_and(|text| text.trim() == "1")
    })
}

/// Reads as much of the buffer as the file has.
fn read_to_end(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let position = offset + u64::try_from(filled).unwrap_or(u64::MAX);
        match file.read_at(rest, position) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Of a device that is busy nobody tells who has it; a process that was just killed has it for a
/// moment more.
fn open_when_free(path: &str, exclusive: bool) -> io::Result<(File, bool)> {
    let started = Instant::now();
    loop {
        match open_direct_if_possible(path, exclusive) {
            Err(error) if is_busy(&error) && started.elapsed() < LAST_BREATH => {
                std::thread::sleep(RETRY_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

fn open_direct_if_possible(path: &str, exclusive: bool) -> io::Result<(File, bool)> {
    let open = |flags: OFlags| {
        let flags = if exclusive {
            flags | OFlags::EXCL
        } else {
            flags
        };
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path)
    };
    match open(OFlags::DIRECT) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            open(OFlags::empty()).map(|file| (file, false))
        }
        opened => opened.map(|file| (file, true)),
    }
}

/// A lock on a regular file lasts as long as anybody has this opening of it.
fn lock(file: &File, path: &str, sharing: Sharing, code: RefusalCode) -> Result<(), Refusal> {
    let operation = match sharing {
        Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Sharing::WithOtherVolumes => FlockOperation::NonBlockingLockShared,
    };
    let started = Instant::now();
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => {
                let reason = format!("cannot lock {path}: {error}");
                return Err(Refusal::new(code, reason, ""));
            }
        }
        let holder = lock_holder(file);
        let is_own = |holder: &Holder| holder.pid == std::process::id();
        let (stays, patience) = match &holder {
            // A program that is just being started has a copy of the file until it has been.
            Some(holder) if is_own(holder) => (false, MOMENT),
            Some(holder) => (holder.stays(), LAST_BREATH),
            None => (false, LAST_BREATH),
        };
        if stays || started.elapsed() > patience {
            let (reason, help) = match holder {
                Some(holder) if is_own(&holder) => (
                    format!("what {path} was last asked for has not ended"),
                    "try again; a disk that never answers is let go when rbdd is restarted",
                ),
                Some(holder) => (format!("{path} is used by {holder}"), ""),
                None => (format!("{path} is used by another process"), ""),
            };
            return Err(Refusal::new(RefusalCode::DiskInUse, reason, help));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// A process that holds a lock.
struct Holder {
    pid: u32,
    /// It is a guess: the lock was gone when the list was read, and it holds another one, or the
    /// file system lists its locks under another device than its files.
    is_guess: bool,
    name: String,
    state: char,
}

impl Holder {
    /// Gone or a zombie is dead, whatever its rings still hold.
    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// Whether there is no use in waiting.
    fn stays(&self) -> bool {
        self.is_alive() && !self.is_guess
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_alive() {
            write!(f, "process {} ({})", self.pid, self.name)
        } else {
            write!(f, "process {}, which is ending", self.pid)
        }
    }
}

/// The process that holds the lock, as the kernel tells in `/proc/locks`.
fn lock_holder(file: &File) -> Option<Holder> {
    let facts = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let (pid, is_guess) = lock_owner(&locks, facts.dev(), facts.ino())?;
    // "1234 (rbdd) S 1 …"; the name may itself have parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (head, tail) = stat.rsplit_once(") ").unwrap_or_default();
    let name = head.split_once('(').map_or("", |(_, name)| name);
    Some(Holder {
        pid,
        is_guess,
        name: name.to_owned(),
        state: tail.chars().next().unwrap_or('X'),
    })
}

/// Whose lock on this file is listed, and whether that is a guess. Inode numbers are small and the
/// same on many file systems, so the device decides; only where none fits, as some file systems
/// have several, the inode does.
pub(super) fn lock_owner(locks: &str, device: u64, inode: u64) -> Option<(u32, bool)> {
    let device = format!(
        "{:02x}:{:02x}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let mut of_another_device = None;
    for line in locks.lines() {
        // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next() != Some("FLOCK") {
            continue;
        }
        let pid = fields.nth(2).and_then(|pid| pid.parse().ok());
        let place = fields.next().and_then(|place| place.rsplit_once(':'));
        let (Some(pid), Some((found_device, found_inode))) = (pid, place) else {
            continue;
        };
        if found_inode.parse() != Ok(inode) {
            continue;
        }
        if found_device == device {
            return Some((pid, false));
        }
        of_another_device.get_or_insert((pid, true));
    }
    of_another_device
}

/// Alignment of direct I/O, and the smallest unit of a write.
fn granularity(file: &File, block_device: bool, direct: bool) -> (u32, u32) {
    let sector = if block_device {
        rustix::fs::ioctl_blksszget(file).unwrap_or(FALLBACK_BLOCK)
    } else {
        SMALLEST_BLOCK
    };
    if !direct {
        return (1, sector);
    }
    match direct_io_alignment(file) {
        Some((memory, offset)) => (memory.max(offset), sector.max(offset)),
        // Before Linux 6.1 nobody tells; this is enough for every disk.
        None if block_device => (sector.max(SMALLEST_BLOCK), sector),
        None => (FALLBACK_BLOCK, FALLBACK_BLOCK),
    }
}

fn direct_io_alignment(file: &File) -> Option<(u32, u32)> {
    let facts = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let is_told = facts.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    (is_told && facts.stx_dio_offset_align > 0)
        .then_some((facts.stx_dio_mem_align, facts.stx_dio_offset_align))
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "check the path in the configuration",
        io::ErrorKind::PermissionDenied => {
            "check owner and mode; the daemon needs to read and write"
        }
        _ => "",
    }
}

fn usize_from(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// How long the kernel may take to end the operations of a killed process; until then its files
/// stay open, although it is gone.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How long a lock of our own may outlive its file.
const MOMENT: Duration = Duration::from_secs(1);

const RETRY_PAUSE: Duration = Duration::from_millis(20);

const SMALLEST_BLOCK: u32 = 512;
const FALLBACK_BLOCK: u32 = 4096;
