//! What is noted of a resource's disks elsewhere than on them, an empty file for each: that one has
//! failed a flush, in the run directory, which outlives this process and not the machine's power;
//! and that clients have gone on without it, in the state directory, which outlives both.
//!
//! A disk that does not take its metadata either cannot say such a thing itself, and nobody could
//! tell later: the next flush may well succeed (B4), and old data may be read again (A2). The file
//! is there before anything else is done about it. The first goes to memory, as far as the run
//! directory is where it should be; the second waits for the disk of the state directory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rbd_engine::DiskNote;
use rbd_protocol::ids::VolumeNumber;
use tracing::error;

/// The files of one resource.
#[derive(Debug)]
pub(crate) struct DiskNotes {
    resource: String,
    lost_caches: PathBuf,
    left_behind: PathBuf,
}

impl DiskNotes {
    /// In these directories, where nothing is created before there is something to note.
    pub(crate) fn of(resource: &str, run: &Path, state: &Path) -> Self {
        Self {
            resource: resource.into(),
            lost_caches: run.join("lost-caches"),
            left_behind: state.join("left-behind"),
        }
    }

    /// Whether it has been noted. What cannot be told is taken for so.
    pub(super) fn holds(&self, volume: VolumeNumber, note: DiskNote) -> bool {
        !matches!(self.path(volume, note).try_exists(), Ok(false))
    }

    /// Notes it, or that it is no longer so.
    pub(super) fn note(&self, volume: VolumeNumber, note: DiskNote, holds: bool) {
        let path = self.path(volume, note);
        if let Err(error) = self.change(&path, note, holds) {
            let path = path.display();
            let what = match (note, holds) {
                (DiskNote::LostCache, true) => {
                    "a failed flush cannot be noted: before rbdd is restarted the disk must be \
                     replaced"
                }
                (DiskNote::LostCache, false) => {
                    "a disk that is in sync again still counts as one that has failed a flush"
                }
                (DiskNote::LeftBehind, true) => {
                    "it cannot be noted that clients go on without this disk: do not promote this \
                     node before it has met its peer"
                }
                (DiskNote::LeftBehind, false) => {
                    "the disk still counts as one that clients have gone on without"
                }
            };
            error!(%volume, %path, %error, "{what}");
        }
    }

    fn change(&self, path: &Path, note: DiskNote, holds: bool) -> io::Result<()> {
        let directory = self.directory(note);
        if holds {
            fs::create_dir_all(directory)?;
            File::create(path)?;
        } else {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            }
        }
        match note {
            DiskNote::LostCache => Ok(()),
            DiskNote::LeftBehind => make_durable(directory),
        }
    }

    fn path(&self, volume: VolumeNumber, note: DiskNote) -> PathBuf {
        self.directory(note)
            .join(format!("{}.{volume}", self.resource))
    }

    fn directory(&self, note: DiskNote) -> &Path {
        match note {
            DiskNote::LostCache => &self.lost_caches,
            DiskNote::LeftBehind => &self.left_behind,
        }
    }
}

/// What is in the directory, and that it is there.
fn make_durable(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    match directory.parent() {
        Some(state) => File::open(state)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [DiskNote; 2] = [DiskNote::LostCache, DiskNote::LeftBehind];

    #[test]
    fn what_is_noted_outlives_the_process_until_it_is_no_longer_so() {
        let (run, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |resource: &str| DiskNotes::of(resource, run.path(), state.path());
        let volume = VolumeNumber(1);
        for note in NOTES {
            let notes = of("r0");
            assert!(!notes.holds(volume, note));
            notes.note(volume, note, false);
            notes.note(volume, note, true);
            notes.note(volume, note, true);
            let next = of("r0");
            assert!(next.holds(volume, note));
            assert!(!next.holds(VolumeNumber(11), note));
            assert!(!of("r").holds(volume, note));
            next.note(volume, note, false);
            assert!(!notes.holds(volume, note));
        }
    }

    #[test]
    fn each_note_is_one_of_its_own_and_where_it_belongs() {
        let (run, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let notes = DiskNotes::of("r0", run.path(), state.path());
        let volume = VolumeNumber(0);
        notes.note(volume, DiskNote::LeftBehind, true);
        assert!(!notes.holds(volume, DiskNote::LostCache));
        assert!(state.path().join("left-behind/r0.0").exists());
        assert!(!run.path().join("lost-caches").exists());
    }

    #[test]
    fn what_cannot_be_told_is_so() {
        let (run, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        File::create(run.path().join("lost-caches")).unwrap();
        File::create(state.path().join("left-behind")).unwrap();
        let notes = DiskNotes::of("r0", run.path(), state.path());
        for note in NOTES {
            notes.note(VolumeNumber(0), note, true);
            assert!(notes.holds(VolumeNumber(0), note));
        }
    }
}
