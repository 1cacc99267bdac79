//! The sequences of orders to the ublk driver. Everything here blocks, within the driver's limits.

use std::path::Path;

use rbd_engine::VolumeFacts;
use rbd_protocol::ids::VolumeNumber;
use sha2::{Digest, Sha256};

use super::device::BlockDevice;
use crate::messages::KernelQueue;
use crate::ublk::abi::{Parameters, STATE_DEAD};
use crate::ublk::control::{Control, ControlError, Wanted, is_loaded};

/// A device whose queue can be served.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) device: BlockDevice,
    pub(super) origin: Origin,
    pub(super) queue: KernelQueue,
}

/// Where a device comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    New,
    /// An earlier daemon made it.
    TakenOver,
}

/// How a daemon knows its devices again: the kernel keeps this number for it.
pub(super) fn owner(node: &str, run_dir: &Path, resource: &str, volume: VolumeNumber) -> u64 {
    let mut digest = Sha256::new();
    digest.update(b"rbd kernel device\0");
    digest.update(node.as_bytes());
    digest.update([0]);
    digest.update(run_dir.as_os_str().as_encoded_bytes());
    digest.update([0]);
    digest.update(resource.as_bytes());
    digest.update([0]);
    digest.update(volume.0.to_le_bytes());
    let digest = digest.finalize();
    let first = digest.first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}

/// Whether there can be a device at all.
pub(super) fn check() -> Result<(), ControlError> {
    Control::open().map(|_| ())
}

/// The devices an earlier daemon has left, which somebody may use.
pub(super) fn left_behind(owner: u64) -> Result<Vec<BlockDevice>, ControlError> {
    if !is_loaded() {
        return Ok(Vec::new());
    }
    let mut control = Control::open()?;
    let mut left = Vec::new();
    for info in control.owned(owner)? {
        if info.state == STATE_DEAD {
            control.remove(info.device)?; // it was never started, or stopped and not removed
        } else {
            left.push(BlockDevice::Ublk(info.device));
        }
    }
    Ok(left)
}

/// A device of this owner, the one that was left behind or a new one. What waits in one that was
/// left behind is failed if another node has had clients since: done now, it would be written over
/// what they have written (F6).
pub(super) fn prepare(owner: u64, facts: &VolumeFacts) -> Result<Prepared, ControlError> {
    let mut control = Control::open()?;
    for info in control.owned(owner)? {
        if info.state == STATE_DEAD {
            control.remove(info.device)?;
            continue;
        }
        if facts.is_overtaken {
            tracing::error!(
                "ublk device {}: another node has had clients since its daemon ended: what waits \
                 there is failed, and it is removed",
                info.device
            );
            control.stop(info.device)?;
            control.remove(info.device)?;
            continue;
        }
        control.begin_recovery(info.device)?;
        return Ok(Prepared {
            device: BlockDevice::Ublk(info.device),
            origin: Origin::TakenOver,
            queue: queue(&control, info.device, info.depth, info.payload_bytes)?,
        });
    }
    let wanted = Wanted {
        depth: DEPTH,
        owner,
        parameters: Parameters {
            size_bytes: facts.size_bytes,
            block_bytes: facts.block_bytes,
            payload_bytes: PAYLOAD_BYTES,
        },
    };
    let number = control.add(&wanted)?;
    let queue = queue(&control, number, DEPTH, PAYLOAD_BYTES).inspect_err(|_| {
        if let Err(error) = control.remove(number) {
            tracing::warn!(%error, "ublk device {number} stays");
        }
    })?;
    Ok(Prepared {
        device: BlockDevice::Ublk(number),
        origin: Origin::New,
        queue,
    })
}

fn queue(
    control: &Control,
    number: u32,
    depth: u16,
    payload_bytes: u32,
) -> Result<KernelQueue, ControlError> {
    Ok(KernelQueue {
        file: control.queue(number)?,
        depth,
        payload_bytes,
        numbering: control.numbering(),
    })
}

/// Its queue is served: lets the block device appear, or go on.
pub(super) fn start(device: BlockDevice, origin: Origin) -> Result<(), ControlError> {
    let mut control = Control::open()?;
    let BlockDevice::Ublk(number) = device;
    match origin {
        Origin::New => control.start(number),
        Origin::TakenOver => control.end_recovery(number),
    }
}

/// Whether a device could have another size.
pub(super) fn check_resize(device: BlockDevice) -> Result<(), ControlError> {
    let BlockDevice::Ublk(_) = device;
    Control::open()?.check_resize()
}

/// Lets a device have another size, which those who have it open are told.
pub(super) fn resize(device: BlockDevice, size_bytes: u64) -> Result<(), ControlError> {
    let BlockDevice::Ublk(number) = device;
    Control::open()?.resize(number, size_bytes)
}

/// Takes a device away. What still waits there is failed.
pub(super) fn remove(device: BlockDevice) -> Result<(), ControlError> {
    let mut control = Control::open()?;
    let BlockDevice::Ublk(number) = device;
    control.stop(number)?;
    control.remove(number)
}

/// Requests a device may have under way: half of what the engine takes of all clients together.
const DEPTH: u16 = 128;

/// The longest payload of a request: what disks do well at, and little memory for every tag.
const PAYLOAD_BYTES: u32 = 512 << 10;
