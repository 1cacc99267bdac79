//! Files as disks: alignment, locks, sharing.

use std::io::Write;

use rbd_protocol::control::{RefusalCode, WriteCache};

use super::file::{BackingFile, Sharing, lock_owner, write_cache_in};

fn file_of(bytes: &[u8]) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("there is a temporary directory");
    file.write_all(bytes).expect("a small file can be written");
    let path = file.path().to_str().expect("its path is text").to_owned();
    (file, path)
}

#[test]
fn any_range_can_be_read_whatever_the_alignment() {
    let content: Vec<u8> = (0..20_000_u32).map(|i| i.to_be_bytes()[3] ^ 0x33).collect();
    let (_kept, path) = file_of(&content);
    let file = BackingFile::open(&path, Sharing::Exclusive, RefusalCode::CannotOpenDisk).unwrap();
    assert_eq!(file.size_bytes, 20_000);
    for (offset, length) in [
        (0_usize, 4096),
        (4096, 4096),
        (1, 1),
        (511, 2),
        (12_345, 7_000),
    ] {
        let mut buffer = vec![0; length];
        file.read(u64::try_from(offset).unwrap(), &mut buffer)
            .unwrap();
        assert_eq!(buffer, content[offset..offset + length]);
    }
    // The file ends inside a block.
    let mut tail = [0; 4];
    file.read(19_996, &mut tail).unwrap();
    assert_eq!(tail, content[19_996..]);
    assert!(file.read(19_997, &mut tail).is_err());
}

#[test]
fn a_file_is_one_owners_unless_it_is_divided_into_slots() {
    let (_kept, path) = file_of(&[0; 4096]);
    let open = |sharing| BackingFile::open(&path, sharing, RefusalCode::CannotOpenMetaDisk);
    let first = open(Sharing::WithOtherVolumes).unwrap();
    let second = open(Sharing::WithOtherVolumes).unwrap();
    let refused = open(Sharing::Exclusive).unwrap_err();
    assert_eq!(refused.code, RefusalCode::DiskInUse);
    assert!(refused.reason.contains("has not ended"), "{refused:?}");
    drop((first, second));
    open(Sharing::Exclusive).unwrap();
}

#[test]
fn what_is_no_disk_is_refused_under_the_name_the_caller_gave_it() {
    for path in ["/dev/null", "/", "/nonexistent"] {
        let refused = BackingFile::open(path, Sharing::Exclusive, RefusalCode::CannotOpenMetaDisk)
            .unwrap_err();
        assert_eq!(refused.code, RefusalCode::CannotOpenMetaDisk);
        assert!(refused.reason.contains(path));
    }
}

#[test]
fn a_lock_on_the_same_inode_of_another_file_system_is_not_taken_for_this_one() {
    let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:12 0 EOF\n\
                 2: FLOCK  ADVISORY  WRITE 22 08:02:12 0 EOF\n\
                 2: -> FLOCK  ADVISORY  WRITE 23 08:01:12 0 EOF\n\
                 3: FLOCK  ADVISORY  WRITE 33 08:01:12 0 EOF\n";
    let device = |minor| rustix::fs::makedev(8, minor);
    assert_eq!(lock_owner(locks, device(1), 12), Some((33, false)));
    assert_eq!(lock_owner(locks, device(2), 12), Some((22, false)));
    assert_eq!(lock_owner(locks, device(1), 13), None);
    // A file system whose files have another device than its locks: better a guess than nothing.
    assert_eq!(lock_owner(locks, device(9), 12), Some((22, true)));
}

#[test]
fn only_a_device_that_says_write_through_is_taken_to_lose_nothing() {
    let devices = tempfile::tempdir().unwrap();
    let disk = devices.path().join("disk");
    let partition = disk.join("part1");
    std::fs::create_dir_all(disk.join("queue")).unwrap();
    std::fs::create_dir(&partition).unwrap();
    assert_eq!(write_cache_in(&disk), WriteCache::Volatile);
    for (text, cache) in [
        ("write through\n", WriteCache::Through),
        ("write back\n", WriteCache::Volatile),
        ("", WriteCache::Volatile),
    ] {
        std::fs::write(disk.join("queue/write_cache"), text).unwrap();
        assert_eq!(write_cache_in(&disk), cache);
        assert_eq!(write_cache_in(&partition), cache);
    }
    let (_kept, path) = file_of(&[0; 4096]);
    let file = BackingFile::open(&path, Sharing::Exclusive, RefusalCode::CannotOpenDisk).unwrap();
    assert_eq!(file.write_cache, WriteCache::Volatile);
}
