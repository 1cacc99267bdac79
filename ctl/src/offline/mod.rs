//! Work on a volume's metadata while the volume is not up: creating, wiping, showing it.
//!
//! The disks are opened here directly and locked for as long as the work takes, so that neither
//! the daemon nor a second `rbdadm` can use them meanwhile. Files are never created. Nothing is
//! overwritten without an answer to the question what would be lost, or `--force`.

mod area;
mod ask;
mod disk;
mod outdate;
mod show;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;

use rbd_protocol::metadata::{LayoutError, NameTooLong, OpenError};

pub(crate) use area::Area;
pub(crate) use ask::{Answer, ask};
pub(crate) use disk::{Access, Disk};
pub(crate) use outdate::outdate;
pub(crate) use show::dump;
pub(crate) use write::{Creator, create, losses, losses_of_wipe, wipe};

/// Why work on a disk was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    /// The path leads nowhere.
    #[error("{}: no such file or device; rbdadm never creates a backing file", .0.display())]
    Missing(PathBuf),
    /// The path leads to a directory, a socket, or the like.
    #[error("{}: neither a block device nor a regular file", .0.display())]
    NotADisk(PathBuf),
    /// The operating system refuses.
    #[error("{}: cannot be opened: {source}", .path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Somebody else uses it.
    #[error("{}: in use by {holder}{}", .path.display(), advice(.holder))]
    InUse { path: PathBuf, holder: String },
    /// The volume has no disk on this node.
    #[error("no disk on this node ('disk none')")]
    Diskless,
    /// Data and metadata would overwrite each other.
    #[error("{}: is the backing disk itself; write 'meta-disk internal;'", .0.display())]
    SameDisk(PathBuf),
    /// Sizes do not fit.
    #[error("{}: {source}", .path.display())]
    Layout { path: PathBuf, source: LayoutError },
    /// A name does not fit into the metadata.
    #[error("{name}: {source}")]
    Name { name: String, source: NameTooLong },
    /// The disk cannot be read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The disk cannot be written.
    #[error("{}: cannot be written: {source}", .path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    /// There is something on the disk and nobody to ask about it.
    #[error("nothing was written, and there is no terminal to ask on; --force overwrites it")]
    NobodyToAsk,
    /// The question was not answered with yes.
    #[error("nothing was written")]
    Declined,
    /// The metadata cannot be used.
    #[error("{}: {source}", .path.display())]
    Unusable { path: PathBuf, source: OpenError },
    /// The data is not whole, which is less than being behind.
    #[error("State change failed: (-16) Disk state is lower than outdated")]
    LowerThanOutdated,
    /// The machine gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(std::io::Error),
}

impl OfflineError {
    /// The exit code that stands for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Missing(_)
            | Self::Open { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Random(_) => 20,
            Self::Diskless => 16,
            Self::LowerThanOutdated => 11,
            Self::NotADisk(_)
            | Self::InUse { .. }
            | Self::SameDisk(_)
            | Self::Layout { .. }
            | Self::Name { .. }
            | Self::NobodyToAsk
            | Self::Declined
            | Self::Unusable { .. } => 10,
        }
    }
}

/// What lets go of the disk.
fn advice(holder: &str) -> &'static str {
    if holder.starts_with("rbdd") {
        "; take the resource down first, with rbdadm down"
    } else {
        ""
    }
}
