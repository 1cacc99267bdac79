//! The drivers that can make block devices, as one: which of them is asked, and for what.
//! Everything here blocks.

use std::path::Path;

use rbd_engine::VolumeFacts;
use rbd_protocol::control::KernelExport;
use rbd_protocol::ids::VolumeNumber;
use sha2::{Digest, Sha256};

use super::device::BlockDevice;
use super::{nbd, ublk};
use crate::messages::KernelDevice;
use crate::{nbd_driver, ublk as ublk_driver};

/// A device whose requests can be served, and which does not appear or go on before they are.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) served: KernelDevice,
    pub(super) pending: Pending,
}

/// What is left to be done of it.
#[derive(Debug)]
pub(super) enum Pending {
    Ublk(u32, Origin),
    Nbd(nbd::Pending),
}

/// Where a device comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    New,
    /// An earlier daemon made it.
    TakenOver,
}

/// Why there is no device, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum DriverError {
    #[error(transparent)]
    Ublk(#[from] ublk_driver::control::ControlError),
    #[error(transparent)]
    Nbd(#[from] nbd_driver::control::ControlError),
    #[error("no pair of sockets: {0}")]
    Sockets(#[from] std::io::Error),
    #[error("the driver has not answered within {} s", super::DRIVER_LIMIT.as_secs())]
    TooLong,
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

/// Whether there can be a device of this kind at all.
pub(super) fn check(kernel: KernelExport) -> Result<(), DriverError> {
    match kernel {
        KernelExport::Ublk => Ok(ublk::check()?),
        KernelExport::Nbd => Ok(nbd::check()?),
        KernelExport::Auto | KernelExport::None => Ok(()),
    }
}

/// The devices an earlier daemon has left, which somebody may use.
pub(super) fn left_behind(owner: u64) -> Result<Vec<BlockDevice>, DriverError> {
    let mut left = ublk::left_behind(owner)?;
    left.extend(nbd::left_behind(owner));
    Ok(left)
}

/// A device of this owner, the one that was left behind, whatever its kind, or a new one. What
/// waits in one that was left behind is failed if another node has had clients since: done now, it
/// would be written over what they have written (F6). Not in company (see `company`): nothing of it
/// was begun then.
pub(super) fn prepare(
    owner: u64,
    facts: &VolumeFacts,
    kernel: KernelExport,
    in_company: bool,
) -> Result<Prepared, DriverError> {
    let is_overtaken = facts.is_overtaken && !in_company;
    let waiting = VolumeFacts {
        is_overtaken,
        ..*facts
    };
    if let Some(prepared) = ublk::take_over(owner, &waiting)? {
        return Ok(prepared);
    }
    if let Some(prepared) = nbd::take_over(owner, facts)? {
        return Ok(prepared);
    }
    if kernel == KernelExport::Nbd {
        return nbd::make(owner, facts);
    }
    match ublk::make(owner, facts) {
        Err(error) if kernel == KernelExport::Auto && nbd_driver::control::is_loaded() => {
            tracing::info!("no ublk device, the kernel's NBD client is taken instead: {error}");
            nbd::make(owner, facts)
        }
        made => Ok(made?),
    }
}

/// Its requests are served: lets the block device appear, or go on.
pub(super) fn start(pending: Pending) -> Result<(BlockDevice, Origin), DriverError> {
    match pending {
        Pending::Ublk(number, origin) => {
            if let Err(error) = ublk::start(number, origin) {
                abandon(&Pending::Ublk(number, origin));
                return Err(error.into());
            }
            Ok((BlockDevice::Ublk(number), origin))
        }
        Pending::Nbd(pending) => Ok(nbd::start(&pending)?),
    }
}

/// It will not be served: what was made for it goes.
pub(super) fn abandon(pending: &Pending) {
    if let Pending::Ublk(number, Origin::New) = *pending
        && let Err(error) = ublk::remove(number)
    {
        tracing::warn!(%error, "ublk device {number} stays");
    }
}

/// Whether a device could have another size.
pub(super) fn check_resize(device: BlockDevice) -> Result<(), DriverError> {
    match device {
        BlockDevice::Ublk(_) => Ok(ublk::check_resize()?),
        BlockDevice::Nbd(_) => Ok(()),
    }
}

/// Lets a device have another size, which those who have it open are told.
pub(super) fn resize(owner: u64, device: BlockDevice, size_bytes: u64) -> Result<(), DriverError> {
    match device {
        BlockDevice::Ublk(number) => Ok(ublk::resize(number, size_bytes)?),
        BlockDevice::Nbd(number) => Ok(nbd::resize(owner, number, size_bytes)?),
    }
}

/// Takes a device away. What still waits there is failed.
pub(super) fn remove(device: BlockDevice) -> Result<(), DriverError> {
    match device {
        BlockDevice::Ublk(number) => Ok(ublk::remove(number)?),
        BlockDevice::Nbd(number) => Ok(nbd::remove(number)?),
    }
}

/// Says that what waits in a device is failed.
pub(super) fn say_overtaken(device: BlockDevice) {
    tracing::error!(
        "{device}: another node has had clients since its daemon ended: what waits there is \
         failed, and it is removed"
    );
}

/// The longest payload of a request: what disks do well at, and little memory for each.
pub(super) const PAYLOAD_BYTES: u32 = 512 << 10;
