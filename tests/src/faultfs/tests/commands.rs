//! The words for faults and power.

use rustix::io::Errno;

use super::super::obey;
use super::{disks, read, write};

#[test]
fn words_set_faults_and_count_them() {
    let (disks, _) = disks(8);
    let command = "fault write EIO file=disk range=512..1024 after=1 times=1";
    assert_eq!(obey(&disks, command), Ok("0".to_owned()));
    assert!(write(&disks, 1, 9).is_ok() && write(&disks, 0, 9).is_ok());
    assert_eq!(write(&disks, 1, 9), Err(Errno::IO));
    assert_eq!(obey(&disks, "hits 0"), Ok("1".to_owned()));
    for command in [
        "fault read ENOSPC",
        "fault any short",
        "fault flush hang",
        "fault read flip",
        "fault any delay=5",
        "latency 1",
        "release",
        "clear",
    ] {
        assert!(obey(&disks, command).is_ok(), "{command}");
    }
}

#[test]
fn words_switch_the_power() {
    let (disks, _) = disks(8);
    assert!(obey(&disks, "status").unwrap().starts_with("power on"));
    obey(&disks, "power-cut 3").unwrap();
    assert_eq!(read(&disks, 0), Err(Errno::IO));
    assert!(obey(&disks, "status").unwrap().starts_with("power off"));
    obey(&disks, "power-on").unwrap();
    assert_eq!(read(&disks, 0), Ok(0));
}

#[test]
fn other_words_are_refused_with_the_word() {
    let (disks, _) = disks(8);
    for (command, word) in [
        ("dance", "dance"),
        ("fault write", "fault write"),
        ("fault write EPIPE", "EPIPE"),
        ("fault sing EIO", "sing"),
        ("fault write EIO range=5", "5"),
        ("fault write EIO colour=red", "colour=red"),
        ("power-cut soon", "soon"),
    ] {
        let refused = obey(&disks, command).expect_err(command);
        assert!(refused.contains(word), "{refused}");
    }
}
