//! Where one volume's metadata is: the disks involved and the place on them.

use std::path::Path;

use rbd_protocol::control::{MetaDisk, VolumeConfig};
use rbd_protocol::metadata::{Layout, Placement, ReadError};

use super::OfflineError;
use super::disk::{Access, Disk};

/// The opened disks of a volume and the place of its metadata.
#[derive(Debug)]
pub(crate) struct Area {
    data: Disk,
    /// The other disk of external metadata.
    external: Option<Disk>,
    placement: Placement,
}

impl Area {
    /// Opens and locks the volume's disks.
    pub(crate) fn open(volume: &VolumeConfig, access: Access) -> Result<Self, OfflineError> {
        let path = volume.disk.as_deref().ok_or(OfflineError::Diskless)?;
        let data = Disk::open(Path::new(path), access)?;
        let MetaDisk::External { path, index } = &volume.meta_disk else {
            return Ok(Self {
                data,
                external: None,
                placement: Placement::Internal,
            });
        };
        let path = Path::new(path);
        if data.is_at(path) {
            return Err(OfflineError::SameDisk(path.to_owned()));
        }
        let access = match (access, index) {
            (Access::Write, Some(_)) => Access::WritePart,
            (access, _) => access,
        };
        let external = Disk::open(path, access)?;
        let placement = match index {
            None => Placement::External {
                offset: 0,
                available: external.size(),
            },
            Some(index) => Placement::indexed(*index, external.size()).map_err(|source| {
                OfflineError::Layout {
                    path: path.to_owned(),
                    source,
                }
            })?,
        };
        Ok(Self {
            data,
            external: Some(external),
            placement,
        })
    }

    /// The disk with the data.
    pub(crate) fn data(&self) -> &Disk {
        &self.data
    }

    /// The disk with the metadata.
    pub(crate) fn metadata(&self) -> &Disk {
        self.external.as_ref().unwrap_or(&self.data)
    }

    /// Whether the metadata is at the end of the data's disk.
    pub(crate) fn is_internal(&self) -> bool {
        self.external.is_none()
    }

    /// The place.
    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }

    /// The part of the metadata's disk that belongs to this volume: offset and length.
    pub(crate) fn window(&self) -> (u64, u64) {
        match self.placement {
            Placement::Internal => (0, self.data.size()),
            Placement::External { offset, available } => (offset, available),
        }
    }

    /// The layout of new metadata.
    pub(crate) fn layout(
        &self,
        max_peers: u8,
        size_limit: Option<u64>,
    ) -> Result<Layout, OfflineError> {
        Layout::new(self.data.size(), self.placement, max_peers, size_limit)
            .map_err(|source| self.misfit(source))
    }

    /// Reads from the metadata's disk.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.metadata().read(offset, buffer)
    }

    /// The error for sizes that do not fit, naming the disk that is too small.
    pub(crate) fn misfit(&self, source: rbd_protocol::metadata::LayoutError) -> OfflineError {
        use rbd_protocol::metadata::LayoutError::DeviceTooSmall;
        let disk = match source {
            DeviceTooSmall { .. } => &self.data,
            _ => self.metadata(),
        };
        OfflineError::Layout {
            path: disk.path().to_owned(),
            source,
        }
    }
}
