//! The queue of one ublk device: its file, the requests the kernel describes, and the memory
//! payloads are copied through. It knows no volume and no engine.

#![expect(
    unsafe_code,
    reason = "the kernel describes requests and copies payloads in shared memory"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use crate::messages::KernelQueue;
use crate::shell::buffer::PAGE;
use crate::ublk::abi::{Descriptor, Numbering, QueueCommand};

/// A queue that can be served.
#[derive(Debug)]
pub(in crate::shell) struct Device {
    file: File,
    descriptors: Mapping,
    payloads: Mapping,
    payload_bytes: usize,
    depth: u16,
    numbering: Numbering,
}

/// Memory of whole pages.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Device {
    /// Maps what the kernel will describe, and makes place for payloads.
    pub(super) fn new(queue: KernelQueue) -> io::Result<Self> {
        let KernelQueue {
            file,
            depth,
            payload_bytes,
            numbering,
        } = queue;
        let payload_bytes = usize::try_from(payload_bytes).map_err(io::Error::other)?;
        let described = usize::from(depth) * Descriptor::BYTES;
        let descriptors = Mapping::of_file(&file, described.next_multiple_of(PAGE))?;
        let payloads = Mapping::anonymous(usize::from(depth) * payload_bytes)?;
        Ok(Self {
            file,
            descriptors,
            payloads,
            payload_bytes,
            depth,
            numbering,
        })
    }

    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    /// The longest payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// For the entry of an operation.
    pub(in crate::shell) fn descriptor_of_file(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// What is asked under a tag whose command has come back.
    pub(super) fn request(&self, tag: u16) -> Descriptor {
        assert!(tag < self.depth, "a queue has as many tags as it is deep");
        let at = usize::from(tag) * Descriptor::BYTES;
        let start = self.descriptors.start.as_ptr().wrapping_add(at);
        // SAFETY: inside the mapping, as was asserted; the kernel writes a tag's place only while
        // the tag is with it.
        let bytes = unsafe { start.cast::<[u8; Descriptor::BYTES]>().read_volatile() };
        Descriptor::decode(&bytes)
    }

    /// The payload of a tag whose command has come back.
    pub(super) fn payload(&self, tag: u16, length: usize) -> &[u8] {
        let start = self.place(tag, length);
        // SAFETY: inside the mapping, initialised by the kernel's zeroes, and written by the
        // kernel only while the tag is with it.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Puts what was read where the kernel takes it from.
    pub(super) fn fill_payload(&self, tag: u16, bytes: &[u8]) {
        let start = self.place(tag, bytes.len());
        // SAFETY: inside the mapping; the tag is not with the kernel, and nobody on this thread, to
        // which the device belongs, holds a payload while an answer is made.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
    }

    /// Number and bytes of the command that fetches a request.
    pub(super) fn fetch(&self, tag: u16) -> (u32, [u8; 16]) {
        (self.numbering.fetch(), self.command(tag, 0))
    }

    /// Number and bytes of the command that answers a request and fetches the next.
    pub(super) fn commit(&self, tag: u16, result: i32) -> (u32, [u8; 16]) {
        (self.numbering.commit_and_fetch(), self.command(tag, result))
    }

    fn command(&self, tag: u16, result: i32) -> [u8; 16] {
        let address = u64::try_from(self.place(tag, 0).addr());
        let command = QueueCommand {
            queue: 0,
            tag,
            result,
            address: address.expect("addresses have at most 64 bits"),
        };
        command.encode()
    }

    fn place(&self, tag: u16, length: usize) -> *mut u8 {
        assert!(
            tag < self.depth && length <= self.payload_bytes,
            "a payload fits into the place of its tag"
        );
        let at = usize::from(tag) * self.payload_bytes;
        self.payloads.start.as_ptr().wrapping_add(at)
    }
}

impl Mapping {
    fn of_file(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping where the kernel likes; nothing else refers to it.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        Self::new(start, bytes)
    }

    fn anonymous(bytes: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as above.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                protection,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        Self::new(start, bytes)
    }

    fn new(start: *mut std::ffi::c_void, bytes: usize) -> io::Result<Self> {
        let start = NonNull::new(start.cast());
        let start = start.ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and unmapped once. Operations of the kernel
        // that use it keep the device, and with it the mapping.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}
