//! Files written from a disk and read onto another one, and files that are not what they should be.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rbd_protocol::control::Backing;
use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::metadata::Name;
use rbd_protocol::undo::{Header, SavedVolume, Totals};
use tempfile::TempDir;

use super::{BackingDisk, Copy, Put, Saving, UndoFile, UndoFileError, put};
use crate::offline::{Access, Disk};

const SIZE: u64 = 4 << 20;

/// A directory with a disk in it, whose blocks all differ, but for every fourth, which is zero.
struct Place {
    directory: TempDir,
    data: Vec<u8>,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut data = Vec::new();
        for block in 0..SIZE / 4096 {
            let value = if block % 4 == 3 { 0 } else { block % 251 + 1 };
            data.extend([u8::try_from(value).unwrap(); 4096]);
        }
        fs::write(directory.path().join("disk"), &data).unwrap();
        Self { directory, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn backing(&self) -> Backing {
        let path = self.path("disk");
        let facts = fs::metadata(&path).unwrap();
        Backing {
            path: path.display().to_string(),
            is_block_device: false,
            device: facts.dev(),
            inode: facts.ino(),
        }
    }

    fn save(&self, runs: &[ByteRange]) -> Result<(Copy, Totals), UndoFileError> {
        let mut filling = Saving::create(&self.path("undo"))?.begin(&header())?;
        let disk = BackingDisk::open(&self.backing())?;
        filling.volume(&saved())?;
        for run in runs {
            filling.copy(&disk, *run)?;
        }
        filling.finish()
    }

    /// An empty disk of the same size, with what was saved written to it.
    fn brought_back(&self) -> Vec<u8> {
        let image = self.path("image");
        fs::write(&image, vec![0xEE; self.data.len()]).unwrap();
        let disk = Disk::open(&image, Access::Write).unwrap();
        let file = UndoFile::open(&self.path("undo")).unwrap();
        put(&file, VolumeNumber(3), &disk).unwrap();
        fs::read(&image).unwrap()
    }
}

fn header() -> Header {
    Header {
        resource: Name::new("r0").unwrap(),
        node: Name::new("beta").unwrap(),
        kept: Name::new("alpha").unwrap(),
        tenure: 9,
        written_at: 1_700_000_000,
        is_whole: false,
    }
}

fn saved() -> SavedVolume {
    SavedVolume {
        volume: VolumeNumber(3),
        size_bytes: SIZE,
        generation: GenerationId(5),
        since: GenerationId(4),
    }
}

#[test]
fn a_file_that_is_not_kept_is_removed() {
    let place = Place::new();
    drop(Saving::create(&place.path("undo")).unwrap());
    assert!(!place.path("undo").exists());
    let (copy, _) = place.save(&[ByteRange::new(0, 4096)]).unwrap();
    assert!(place.path("undo").exists());
    drop(copy);
    assert!(!place.path("undo").exists());
    let (copy, _) = place.save(&[ByteRange::new(0, 4096)]).unwrap();
    copy.keep();
    assert!(place.path("undo").exists());
    let again = place.save(&[]).unwrap_err();
    assert!(matches!(again, UndoFileError::Exists(_)), "{again}");
    assert!(place.path("undo").exists());
}

#[test]
fn it_is_for_nobody_else_to_read() {
    let place = Place::new();
    let (copy, _) = place.save(&[]).unwrap();
    let mode = fs::metadata(copy.path()).unwrap().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn zeroes_take_no_room_and_come_back() {
    let place = Place::new();
    let whole = ByteRange::new(0, u32::try_from(SIZE).unwrap());
    let (copy, totals) = place.save(&[whole]).unwrap();
    assert_eq!(totals.data_bytes, SIZE / 4 * 3);
    assert_eq!(totals.zero_bytes, SIZE / 4);
    assert!(fs::metadata(copy.path()).unwrap().len() < SIZE / 4 * 3 + (64 << 10));
    assert_eq!(place.brought_back(), place.data);
}

#[test]
fn another_disk_under_the_same_name_is_not_taken_for_it() {
    let place = Place::new();
    let backing = place.backing();
    fs::rename(place.path("disk"), place.path("elsewhere")).unwrap();
    fs::write(place.path("disk"), &place.data).unwrap();
    let error = BackingDisk::open(&backing).unwrap_err();
    assert!(matches!(error, UndoFileError::AnotherDisk(_)), "{error}");
    let device = Backing {
        is_block_device: true,
        ..place.backing()
    };
    let error = BackingDisk::open(&device).unwrap_err();
    assert!(matches!(error, UndoFileError::AnotherDisk(_)), "{error}");
}

#[test]
fn a_disk_that_is_shorter_than_said_is_an_error() {
    let place = Place::new();
    let beyond = ByteRange::new(SIZE - 4096, 8192);
    let error = place.save(&[beyond]).unwrap_err();
    assert!(matches!(error, UndoFileError::File { .. }), "{error}");
    assert!(!place.path("undo").exists());
}

#[test]
fn what_is_cut_short_damaged_or_something_else_is_told_apart() {
    let place = Place::new();
    let (copy, _) = place.save(&[ByteRange::new(0, 8192)]).unwrap();
    let file = copy.path().to_owned();
    copy.keep();
    let whole = fs::read(&file).unwrap();
    let verdict = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let file = UndoFile::open(&file).unwrap();
        file.verify().unwrap_err().to_string()
    };
    for length in [8, 511, 512, 600, whole.len() - 1] {
        let text = verdict(&whole[..length]);
        assert!(text.contains("incomplete"), "{length}: {text}");
    }
    for length in [0, 6] {
        let text = verdict(&whole[..length]);
        assert!(text.contains("not an undo file"), "{length}: {text}");
    }
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    assert!(verdict(&damaged).contains("damaged"));
    let longer = [&whole[..], b"x"].concat();
    assert!(verdict(&longer).contains("damaged"));
    assert!(verdict(&whole[512..]).contains("not an undo file"));
}

#[test]
fn a_disk_that_cannot_be_written_is_not_the_file_s_fault() {
    let place = Place::new();
    let (copy, _) = place.save(&[ByteRange::new(0, 8192)]).unwrap();
    let image = place.path("image");
    File::create(&image).unwrap().set_len(SIZE).unwrap();
    let disk = Disk::open(&image, Access::Read).unwrap();
    let file = UndoFile::open(copy.path()).unwrap();
    let error = put(&file, VolumeNumber(3), &disk).unwrap_err();
    assert!(matches!(error, Put::Disk(_)), "{error:?}");
    assert!(is_untouched(&image));
}

fn is_untouched(path: &Path) -> bool {
    fs::read(path).unwrap().iter().all(|byte| *byte == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn what_was_saved_comes_back_and_nothing_else(
        pieces in prop::collection::vec((0_u64..40, 1_u64..300), 0..8),
    ) {
        let place = Place::new();
        let (mut runs, mut at) = (Vec::new(), 0);
        for (gap, blocks) in pieces {
            let from = at + gap;
            let to = (from + blocks).min(SIZE / 4096);
            if from < to {
                runs.push(ByteRange::new(from * 4096, u32::try_from((to - from) * 4096).unwrap()));
                at = to + 1;
            }
        }
        let (copy, totals) = place.save(&runs).unwrap();
        let bytes: u64 = runs.iter().map(|run| u64::from(run.length)).sum();
        prop_assert_eq!(totals.data_bytes + totals.zero_bytes, bytes);
        let contents = UndoFile::open(copy.path()).unwrap().verify().unwrap();
        prop_assert_eq!(&contents.header, &header());
        prop_assert_eq!(contents.volumes[0].saved, saved());
        prop_assert_eq!(contents.volumes[0].runs, u64::try_from(runs.len()).unwrap());
        let mut expected = vec![0xEE; place.data.len()];
        for run in &runs {
            let [from, to] = [run.offset, run.end()].map(|at| usize::try_from(at).unwrap());
            expected[from..to].copy_from_slice(&place.data[from..to]);
        }
        prop_assert!(place.brought_back() == expected);
    }
}
