//! What the kernel can be asked to do, with everything it needs in one value.
//!
//! An [`Operation`] owns its file and its memory from the moment it is started until its
//! completion has been seen, whatever happens meanwhile to the client, link or disk it belongs to.
//! That is why nothing has to be cancelled and waited for anywhere else.

#![expect(
    unsafe_code,
    reason = "a message header for the kernel has fields only C can name"
)]

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use super::batch::Batch;
use super::buffer::Buffer;
use super::kernel::Device;

/// One thing for the kernel to do.
#[derive(Debug)]
pub(super) enum Operation {
    /// Fill the buffer, from `done` on, with what lies at `offset + done` of the file.
    Read {
        file: Rc<OwnedFd>,
        offset: u64,
        buffer: Buffer,
        done: usize,
    },
    /// Write the buffer, from `done` to `end`, to `offset + done` of the file.
    Write {
        file: Rc<OwnedFd>,
        offset: u64,
        buffer: Buffer,
        done: usize,
        end: usize,
        /// Complete only when it survives a power loss.
        durable: bool,
    },
    /// Make all that was written to the file survive a power loss.
    Sync { file: Rc<OwnedFd> },
    /// `fallocate(2)`.
    Allocate {
        file: Rc<OwnedFd>,
        mode: i32,
        offset: u64,
        length: u64,
    },
    /// Receive what is there, at most to the end of the memory, from `from` on.
    Receive {
        socket: Rc<OwnedFd>,
        memory: Box<[u8]>,
        from: usize,
    },
    /// Receive until the payload is whole, from `from` on.
    ReceivePayload {
        socket: Rc<OwnedFd>,
        payload: Buffer,
        from: usize,
    },
    /// Send as much of the parcel as goes.
    Send {
        socket: Rc<OwnedFd>,
        parcel: Box<Parcel>,
    },
    /// Fetch a request of a kernel device, or answer one and fetch the next.
    Serve {
        device: Rc<Device>,
        number: u32,
        command: [u8; 16],
    },
    /// Wait until the counter is not zero, and make it zero.
    Await {
        counter: Arc<OwnedFd>,
        word: Box<[u8; 8]>,
    },
}

/// A batch on its way through a socket, with the list of pieces the kernel reads it by.
pub(super) struct Parcel {
    pub(super) batch: Batch,
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Operation {
    /// The file of a disk it is on, if it is.
    pub(super) const fn file(&self) -> Option<&Rc<OwnedFd>> {
        match self {
            Self::Read { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file }
            | Self::Allocate { file, .. } => Some(file),
            Self::Receive { .. }
            | Self::ReceivePayload { .. }
            | Self::Send { .. }
            | Self::Serve { .. }
            | Self::Await { .. } => None,
        }
    }

    /// The entry for the submission queue. It points into what the operation owns on the heap, so
    /// the operation may be moved but must be kept until its completion.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::Read {
                file,
                offset,
                buffer,
                done,
            } => {
                assert!(
                    buffer.is_unshared(),
                    "the kernel fills only unshared buffers"
                );
                let (memory, length) = span(buffer.address(), *done, buffer.len());
                opcode::Read::new(descriptor(file), memory, length)
                    .offset(offset.saturating_add(as_u64(*done)))
                    .build()
            }
            Self::Write {
                file,
                offset,
                buffer,
                done,
                end,
                durable,
            } => {
                let (memory, length) = span(buffer.address(), *done, *end);
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(descriptor(file), memory, length)
                    .offset(offset.saturating_add(as_u64(*done)))
                    .rw_flags(flags)
                    .build()
            }
            Self::Sync { file } => opcode::Fsync::new(descriptor(file))
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Self::Allocate {
                file,
                mode,
                offset,
                length,
            } => opcode::Fallocate::new(descriptor(file), *length)
                .offset(*offset)
                .mode(*mode)
                .build(),
            Self::Receive {
                socket,
                memory,
                from,
            } => {
                let end = memory.len();
                let (memory, length) = span(memory.as_mut_ptr(), *from, end);
                opcode::Recv::new(descriptor(socket), memory, length).build()
            }
            Self::ReceivePayload {
                socket,
                payload,
                from,
            } => {
                assert!(
                    payload.is_unshared(),
                    "the kernel fills only unshared buffers"
                );
                let (memory, length) = span(payload.address(), *from, payload.len());
                opcode::Recv::new(descriptor(socket), memory, length)
                    .flags(libc::MSG_WAITALL)
                    .build()
            }
            Self::Send { socket, parcel } => parcel.entry(descriptor(socket)),
            Self::Serve {
                device,
                number,
                command,
            } => opcode::UringCmd16::new(types::Fd(device.descriptor_of_file()), *number)
                .cmd(*command)
                .build(),
            Self::Await { counter, word } => {
                opcode::Read::new(types::Fd(counter.as_raw_fd()), word.as_mut_ptr(), 8).build()
            }
        }
    }
}

impl Parcel {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::default(),
            pieces: Vec::new(),
            // SAFETY: all fields are numbers and pointers, for which zero is a value.
            header: unsafe { std::mem::zeroed() },
        }
    }

    fn entry(&mut self, socket: types::Fd) -> squeue::Entry {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        self.pieces.clear();
        self.pieces
            .extend(self.batch.rest(PIECES).map(|piece| libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            }));
        if let [only] = self.pieces.as_slice() {
            let (memory, length) = span(only.iov_base.cast(), 0, only.iov_len);
            return opcode::Send::new(socket, memory, length)
                .flags(flags)
                .build();
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len();
        opcode::SendMsg::new(socket, &raw const self.header)
            .flags(flags.unsigned_abs())
            .build()
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batch.fmt(f)
    }
}

/// Whether a file system in user space serves the file: it is asked under the file's lock, which
/// another operation may hold for as long as it takes.
pub(super) fn is_fuse(file: &OwnedFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type) == Ok(FUSE_MAGIC))
}

fn descriptor(file: &OwnedFd) -> types::Fd {
    types::Fd(file.as_raw_fd())
}

/// The part of some memory from `from` to `end`, as an operation names it.
fn span(memory: *mut u8, from: usize, end: usize) -> (*mut u8, u32) {
    let length = end.checked_sub(from).expect("a part ends after it starts");
    let length = u32::try_from(length).expect("payloads are limited to 32 MiB");
    (memory.wrapping_add(from), length)
}

pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).expect("lengths have at most 64 bits")
}

/// Pieces in one send: the kernel's own limit.
const PIECES: usize = 1024;

/// The kernel's number for file systems in user space.
const FUSE_MAGIC: u64 = 0x6573_5546;
