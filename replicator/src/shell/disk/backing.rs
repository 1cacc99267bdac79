//! What others may know or have of a volume's files.

use std::os::fd::OwnedFd;

use rbd_protocol::control::Backing;
use rbd_protocol::ids::VolumeNumber;

use super::Disks;

/// Data, and external metadata.
type Files = Option<(OwnedFd, Option<OwnedFd>)>;

impl Disks {
    /// Which disk the volume is on.
    pub(in crate::shell) fn backing(&self, volume: VolumeNumber) -> Option<Backing> {
        let disk = self.disk(volume)?;
        let facts = rustix::fs::fstat(&*disk.data).ok()?;
        let (device, inode) = if disk.block_device {
            (facts.st_rdev, 0)
        } else {
            (facts.st_dev, facts.st_ino)
        };
        Some(Backing {
            path: disk.path.clone(),
            is_block_device: disk.block_device,
            device,
            inode,
        })
    }

    /// The volume's files, opened once more: data, and external metadata.
    pub(in crate::shell) fn copies_of_files(&self, volume: VolumeNumber) -> Files {
        let disk = self.disk(volume)?;
        let metadata = disk.metadata.as_ref().map(|file| file.try_clone());
        Some((disk.data.try_clone().ok()?, metadata.transpose().ok()?))
    }
}
