//! Versions, and replicas that differ.

use std::fs;

use super::{first_difference, replies_late};

#[test]
fn a_version_is_read_out_of_what_the_program_prints() {
    assert!(replies_late(
        "qemu-storage-daemon version 7.2.22 (Debian 1:7.2+dfsg-7)"
    ));
    assert!(replies_late("qemu-storage-daemon version 8.0.4"));
    assert!(!replies_late("qemu-storage-daemon version 8.1.0"));
    assert!(!replies_late("qemu-storage-daemon version 10.0.2"));
    assert!(!replies_late("something else"));
}

#[test]
fn the_first_differing_byte_is_found_and_what_lies_behind_the_end_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = ["a", "b"].map(|name| directory.path().join(name));
    let size = (1 << 20) + 4096;
    let mut bytes = vec![7; size];
    fs::write(&files[0], &bytes).expect("a file");
    bytes[size - 1] = 8;
    fs::write(&files[1], &bytes).expect("a file");
    let last = size as u64 - 1;
    assert_eq!(first_difference(&files, last), Ok(None));
    assert_eq!(first_difference(&files, last + 1), Ok(Some(last)));
}
