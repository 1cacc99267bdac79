//! Who has a block device open: file systems, other devices on top, swap, processes.
//!
//! The driver cannot be asked, so what the system shows is put together. A process that opens the
//! device right after this was looked at is not seen.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::device::BlockDevice;

/// Everybody who was found, as phrases.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holders(BTreeSet<String>);

impl Holders {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many they are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, phrase) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{phrase}")?;
        }
        Ok(())
    }
}

/// Who has a block device, or a partition of it, open.
pub(super) fn of(device: BlockDevice) -> Holders {
    let name = device.name();
    let system = Path::new("/sys/block").join(&name);
    let mut found = BTreeSet::new();
    let mut paths = vec![device.path()];
    let mut numbers = Vec::new();
    for part in std::iter::once(system.clone()).chain(partitions(&system, &name)) {
        numbers.extend(fs::read_to_string(part.join("dev")).ok());
        let holders = fs::read_dir(part.join("holders")).into_iter().flatten();
        for holder in holders.filter_map(Result::ok) {
            found.insert(format!("used by {}", holder.file_name().to_string_lossy()));
        }
        if let Some(name) = part.file_name() {
            paths.push(format!("/dev/{}", name.to_string_lossy()));
        }
    }
    let numbers: Vec<&str> = numbers.iter().map(|number| number.trim()).collect();
    for table in ["/proc/self/mountinfo", "/proc/1/mountinfo"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        found.extend(mounts(&text, &numbers));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let swaps = swaps.lines().filter_map(|line| line.split(' ').next());
    if swaps
        .into_iter()
        .any(|one| paths.iter().any(|path| path == one))
    {
        found.insert("used as swap".to_owned());
    }
    found.extend(processes(&paths, &numbers));
    if found.is_empty() && is_claimed(&device.path()) {
        found.insert("claimed, by something in the kernel or in another namespace".to_owned());
    }
    Holders(found)
}

/// The directories of a disk's partitions.
fn partitions(disk: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(disk).into_iter().flatten();
    let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_partition = |path: &std::path::PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.is_some_and(|file| file.starts_with(name)) && path.join("partition").exists()
    };
    entries.filter(is_partition).collect()
}

/// The mounts of these devices, in the words of `mountinfo`.
pub(super) fn mounts(table: &str, numbers: &[&str]) -> Vec<String> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let number = fields.next()?;
        let place = fields.nth(1)?;
        let is_one = numbers.contains(&number);
        is_one.then(|| format!("mounted on {}", place.replace("\\040", " ")))
    };
    table.lines().filter_map(mount).collect()
}

/// The processes that have a device of these open, by its path or, as in a container, by a name of
/// their own.
pub(super) fn processes(paths: &[String], numbers: &[&str]) -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let process = entry.file_name();
        let Some(id) = process.to_str().filter(|id| id.parse::<u32>().is_ok()) else {
            continue;
        };
        if id == own {
            continue;
        }
        if has_open(&entry.path(), paths, numbers) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("open in {} (pid {id})", name.trim()));
        }
    }
    found
}

/// Whether a process has a device of these open. A demotion waits for this, and there are thousands
/// of open files on a machine: each costs as few system calls as can be, and short paths.
fn has_open(process: &Path, paths: &[String], numbers: &[&str]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(files) = rustix::fs::open(process.join("fd"), flags, Mode::empty()) else {
        return false; // it has just ended
    };
    let entries = Dir::read_from(&files).into_iter().flatten();
    entries.filter_map(Result::ok).any(|file| {
        let Ok(target) = rustix::fs::readlinkat(&files, file.file_name(), Vec::new()) else {
            return false;
        };
        // Sockets and the like have no path.
        target.as_bytes().starts_with(b"/")
            && (paths
                .iter()
                .any(|path| path.as_bytes() == target.as_bytes())
                || number_of(&files, file.file_name())
                    .is_some_and(|number| numbers.contains(&&*number)))
    })
}

/// The number of the block device an open file is. No server of a file system is asked: it may be
/// one that never answers.
fn number_of(files: &OwnedFd, open: &CStr) -> Option<String> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let facts = rustix::fs::statx(files, open, flags, StatxFlags::TYPE).ok()?;
    let is_block = FileType::from_raw_mode(facts.stx_mode.into()) == FileType::BlockDevice;
    is_block.then(|| format!("{}:{}", facts.stx_rdev_major, facts.stx_rdev_minor))
}

/// Whether nobody else could claim it for himself.
fn is_claimed(path: &str) -> bool {
    let flags = OFlags::EXCL.union(OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(i32::try_from(flags).unwrap_or(0));
    match options.open(path) {
        Ok(_) => false,
        Err(error) => Errno::from_io_error(&error) == Some(Errno::BUSY),
    }
}
