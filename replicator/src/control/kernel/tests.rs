//! Names, owners and holders of kernel devices; the devices themselves need a kernel that has them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use rbd_protocol::ids::VolumeNumber;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{driver, holders, names};

#[test]
fn a_name_is_made_with_its_directory_and_leads_to_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("by-res/r0/0");
    names::make(&name, "/dev/ublkb3").unwrap();
    assert_eq!(fs::read_link(&name).unwrap(), Path::new("/dev/ublkb3"));
}

#[test]
fn a_stale_link_to_a_device_of_this_kind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("drbd1");
    for stale in ["/dev/ublkb7", "/dev/nbd0"] {
        symlink(stale, &name).unwrap();
        names::make(&name, "/dev/ublkb3").unwrap();
        assert_eq!(fs::read_link(&name).unwrap(), Path::new("/dev/ublkb3"));
        fs::remove_file(&name).unwrap();
    }
}

#[test]
fn what_somebody_else_has_put_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let told = names::make(&file, "/dev/ublkb3").unwrap_err();
    assert_eq!(told.to_string(), "something else has this name");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    for target in ["/dev/sda", "/dev/ublkb", "/dev/ublkb0p1", "/dev/nbd0x"] {
        let link = directory.path().join("link");
        symlink(target, &link).unwrap();
        let told = names::make(&link, "/dev/ublkb3").unwrap_err();
        assert_eq!(told.to_string(), format!("it is a link to {target}"));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_file_beside_a_stale_link_stays_whatever_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("drbd1");
    let beside = directory.path().join("drbd1.rbdd-new");
    symlink("/dev/ublkb7", &name).unwrap();
    fs::write(&beside, "precious").unwrap();
    let told = names::make(&name, "/dev/ublkb3").unwrap_err();
    assert_eq!(told.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&beside).unwrap(), "precious");
    // One of a daemon that died just then goes.
    fs::remove_file(&beside).unwrap();
    symlink("/dev/ublkb7", &beside).unwrap();
    names::make(&name, "/dev/ublkb3").unwrap();
    assert_eq!(fs::read_link(&name).unwrap(), Path::new("/dev/ublkb3"));
    assert!(fs::symlink_metadata(&beside).is_err());
}

#[test]
fn a_name_that_leads_elsewhere_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("drbd1");
    symlink("/dev/ublkb4", &name).unwrap();
    names::remove(&name, "/dev/ublkb3");
    assert!(fs::symlink_metadata(&name).is_ok());
    names::remove(&name, "/dev/ublkb4");
    assert!(fs::symlink_metadata(&name).is_err());
}

#[test]
fn a_device_is_found_at_its_path_and_by_its_resource() {
    let [by_resource, device] = names::of("r0", VolumeNumber(2), "/dev/drbd9");
    assert_eq!(by_resource, Path::new("/dev/rbdd/by-res/r0/2"));
    assert_eq!(device, Path::new("/dev/drbd9"));
}

#[test]
fn an_owner_is_one_volume_of_one_daemon_and_stays_the_same_for_ever() {
    let owner = |node, run: &str, resource, volume| {
        driver::owner(node, Path::new(run), resource, VolumeNumber(volume))
    };
    let one = owner("alice", "/run/rbd", "r0", 0);
    assert_ne!(one, owner("bob", "/run/rbd", "r0", 0));
    assert_ne!(one, owner("alice", "/run/other", "r0", 0));
    assert_ne!(one, owner("alice", "/run/rbd", "r1", 0));
    assert_ne!(one, owner("alice", "/run/rbd", "r0", 1));
    // A daemon that is upgraded has to find the devices of the one before.
    assert_eq!(one, OWNER, "{one:#x}");
}

#[test]
fn mounts_are_found_by_the_number_of_the_device() {
    let table = "\
        29 1 259:0 / / rw,relatime shared:1 - ext4 /dev/ublkb0 rw\n\
        30 29 259:1 / /with\\040space rw - ext4 /dev/ublkb0p1 rw\n\
        31 29 0:22 / /sys rw - sysfs sysfs rw\n";
    assert_eq!(holders::mounts(table, &["259:0"]), ["mounted on /"]);
    let both = holders::mounts(table, &["259:0", "259:1"]);
    assert_eq!(both, ["mounted on /", "mounted on /with space"]);
    assert_eq!(holders::mounts(table, &["259:2"]), [""; 0]);
}

#[test]
fn whoever_has_a_device_open_is_found_by_whatever_name_he_has_opened_it() {
    let directory = tempfile::tempdir().unwrap();
    let other_name = directory.path().join("disk-of-a-container");
    // Of loop0, which can be opened whether or not there is anything behind it.
    let made = mknodat(
        CWD,
        &other_name,
        FileType::BlockDevice,
        Mode::RUSR,
        makedev(7, 0),
    );
    let opened = made.map_err(std::io::Error::from);
    let Ok(device) = opened.and_then(|()| fs::File::open(&other_name)) else {
        skip("no device can be made or opened here");
        return;
    };
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .stdin(device)
        .spawn()
        .unwrap();
    let paths = ["/dev/loop0".to_owned()];
    let found = holders::processes(&paths, &["7:0"]);
    let none = holders::processes(&paths, &["7:1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let told = format!("open in sleep (pid {})", child.id());
    assert!(found.contains(&told), "{found:?}");
    assert!(!none.contains(&told), "{none:?}");
}

/// Says in a way `cargo xtask test` counts that this test does not run here.
fn skip(reason: &str) {
    let test = "whoever_has_a_device_open_is_found_by_whatever_name_he_has_opened_it";
    println!("skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("RBD_SKIP_LOG") {
        let log = fs::OpenOptions::new().create(true).append(true).open(path);
        let line = format!("{test}: {reason}\n");
        log.and_then(|mut log| log.write_all(line.as_bytes()))
            .unwrap();
    }
}

const OWNER: u64 = 0xfd4c_40c3_95f0_ff68;
