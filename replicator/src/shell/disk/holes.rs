//! What clients are told of a volume's holes. Asked on the data path, so never of a disk that could
//! keep one waiting.

use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::nbd::Extent;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Disk, Disks};

impl Disks {
    /// Which parts of the range are holes of a regular file. `None` where that cannot be told
    /// without waiting: the file system looks under a lock that an operation may hold which hangs.
    pub(in crate::shell) fn extents(
        &self,
        volume: VolumeNumber,
        range: ByteRange,
    ) -> Option<Vec<Extent>> {
        let disk = self.volumes.get(&volume)?.current.as_ref()?;
        if disk.block_device || disk.blocks || self.is_slow(disk) {
            return None;
        }
        disk.extents(range)
    }

    /// Whether something the disk was asked for takes suspiciously long.
    fn is_slow(&self, disk: &Rc<Disk>) -> bool {
        let mut jobs = self.jobs.iter().map(|(_, job)| job);
        jobs.any(|job| Rc::ptr_eq(&job.disk, disk) && job.begun.elapsed() > SLOW)
    }
}

impl Disk {
    fn extents(&self, range: ByteRange) -> Option<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut at = range.offset;
        while at < range.end() && extents.len() < EXTENT_LIMIT {
            let data = match rustix::fs::seek(&self.data, SeekFrom::Data(at)) {
                Ok(data) => data.min(range.end()),
                Err(Errno::NXIO) => range.end(),
                Err(_) => return None,
            };
            if data > at {
                extents.push(Extent {
                    length: data - at,
                    is_hole: true,
                    is_zero: true,
                });
            }
            if data >= range.end() {
                break;
            }
            let hole = rustix::fs::seek(&self.data, SeekFrom::Hole(data)).ok()?;
            let hole = hole.min(range.end());
            if hole <= data {
                return None;
            }
            extents.push(Extent {
                length: hole - data,
                is_hole: false,
                is_zero: false,
            });
            at = hole;
        }
        Some(extents)
    }
}

/// Runs of data and holes told to a client at once: each costs a system call on the data path.
const EXTENT_LIMIT: usize = 64;

/// What a disk that answers hardly ever takes.
const SLOW: Duration = Duration::from_millis(100);
