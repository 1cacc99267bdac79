//! Which disks of a resource have failed a flush: an empty file for each in the run directory,
//! which outlives this process and not the machine's power.
//!
//! A disk that does not take its metadata either cannot say it itself, and after the next flush,
//! which may well succeed, nobody could tell (B4). The file is there before anything else is done
//! about the failure. The write goes to memory, as far as the run directory is where it should be.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rbd_protocol::ids::VolumeNumber;
use tracing::error;

/// The files of one resource.
#[derive(Debug)]
pub(crate) struct LostCaches {
    directory: PathBuf,
    resource: String,
}

impl LostCaches {
    /// In this run directory, where nothing is created before there is something to note.
    pub(crate) fn of(resource: &str, run: &Path) -> Self {
        Self {
            directory: run.join("lost-caches"),
            resource: resource.into(),
        }
    }

    /// Whether it has been noted. What cannot be told is taken for lost.
    pub(super) fn is_noted(&self, volume: VolumeNumber) -> bool {
        !matches!(self.path(volume).try_exists(), Ok(false))
    }

    /// Notes it, or that it is no longer so.
    pub(super) fn note(&self, volume: VolumeNumber, lost: bool) {
        let path = self.path(volume);
        let done = if lost {
            fs::create_dir_all(&self.directory).and_then(|()| File::create(&path).map(drop))
        } else {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        };
        if let Err(error) = done {
            let path = path.display();
            let what = if lost {
                "a failed flush cannot be noted: before rbdd is restarted the disk must be replaced"
            } else {
                "a disk that is in sync again still counts as one that has failed a flush"
            };
            error!(%volume, %path, %error, "{what}");
        }
    }

    fn path(&self, volume: VolumeNumber) -> PathBuf {
        self.directory.join(format!("{}.{volume}", self.resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_outlives_the_process_until_it_is_no_longer_so() {
        let run = tempfile::tempdir().unwrap();
        let volume = VolumeNumber(1);
        let caches = LostCaches::of("r0", run.path());
        assert!(!caches.is_noted(volume));
        caches.note(volume, false);
        caches.note(volume, true);
        caches.note(volume, true);
        let next = LostCaches::of("r0", run.path());
        assert!(next.is_noted(volume));
        assert!(!next.is_noted(VolumeNumber(11)));
        assert!(!LostCaches::of("r", run.path()).is_noted(volume));
        next.note(volume, false);
        assert!(!caches.is_noted(volume));
    }

    #[test]
    fn what_cannot_be_told_is_lost() {
        let run = tempfile::tempdir().unwrap();
        File::create(run.path().join("lost-caches")).unwrap();
        let caches = LostCaches::of("r0", run.path());
        caches.note(VolumeNumber(0), true);
        assert!(caches.is_noted(VolumeNumber(0)));
    }
}
