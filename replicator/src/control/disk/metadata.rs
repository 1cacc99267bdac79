//! Where a volume's metadata lies, and what is said when it cannot be used.

use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig, VolumeConfig};
use rbd_protocol::metadata::{Image, LayoutError, OpenError, Placement};

use std::path::Path;

use super::file::BackingFile;

/// The area on a device of its own, whole or one slot of it.
pub(super) fn external_placement(
    file: &BackingFile,
    index: Option<u32>,
) -> Result<Placement, Refusal> {
    area(file.size_bytes, index).map_err(|error| {
        let reason = format!("{}: {error}", file.path);
        Refusal::new(RefusalCode::MetaDiskTooSmall, reason, "")
    })
}

/// The area on a device of this size.
pub(super) fn area(available: u64, index: Option<u32>) -> Result<Placement, LayoutError> {
    match index {
        None => Ok(Placement::External {
            offset: 0,
            available,
        }),
        Some(index) => Placement::indexed(index, available),
    }
}

/// The configuration may not promise more or less than what the metadata was made for.
pub(super) fn check_size(
    image: &Image,
    volume: &VolumeConfig,
    data: &BackingFile,
) -> Result<(), Refusal> {
    let size = image.superblock.data_bytes;
    if size > data.size_bytes {
        return Err(Refusal::new(
            RefusalCode::DiskTooSmall,
            format!(
                "{} has {} bytes, the volume was made with {size}",
                data.path, data.size_bytes
            ),
            "restore the size of the disk",
        ));
    }
    match volume.size_limit_bytes {
        // A disk that is just created follows the configuration.
        Some(limit) if limit < size && image.superblock.generation.names_data() => {
            Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!(
                    "size {limit} is configured for {}, the volume was made with {size}",
                    data.path
                ),
                "volumes do not shrink: correct the size, or run create-md anew",
            ))
        }
        _ => Ok(()),
    }
}

/// What the administrator is told.
pub(super) fn refusal(
    error: &OpenError,
    config: &ResourceConfig,
    (path, remembered): (&str, &Path),
) -> Refusal {
    let remembered = remembered.display();
    let create = format!("rbdadm create-md {}", config.name);
    let elsewhere = "check disk and meta-disk in the configuration".to_owned();
    let (code, help) = match error {
        OpenError::Layout(LayoutError::MetadataAreaTooSmall { .. }) => {
            (RefusalCode::MetaDiskTooSmall, String::new())
        }
        OpenError::Layout(_) => (RefusalCode::DiskTooSmall, String::new()),
        OpenError::Read { .. } => (RefusalCode::MetaDataRead, "check the disk".to_owned()),
        OpenError::NoMetadata { .. } => (
            RefusalCode::NoMetaData,
            format!(
                "if this disk never had any: {create}; if it has grown since, restore its size, \
                 or write that into {remembered}, as: device-bytes NUMBER; if it had any and has \
                 not grown, restore its content"
            ),
        ),
        OpenError::TwoAreas { .. } => (
            RefusalCode::ForeignMetaData,
            format!(
                "if create-md was run on the larger disk, remove {remembered}; if not, restore \
                 the size of the disk"
            ),
        ),
        OpenError::MixedAreas { .. } => (RefusalCode::NoMetaData, create),
        OpenError::Damaged { .. } | OpenError::NewestUncertain { .. } => (
            RefusalCode::MetaDataRead,
            format!("if the peer has good data: {create}"),
        ),
        OpenError::DeviceSize { recorded, found } if found < recorded => (
            RefusalCode::DiskTooSmall,
            "restore the size of the disk".to_owned(),
        ),
        OpenError::DeviceSize { .. } => (
            RefusalCode::ForeignMetaData,
            "restore the size of the disk".to_owned(),
        ),
        OpenError::FutureVersion { .. } => (
            RefusalCode::ForeignMetaData,
            "use the newer program that wrote it".to_owned(),
        ),
        OpenError::OtherResource { .. }
        | OpenError::OtherNode { .. }
        | OpenError::OtherNodeId { .. }
        | OpenError::OtherVolume { .. }
        | OpenError::OtherPlacement { .. } => (RefusalCode::ForeignMetaData, elsewhere),
    };
    let cause = match error {
        OpenError::Read { source, .. } if source.code != 0 => {
            format!(": {}", std::io::Error::from_raw_os_error(source.code))
        }
        _ => String::new(),
    };
    Refusal::new(code, format!("{path}: {error}{cause}"), help)
}
