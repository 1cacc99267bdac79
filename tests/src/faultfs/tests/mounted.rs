//! The disks as files, through the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::super::{Effect, Fault, FaultFs, On, Opening, mount_privately};
use super::lasting;
use crate::check::SECTOR;
use crate::process::skip;

/// A mounted disk, until it is dropped.
struct Stage {
    disks: FaultFs,
    medium: File,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn stage(test: &str, opening: Opening) -> Option<Stage> {
    if let Err(reason) = mount_privately() {
        skip(test, &reason);
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let [media, at] = ["media", "at"].map(|name| directory.path().join(name));
    fs::create_dir(&media).unwrap();
    fs::create_dir(&at).unwrap();
    let image: Vec<u8> = (0..64).flat_map(|sector| [sector; SECTOR]).collect();
    fs::write(media.join("disk"), image).unwrap();
    let disks = FaultFs::mount(&media, &at, opening).unwrap();
    Some(Stage {
        disks,
        medium: File::open(media.join("disk")).unwrap(),
        path: at.join("disk"),
        _directory: directory,
    })
}

impl Stage {
    fn open(&self, flags: i32) -> std::io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&self.path)
    }
}

#[test]
fn a_file_is_a_disk_with_a_cache() {
    let Some(stage) = stage("a_file_is_a_disk_with_a_cache", Opening::Buffered) else {
        return;
    };
    let file = stage.open(0).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 64 * SECTOR as u64);
    file.write_all_at(&[9; SECTOR], 512).unwrap();
    let mut bytes = [0; 2 * SECTOR];
    file.read_exact_at(&mut bytes, 512).unwrap();
    assert_eq!((bytes[0], bytes[SECTOR]), (9, 2));
    assert_eq!(lasting(&stage.medium, 1), 1);
    file.sync_data().unwrap();
    assert_eq!(lasting(&stage.medium, 1), 9);
}

#[test]
fn a_write_is_durable_by_the_flag_of_the_file_or_its_own() {
    let name = "a_write_is_durable_by_the_flag_of_the_file_or_its_own";
    let Some(stage) = stage(name, Opening::Buffered) else {
        return;
    };
    let plain = stage.open(0).unwrap();
    let durable = stage.open(libc::O_DSYNC).unwrap();
    plain.write_all_at(&[9; SECTOR], 0).unwrap();
    durable.write_all_at(&[9; SECTOR], 512).unwrap();
    let data = [IoSlice::new(&[9; SECTOR])];
    let flags = ReadWriteFlags::DSYNC;
    rustix::io::pwritev2(&plain, &data, 1024, flags).unwrap();
    let last: Vec<u8> = (0..3).map(|at| lasting(&stage.medium, at)).collect();
    assert_eq!(last, [0, 9, 9]);
}

#[test]
fn direct_opening_is_possible_or_refused_as_wished() {
    let name = "direct_opening_is_possible_or_refused_as_wished";
    if let Some(stage) = stage(name, Opening::Buffered) {
        let refused = stage.open(libc::O_DIRECT).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }
    if let Some(stage) = stage(name, Opening::Direct) {
        assert!(stage.open(libc::O_DIRECT).is_ok());
    }
}

#[test]
fn holes_are_zeroes_that_wait_for_a_flush_too() {
    let name = "holes_are_zeroes_that_wait_for_a_flush_too";
    let Some(stage) = stage(name, Opening::Buffered) else {
        return;
    };
    let file = stage.open(0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 512, 512).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 1024, 512).unwrap();
    let mut bytes = [7; 2 * SECTOR];
    file.read_exact_at(&mut bytes, 512).unwrap();
    assert_eq!(bytes, [0; 2 * SECTOR]);
    assert_eq!(lasting(&stage.medium, 1), 1);
    file.sync_all().unwrap();
    assert_eq!(
        (lasting(&stage.medium, 1), lasting(&stage.medium, 2)),
        (0, 0)
    );
    let grow = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 512);
    assert_eq!(grow, Err(Errno::OPNOTSUPP));
}

#[test]
fn programs_see_errors_and_short_writes() {
    let Some(stage) = stage("programs_see_errors_and_short_writes", Opening::Buffered) else {
        return;
    };
    let file = stage.open(0).unwrap();
    let number = |result: std::io::Result<usize>| result.unwrap_err().raw_os_error();
    let fault = |on, effect| stage.disks.set(Fault::new(on, effect).once());
    fault(On::Read, Effect::Error(Errno::IO));
    fault(On::Write, Effect::Error(Errno::NOSPC));
    fault(On::Flush, Effect::Error(Errno::IO));
    let mut bytes = [0; SECTOR];
    let io = Some(Errno::IO.raw_os_error());
    assert_eq!(number(file.read_at(&mut bytes, 0)), io);
    let full = Some(Errno::NOSPC.raw_os_error());
    assert_eq!(number(file.write_at(&bytes, 0)), full);
    assert_eq!(number(file.sync_data().map(|()| 0)), io);
    fault(On::Write, Effect::Short);
    assert_eq!(file.write_at(&[9; 4 * SECTOR], 0).unwrap(), 2 * SECTOR);
    assert_eq!(stage.disks.all_hits(), 4);
}

#[test]
fn programs_wait_for_a_disk_that_hangs() {
    let Some(stage) = stage("programs_wait_for_a_disk_that_hangs", Opening::Buffered) else {
        return;
    };
    let file = stage.open(0).unwrap();
    stage.disks.set(Fault::new(On::Write, Effect::Hang));
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            file.write_all_at(&[9; SECTOR], 0).unwrap();
            is_done.store(true, Ordering::SeqCst);
        });
        while stage.disks.under_way() == 0 {
            thread::yield_now();
        }
        let mut bytes = [0; SECTOR];
        file.read_exact_at(&mut bytes, 512).unwrap();
        assert!(!is_done.load(Ordering::SeqCst), "others go on meanwhile");
        stage.disks.release();
    });
    assert!(is_done.load(Ordering::SeqCst));
}

#[test]
fn a_file_loses_power_and_comes_back() {
    let Some(stage) = stage("a_file_loses_power_and_comes_back", Opening::Direct) else {
        return;
    };
    let file = stage.open(0).unwrap();
    file.write_all_at(&[9; SECTOR], 0).unwrap();
    file.sync_data().unwrap();
    stage.disks.power_cut(1);
    let io = Some(Errno::IO.raw_os_error());
    let mut bytes = [0; SECTOR];
    let refused = file.read_at(&mut bytes, 0).unwrap_err();
    assert_eq!(refused.raw_os_error(), io);
    let refused = stage.open(0).unwrap_err();
    assert_eq!(refused.raw_os_error(), io);
    stage.disks.power_on();
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [9; SECTOR]);
}
