//! Whether the disks of a resource are there, free, and carry its metadata.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rbd_protocol::control::{MetaDisk, ResourceConfig, VolumeConfig};
use rustix::fs::{major, minor};

use super::{Finding, broken, doubtful, fine};
use crate::offline::{self, Access, Area, OfflineError};

/// What there is to say about the disks of one resource.
pub(super) fn findings(config: &ResourceConfig) -> Vec<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut findings = Vec::new();
    for volume in &config.volumes {
        findings.extend(volume_findings(config, volume, &mounts));
    }
    findings
}

fn volume_findings(config: &ResourceConfig, volume: &VolumeConfig, mounts: &str) -> Vec<Finding> {
    let label = format!("{}/{}", config.name, volume.number);
    let Some(disk) = &volume.disk else {
        return vec![fine(label, "no disk on this node, as configured")];
    };
    let mut disks = vec![("disk", disk)];
    if let MetaDisk::External { path, .. } = &volume.meta_disk {
        disks.push(("meta-disk", path));
    }
    let mut findings = Vec::new();
    for (role, path) in disks {
        let what = format!("{label} {role}");
        if let Some(finding) = mounted(&what, Path::new(path), mounts) {
            findings.push(finding);
        }
    }
    findings.push(metadata(&label, disk, config, volume));
    findings
}

fn metadata(label: &str, disk: &str, config: &ResourceConfig, volume: &VolumeConfig) -> Finding {
    let what = format!("{label} disk");
    let dumped =
        Area::open(volume, Access::Read).and_then(|area| offline::dump(&area, config, volume));
    match dumped {
        Ok(_) => fine(what, format!("{disk} carries the metadata of {label}")),
        Err(OfflineError::InUse { holder, .. }) if holder.starts_with("rbdd") => {
            fine(what, format!("{disk} is in use by {holder}"))
        }
        Err(error @ OfflineError::InUse { .. }) => {
            broken(what, error.to_string(), "stop that user")
        }
        Err(error @ OfflineError::Unusable { .. }) => broken(
            what,
            error.to_string(),
            format!("if its content may be lost: rbdadm create-md {label}"),
        ),
        Err(error @ OfflineError::Missing(_)) => {
            broken(what, error.to_string(), "create it or mend the path")
        }
        Err(error) => broken(what, error.to_string(), ""),
    }
}

/// A complaint when the block device is mounted.
fn mounted(what: &str, path: &Path, mounts: &str) -> Option<Finding> {
    let found = std::fs::metadata(path).ok()?;
    if !found.file_type().is_block_device() {
        return None;
    }
    let place = mount_point(mounts, major(found.rdev()), minor(found.rdev()))?;
    Some(doubtful(
        what,
        format!("{} is mounted on {place}", path.display()),
        "umount it; what is to be replicated must go through the replicated device",
    ))
}

/// Where the device with these numbers is mounted, from the lines of `mountinfo`.
pub(super) fn mount_point(mounts: &str, major: u32, minor: u32) -> Option<String> {
    let numbers = format!("{major}:{minor}");
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let found = words.nth(2)?;
        let place = words.nth(1)?;
        (found == numbers).then(|| place.to_owned())
    })
}
