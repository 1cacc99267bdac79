//! Undo files: what a node gives up to end a split brain, on its way into a file and out of it.
//!
//! The format is `rbd_protocol::undo`'s. What belongs into the file is the daemon's answer, and
//! whether the changes are given up afterwards is not decided here.

mod disk;
mod load;
mod put;
mod save;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use rbd_protocol::metadata::NameTooLong;
use rbd_protocol::undo::UndoError;

pub(crate) use disk::BackingDisk;
pub(crate) use load::{Contents, UndoFile, VolumeContents};
pub(crate) use put::{Put, put};
pub(crate) use save::{Copy, Filling, Saving, free_bytes, refuse_existing};

/// Why an undo file was not written, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UndoFileError {
    /// Nothing is ever overwritten by one.
    #[error("{}: exists already; name a file that does not", .0.display())]
    Exists(PathBuf),
    /// The operating system refuses.
    #[error("{}: cannot be {what}: {source}", .path.display())]
    File {
        path: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    /// The path of the backing disk leads somewhere else by now.
    #[error("{}: is not the disk any more that rbdd has open under this name", .0.display())]
    AnotherDisk(PathBuf),
    /// A name from the configuration does not fit into the file.
    #[error("{name}: {source}")]
    Name { name: String, source: NameTooLong },
    /// The contents are wrong.
    #[error("{}: {source}", .path.display())]
    Damaged { path: PathBuf, source: UndoError },
    /// The end is missing.
    #[error(
        "{}: incomplete, its end is missing: it has been cut short, or the command that wrote it \
         was interrupted and gave up nothing",
        .0.display()
    )]
    Incomplete(PathBuf),
    /// What was read back is not what was written.
    #[error("{}: does not hold what was written to it", .0.display())]
    Altered(PathBuf),
}

impl UndoFileError {
    /// The exit code that stands for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exists(_) | Self::Name { .. } => 10,
            Self::File { .. }
            | Self::AnotherDisk(_)
            | Self::Damaged { .. }
            | Self::Incomplete(_)
            | Self::Altered(_) => 20,
        }
    }

    fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, what, source }
    }
}
