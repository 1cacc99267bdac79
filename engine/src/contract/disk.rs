//! What a disk is to the engine: what is asked of it, how it fails, what is handed over with it.

use alloc::boxed::Box;

use rbd_protocol::control::WriteCache;
use rbd_protocol::metadata::{Image, Placement};

/// What the engine asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRequest {
    /// Read the range into a new buffer, given back in [`DiskDone`](super::Event::DiskDone).
    Read,
    /// The same, but no buffer is given back if all of the range is zero.
    ReadUnlessZero,
    /// Write the payload; with `fua`, complete only when durable.
    Write {
        /// Durable on completion.
        fua: bool,
    },
    /// Make the range read as zeroes; with `discard`, give the space back if possible.
    Zero {
        /// Durable on completion.
        fua: bool,
        /// Give the space back.
        discard: bool,
    },
    /// Make durable everything completed before this was started.
    Flush,
    /// Read the range and make a digest of each of its blocks, in order; the last may be shorter.
    /// Answered by [`Digests`](super::Event::Digests).
    Digest,
}

/// How a disk operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device returned an error.
    Io,
    /// No space is left.
    NoSpace,
    /// The disk is no longer there (it was detached while the operation waited).
    Gone,
}

/// A disk with its metadata, read and checked, handed over by the hands.
#[derive(Clone, Debug)]
pub struct AttachedDisk {
    /// What was found on it.
    pub image: Box<Image>,
    /// Size of the device the data is on. Metadata at its end lies before that if it has grown.
    pub device_bytes: u64,
    /// Smallest unit it can write, in bytes: 512 or 4096.
    pub block_bytes: u32,
    /// Only shown to people: every flush is made whatever this says, because a device that is wrong
    /// about itself must not cost data.
    pub write_cache: WriteCache,
    /// [`DiskNote::LostCache`] is noted of the volume.
    pub lost_cache: bool,
    /// [`DiskNote::LeftBehind`] is noted of the volume.
    pub left_behind: bool,
}

impl AttachedDisk {
    /// A disk that is as large as its metadata says.
    #[must_use]
    pub fn new(image: Box<Image>, block_bytes: u32, write_cache: WriteCache) -> Self {
        Self {
            device_bytes: image.layout.device_bytes(),
            image,
            block_bytes,
            write_cache,
            lost_cache: false,
            left_behind: false,
        }
    }
}

/// What is [noted](super::Action::NoteOfDisk) of a volume's disk elsewhere than on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskNote {
    /// It has lost what it had acknowledged (B4). Counts until the machine is booted, which loses
    /// as much.
    LostCache,
    /// Clients have gone on without it (A2). Outlives the machine's power.
    LeftBehind,
}

/// How large a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskMeasure {
    /// Size of the device the data is on, in bytes.
    pub device_bytes: u64,
    /// Where its metadata is, and how much room there is for it.
    pub placement: Placement,
}
