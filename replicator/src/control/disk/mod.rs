//! Opens a volume's disk and reads its metadata: all that must be known before the resource's
//! thread gets it.
//!
//! Blocking, so it runs beside the control plane's thread. Writes nothing but what makes metadata
//! unrecognisable that does not count any more: opening a disk that is then refused leaves no other
//! trace.

mod file;
mod former;
mod metadata;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use rbd_engine::{AttachedDisk, DiskError, DiskMeasure};
use rbd_protocol::control::{MetaDisk, Refusal, RefusalCode, ResourceConfig, VolumeConfig};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::metadata::{
    self as format, FormerEnd, Image, Located, OpenInputs, Placement, Write,
};

use rustix::fs::SeekFrom;

use self::file::{BackingFile, Sharing};
pub(super) use self::former::FormerSizes;
use crate::messages::DiskFiles;

/// A disk, open and locked, and what its metadata says.
#[derive(Debug)]
pub(super) struct OpenVolume {
    pub(super) files: DiskFiles,
    pub(super) disk: AttachedDisk,
}

/// Opens, locks and reads the disk of one volume; `None` for a volume without one on this node.
pub(super) fn open(
    config: &ResourceConfig,
    volume: &VolumeConfig,
    sizes: &FormerSizes,
) -> Result<Option<OpenVolume>, Refusal> {
    let Some(path) = &volume.disk else {
        return Ok(None);
    };
    let data = BackingFile::open(path, Sharing::Exclusive, RefusalCode::CannotOpenDisk)?;
    let (metadata, placement) = match &volume.meta_disk {
        MetaDisk::Internal => (None, Placement::Internal),
        MetaDisk::External { path, index } => {
            let sharing = if index.is_some() {
                Sharing::WithOtherVolumes
            } else {
                Sharing::Exclusive
            };
            let file = BackingFile::open(path, sharing, RefusalCode::CannotOpenMetaDisk)?;
            let placement = metadata::external_placement(&file, *index)?;
            (Some(file), placement)
        }
    };
    let inputs = OpenInputs {
        device_bytes: data.size_bytes,
        placement,
        resource: &config.name,
        node: &config.node_name,
        node_id: config.node_id,
        volume: volume.number,
        accept_older_superblock: false,
    };
    let holder = metadata.as_ref().unwrap_or(&data);
    // What an earlier process was writing when it died may be in a cache still. It is read now, and
    // what is written next counts on it.
    let flushed = holder.file.sync_data();
    let mut read = |offset, buffer: &mut [u8]| holder.read(offset, buffer);
    let former = match placement {
        Placement::Internal => sizes.recall(&config.name, volume.number),
        Placement::External { .. } => None,
    };
    let found = match placement {
        Placement::Internal => format::open_internal(&mut read, &inputs, former),
        Placement::External { .. } => format::open(&mut read, &inputs).map(|image| Located {
            image,
            again: Vec::new(),
            wipe: Vec::new(),
        }),
    };
    let Located { image, again, wipe } = found.map_err(|error| {
        let remembered = sizes.path(&config.name, volume.number);
        metadata::refusal(&error, config, (&holder.path, &remembered))
    })?;
    metadata::check_size(&image, volume, &data)?;
    for writes in [again, wipe] {
        write_out(holder, &writes)?;
    }
    if placement == Placement::Internal {
        remember(sizes, (&config.name, volume.number), &image, former)?;
    }
    report_damage(config, volume, (&holder.path, &image));
    let block_bytes = data.block_bytes.max(
        metadata
            .as_ref()
            .map_or(MINIMUM_BLOCK, |file| file.block_bytes),
    );
    Ok(Some(OpenVolume {
        disk: AttachedDisk {
            image: Box::new(image),
            device_bytes: data.size_bytes,
            block_bytes,
            write_cache: data.write_cache,
            // More of it, and the other, the resource's thread knows. An error is told only once.
            lost_cache: flushed.is_err(),
            left_behind: false,
        },
        files: DiskFiles {
            direct: data.direct,
            alignment: data.alignment,
            block_device: data.block_device,
            path: data.path,
            data: data.file.into(),
            metadata: metadata.map(|file| file.file.into()),
        },
    }))
}

/// What of the metadata cannot be read, and what it is taken for.
fn report_damage(config: &ResourceConfig, volume: &VolumeConfig, (path, image): (&str, &Image)) {
    for damage in &image.damage {
        tracing::warn!(
            resource = config.name,
            volume = volume.number.0,
            "metadata on {path}: {} damaged block(s) at {:?} ({}), counted as {:?}",
            damage.blocks,
            damage.at,
            damage.cause,
            damage.effect
        );
    }
}

/// Writes these blocks, durably.
fn write_out(holder: &BackingFile, writes: &[Write]) -> Result<(), Refusal> {
    let write_all = || {
        for write in writes {
            holder.write(write.offset, &write.block[..])?;
        }
        holder.file.sync_data()
    };
    if writes.is_empty() {
        return Ok(());
    }
    write_all().map_err(|error| {
        let path = &holder.path;
        let reason = format!("cannot write the metadata on {path}: {error}");
        Refusal::new(RefusalCode::MetaDataRead, reason, "check the disk")
    })
}

/// Remembers where the metadata is. Without, a disk that is enlarged while it is not in use cannot
/// be attached; with an older memory, metadata would be looked for where there is data by then.
fn remember(
    sizes: &FormerSizes,
    (resource, volume): (&str, VolumeNumber),
    image: &Image,
    former: Option<FormerEnd>,
) -> Result<(), Refusal> {
    let end = FormerEnd {
        device_bytes: image.layout.device_bytes(),
        device_id: Some(image.superblock.device_id),
        moves_to: None,
    };
    if former == Some(end) {
        return Ok(());
    }
    let Err(error) = sizes.keep(resource, volume, end) else {
        return Ok(());
    };
    let path = sizes.path(resource, volume);
    let path = path.display();
    if former.is_some() {
        let reason = format!("{path} is out of date and cannot be written: {error}");
        return Err(Refusal::new(RefusalCode::Environment, reason, ""));
    }
    tracing::warn!(
        resource,
        volume = volume.0,
        %error,
        "{path} cannot be written: do not enlarge the disk while it is not in use"
    );
    Ok(())
}

/// How large the open files of a volume are now.
pub(super) fn measure(
    data: &OwnedFd,
    metadata: Option<&OwnedFd>,
    meta_disk: &MetaDisk,
) -> Result<DiskMeasure, DiskError> {
    let size = |file| rustix::fs::seek(file, SeekFrom::End(0)).map_err(|_| DiskError::Io);
    let placement = match (metadata, meta_disk) {
        (None, _) => Placement::Internal,
        (Some(file), MetaDisk::External { index, .. }) => {
            metadata::area(size(file)?, *index).map_err(|_| DiskError::Io)?
        }
        (Some(_), MetaDisk::Internal) => return Err(DiskError::Io),
    };
    Ok(DiskMeasure {
        device_bytes: size(data)?,
        placement,
    })
}

/// The smallest unit any disk has.
const MINIMUM_BLOCK: u32 = 512;
