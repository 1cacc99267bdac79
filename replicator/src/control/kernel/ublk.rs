//! The sequences of orders to the ublk driver. Everything here blocks, within the driver's limits.

use rbd_engine::VolumeFacts;

use super::device::BlockDevice;
use super::driver::{Origin, PAYLOAD_BYTES, Pending, Prepared, say_overtaken};
use crate::messages::{KernelDevice, KernelQueue};
use crate::ublk::abi::{Parameters, STATE_DEAD};
use crate::ublk::control::{Control, ControlError, Wanted, is_loaded};

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

/// The device of this owner that was left behind, unless it was overtaken.
pub(super) fn take_over(owner: u64, facts: &VolumeFacts) -> Result<Option<Prepared>, ControlError> {
    if !is_loaded() {
        return Ok(None);
    }
    let mut control = Control::open()?;
    for info in control.owned(owner)? {
        if info.state == STATE_DEAD {
            control.remove(info.device)?;
            continue;
        }
        if facts.is_overtaken {
            say_overtaken(BlockDevice::Ublk(info.device));
            control.stop(info.device)?;
            control.remove(info.device)?;
            continue;
        }
        control.begin_recovery(info.device)?;
        return Ok(Some(Prepared {
            served: queue(&control, info.device, info.depth, info.payload_bytes)?,
            pending: Pending::Ublk(info.device, Origin::TakenOver),
        }));
    }
    Ok(None)
}

/// A new device.
pub(super) fn make(owner: u64, facts: &VolumeFacts) -> Result<Prepared, ControlError> {
    let mut control = Control::open()?;
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
    let served = queue(&control, number, DEPTH, PAYLOAD_BYTES).inspect_err(|_| {
        if let Err(error) = control.remove(number) {
            tracing::warn!(%error, "ublk device {number} stays");
        }
    })?;
    let pending = Pending::Ublk(number, Origin::New);
    Ok(Prepared { served, pending })
}

fn queue(
    control: &Control,
    number: u32,
    depth: u16,
    payload_bytes: u32,
) -> Result<KernelDevice, ControlError> {
    Ok(KernelDevice::Queue(KernelQueue {
        file: control.queue(number)?,
        depth,
        payload_bytes,
        numbering: control.numbering(),
    }))
}

/// Its queue is served: lets the block device appear, or go on.
pub(super) fn start(number: u32, origin: Origin) -> Result<(), ControlError> {
    let mut control = Control::open()?;
    match origin {
        Origin::New => control.start(number),
        Origin::TakenOver => control.end_recovery(number),
    }
}

/// Whether a device could have another size.
pub(super) fn check_resize() -> Result<(), ControlError> {
    Control::open()?.check_resize()
}

/// Lets a device have another size, which those who have it open are told.
pub(super) fn resize(number: u32, size_bytes: u64) -> Result<(), ControlError> {
    Control::open()?.resize(number, size_bytes)
}

/// Takes a device away. What still waits there is failed.
pub(super) fn remove(number: u32) -> Result<(), ControlError> {
    let mut control = Control::open()?;
    control.stop(number)?;
    control.remove(number)
}

/// Requests a device may have under way: half of what the engine takes of all clients together.
const DEPTH: u16 = 128;
