//! The sequences of orders to the kernel's NBD client. Everything here blocks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rbd_engine::VolumeFacts;
use rbd_protocol::ids::BLOCK_SIZE;
use rbd_protocol::nbd::{BlockSizes, ExportInfo, Features, MAXIMUM_PAYLOAD, Session};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::device::BlockDevice;
use super::driver::{self, DriverError, Origin, PAYLOAD_BYTES, Prepared, say_overtaken};
use crate::messages::KernelDevice;
use crate::nbd_driver::control::{Control, ControlError, Wanted, owned};

/// What is left to be done of a device whose socket is served.
#[derive(Debug)]
pub(super) struct Pending {
    /// The driver's end.
    socket: OwnedFd,
    owner: u64,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Make {
        size_bytes: u64,
        block_bytes: u32,
        flags: u16,
    },
    Join(u32),
}

/// Whether there can be a device at all.
pub(super) fn check() -> Result<(), ControlError> {
    Control::open().map(|_| ())
}

/// The devices an earlier daemon has left, which somebody may use.
pub(super) fn left_behind(owner: u64) -> Vec<BlockDevice> {
    let numbers = owned(&name(owner)).into_iter();
    numbers.map(BlockDevice::Nbd).collect()
}

/// The device of this owner that was left behind, unless it was overtaken.
pub(super) fn take_over(owner: u64, facts: &VolumeFacts) -> Result<Option<Prepared>, DriverError> {
    for number in owned(&name(owner)) {
        if facts.is_overtaken {
            say_overtaken(BlockDevice::Nbd(number));
            remove(number)?;
            continue;
        }
        let (served, pending) = sockets(owner, facts)?;
        let step = Step::Join(number);
        let pending = driver::Pending::Nbd(Pending { step, ..pending });
        return Ok(Some(Prepared { served, pending }));
    }
    Ok(None)
}

/// A new device.
pub(super) fn make(owner: u64, facts: &VolumeFacts) -> Result<Prepared, DriverError> {
    Control::open()?;
    let (served, pending) = sockets(owner, facts)?;
    let pending = driver::Pending::Nbd(pending);
    Ok(Prepared { served, pending })
}

/// Both ends of a new connection, the driver's for a new device.
fn sockets(owner: u64, facts: &VolumeFacts) -> io::Result<(KernelDevice, Pending)> {
    let flags = SocketFlags::CLOEXEC;
    let (server, driver) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::io::ioctl_fionbio(&server, true)?;
    let session = session(facts).map_err(io::Error::other)?;
    let pending = Pending {
        socket: driver,
        owner,
        step: Step::Make {
            size_bytes: facts.size_bytes,
            block_bytes: facts.block_bytes,
            flags: session.transmission_flags(),
        },
    };
    let socket = server;
    Ok((KernelDevice::Socket { socket, session }, pending))
}

/// What the driver is told. It keeps to the size by itself, and to another one when the volume has
/// grown; beyond that the engine refuses.
fn session(facts: &VolumeFacts) -> Result<Session, rbd_protocol::nbd::BlockSizeError> {
    let preferred = BLOCK_SIZE.max(facts.block_bytes);
    Ok(Session::without_negotiation(ExportInfo {
        name: String::new(),
        description: String::new(),
        size: u64::MAX,
        features: Features {
            trim: true,
            write_zeroes: true,
            multi_conn: true,
            ..Features::default()
        },
        block_sizes: BlockSizes::new(facts.block_bytes, preferred, MAXIMUM_PAYLOAD)?,
    }))
}

/// The other end is served: lets the block device appear, or go on.
pub(super) fn start(pending: &Pending) -> Result<(BlockDevice, Origin), ControlError> {
    let name = name(pending.owner);
    let socket = pending.socket.as_fd();
    let mut control = Control::open()?;
    match pending.step {
        Step::Make {
            size_bytes,
            block_bytes,
            flags,
        } => {
            let wanted = Wanted {
                size_bytes,
                block_bytes,
                flags,
                owner: &name,
                payload_bytes: PAYLOAD_BYTES,
            };
            let number = control.connect(socket, &wanted)?;
            Ok((BlockDevice::Nbd(number), Origin::New))
        }
        Step::Join(number) => {
            control.join(number, &name, socket)?;
            Ok((BlockDevice::Nbd(number), Origin::TakenOver))
        }
    }
}

/// Lets a device have another size, which those who have it open are told.
pub(super) fn resize(owner: u64, number: u32, size_bytes: u64) -> Result<(), ControlError> {
    Control::open()?.resize(number, &name(owner), size_bytes)
}

/// Takes a device away. What still waits there is failed.
pub(super) fn remove(number: u32) -> Result<(), ControlError> {
    Control::open()?.remove(number)
}

/// What the driver calls the owner.
fn name(owner: u64) -> String {
    format!("rbdd-{owner:016x}")
}
