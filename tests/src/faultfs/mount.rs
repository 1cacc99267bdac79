//! The disks as files of a file system that anybody can open.
//!
//! Nothing is cached by the kernel: every request of a program comes here. Whether the files can be
//! opened for direct I/O is a choice, because programs take another path then.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Session, WriteFlags,
};
use rustix::fs::FallocateFlags;
use rustix::mount::UnmountFlags;

use super::disks::{Answer, Disks, Request};

/// Disks that can be opened under a directory, until this is dropped.
#[derive(Debug)]
pub struct FaultFs {
    disks: Disks,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

/// How the files can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With `O_DIRECT`: in blocks of 4096 bytes, many requests at once.
    Direct,
    /// Without: in sectors of 512 bytes.
    Buffered,
}

impl FaultFs {
    /// Serves every file of the directory `media` as a disk of the same name and size in the
    /// directory `at`. The files are the media: what is in them has survived.
    ///
    /// # Errors
    /// When a file cannot be opened or nothing can be mounted.
    pub fn mount(media: &Path, at: &Path, opening: Opening) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(media)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let file = File::options().read(true).write(true).open(entry.path())?;
                files.push((entry.file_name().to_string_lossy().into_owned(), file));
            }
        }
        let disks = Disks::new(files)?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("rbd-faultfs".to_owned())];
        let served = Served {
            files: disks.list(),
            disks: disks.clone(),
            opening,
        };
        let session = Session::new(served, at, &config)?.spawn()?;
        Ok(Self {
            disks,
            at: at.to_path_buf(),
            session: Some(session),
        })
    }

    /// Waits until somebody unmounts it.
    ///
    /// # Errors
    /// When serving ended otherwise.
    pub fn serve(mut self) -> io::Result<()> {
        match self.session.take() {
            Some(session) => session.join(),
            None => Ok(()),
        }
    }
}

impl Deref for FaultFs {
    type Target = Disks;

    fn deref(&self) -> &Disks {
        &self.disks
    }
}

impl Drop for FaultFs {
    fn drop(&mut self) {
        self.disks.close();
        // It fails when somebody else has unmounted it, and then that is done.
        rustix::mount::unmount(&self.at, UnmountFlags::DETACH).ok();
    }
}

struct Served {
    files: Vec<(String, u64)>,
    disks: Disks,
    opening: Opening,
}

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match index(inode) {
            None => (FileType::Directory, 0),
            Some(index) => (FileType::RegularFile, self.files.get(index)?.1),
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory {
                0o755
            } else {
                0o600
            },
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn submit(&self, inode: INodeNo, request: Request, reply: super::disks::Reply) {
        match index(inode) {
            Some(index) if index < self.files.len() => self.disks.submit(index, request, reply),
            _ => reply(Err(rustix::io::Errno::ISDIR)),
        }
    }
}

impl Filesystem for Served {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = || io::Error::from(io::ErrorKind::Unsupported);
        let background = config.set_max_background(1024);
        background.map_err(|_| refused())?;
        let largest = config.set_max_write(LARGEST_WRITE);
        largest.map_err(|_| refused())?;
        // Else the kernel serves an io_uring one request after the other in the caller's thread,
        // and goes on after a short one at the wrong place.
        let asynchronous = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        asynchronous.map_err(|_| refused())
    }

    fn lookup(&self, _: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self
            .files
            .iter()
            .position(|(own, _)| OsStr::new(own) == name);
        let found = found.filter(|_| parent == INodeNo::ROOT);
        match found.and_then(|at| self.attributes(INodeNo(at as u64 + FIRST))) {
            Some(attributes) => reply.entry(&KEEP, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &fuser::Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&KEEP, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn readdir(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, _)) in self.files.iter().enumerate().skip(first) {
            let at = at as u64;
            if reply.add(INodeNo(at + FIRST), at + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn open(&self, _: &fuser::Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if !self.disks.is_powered() {
            return reply.error(Errno::EIO);
        }
        if self.opening == Opening::Buffered && flags.0 & libc::O_DIRECT != 0 {
            return reply.error(Errno::EINVAL);
        }
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let request = Request::Read {
            offset,
            length: size as usize,
        };
        let answer = move |answer| match answer {
            Ok(Answer::Data(data)) => reply.data(&data),
            Ok(Answer::Done(_)) => reply.data(&[]),
            Err(error) => reply.error(errno(error)),
        };
        self.submit(inode, request, Box::new(answer));
    }

    fn write(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let request = Request::Write {
            offset,
            data: data.to_vec(),
            // A flag of the file, or of this one write.
            durable: flags.0 & libc::O_DSYNC != 0,
        };
        let answer = move |answer| match answer {
            Ok(Answer::Done(count)) => reply.written(u32::try_from(count).unwrap_or(0)),
            Ok(Answer::Data(_)) => reply.error(Errno::EIO),
            Err(error) => reply.error(errno(error)),
        };
        self.submit(inode, request, Box::new(answer));
    }

    fn fallocate(
        &self,
        _: &fuser::Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.unsigned_abs());
        let zeroes = FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !mode.intersects(zeroes) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let request = Request::Zero { offset, length };
        self.submit(inode, request, Box::new(|answer| end(&answer, reply)));
    }

    fn fsync(&self, _: &fuser::Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.submit(
            inode,
            Request::Flush,
            Box::new(|answer| end(&answer, reply)),
        );
    }

    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Somebody closes the file, which makes nothing durable.
        reply.ok();
    }
}

fn end(answer: &Result<Answer, rustix::io::Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(_) => reply.ok(),
        Err(error) => reply.error(errno(*error)),
    }
}

/// Which disk an inode is; the directory is none.
fn index(inode: INodeNo) -> Option<usize> {
    inode
        .0
        .checked_sub(FIRST)
        .and_then(|index| usize::try_from(index).ok())
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

/// Inode of the first disk; the directory has 1.
const FIRST: u64 = 2;

/// How long the kernel may remember what never changes.
const KEEP: Duration = Duration::from_secs(60);

/// The kernel cuts larger writes into pieces.
const LARGEST_WRITE: u32 = 1 << 20;
