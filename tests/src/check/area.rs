//! Finding and opening the metadata of a disk at rest, as an attach would, without being told
//! whose it is. Never writes.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rbd_protocol::metadata::{
    BlockError, Image, OpenInputs, Placement, ReadError, Superblock, open, read_superblocks,
};

/// A disk, and where its metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The backing file or device.
    pub disk: PathBuf,
    /// Its metadata; `None` when it is at the disk's own end.
    pub metadata: Option<MetaPlace>,
}

/// Where external metadata is: `FILE`, or `FILE[INDEX]` for a window of a shared one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaPlace {
    /// The file or device.
    pub path: PathBuf,
    /// The window.
    pub index: Option<u32>,
}

impl Replica {
    /// A disk with its metadata at its end.
    #[must_use]
    pub fn internal(disk: impl Into<PathBuf>) -> Self {
        Self {
            disk: disk.into(),
            metadata: None,
        }
    }

    /// Opens the metadata.
    ///
    /// # Errors
    /// Says what cannot be read or is not to be used, as an attach would.
    pub fn open(&self) -> Result<Image, String> {
        let device_bytes = size_of(&self.disk).map_err(|error| self.cannot(&error))?;
        let (path, placement) = match &self.metadata {
            None => (self.disk.as_path(), Placement::Internal),
            Some(place) => (place.path.as_path(), place.placement()?),
        };
        let file = File::open(path).map_err(|error| say(path, &error))?;
        let mut read = |offset, buffer: &mut [u8]| {
            file.read_exact_at(buffer, offset)
                .map_err(|error| ReadError {
                    code: error.raw_os_error().unwrap_or(0),
                })
        };
        let failed = |error: &dyn fmt::Display| say(path, error);
        let slots = read_superblocks(&mut read, device_bytes, placement);
        let slots = slots.map_err(|error| failed(&error))?;
        let own = newest(slots.map(|slot| slot.content)).map_err(|error| failed(&error))?;
        let inputs = OpenInputs {
            device_bytes,
            placement,
            resource: own.resource.as_str(),
            node: own.node.as_str(),
            node_id: own.node_id,
            volume: own.volume,
            accept_older_superblock: false,
        };
        open(&mut read, &inputs).map_err(|error| failed(&error))
    }

    fn cannot(&self, error: &io::Error) -> String {
        say(&self.disk, error)
    }
}

impl MetaPlace {
    /// Reads `FILE` or `FILE[INDEX]`.
    #[must_use]
    pub fn named(text: &str) -> Self {
        let indexed = text.strip_suffix(']').and_then(|text| {
            let (path, index) = text.rsplit_once('[')?;
            Some((path, index.parse().ok()?))
        });
        match indexed {
            Some((path, index)) => Self {
                path: path.into(),
                index: Some(index),
            },
            None => Self {
                path: text.into(),
                index: None,
            },
        }
    }

    fn placement(&self) -> Result<Placement, String> {
        let bytes = size_of(&self.path).map_err(|error| say(&self.path, &error))?;
        match self.index {
            None => Ok(Placement::External {
                offset: 0,
                available: bytes,
            }),
            Some(index) => {
                Placement::indexed(index, bytes).map_err(|error| say(&self.path, &error))
            }
        }
    }
}

/// Who the metadata says it is; whether the other copy is newer is for `open` to judge.
fn newest(copies: [Result<Superblock, BlockError>; 2]) -> Result<Superblock, BlockError> {
    match copies {
        [Ok(one), Ok(other)] if one.sequence < other.sequence => Ok(other),
        [Ok(one), _] => Ok(one),
        [Err(_), Ok(other)] => Ok(other),
        [Err(error), Err(_)] => Err(error),
    }
}

/// The size of a file or block device.
fn size_of(path: &Path) -> io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}

fn say(path: &Path, error: &(impl fmt::Display + ?Sized)) -> String {
    format!("{}: {error}", path.display())
}
