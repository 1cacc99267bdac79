//! Replicas that differ.

use std::fs;

use super::{different_bytes, first_difference};

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

#[test]
fn a_block_that_differs_counts_once_however_much_of_it_differs() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = ["a", "b"].map(|name| directory.path().join(name));
    let mut bytes = vec![7; 64 << 10];
    fs::write(&files[0], &bytes).expect("a file");
    bytes[4096] = 8;
    bytes[8191] = 8;
    bytes[(64 << 10) - 1] = 8;
    fs::write(&files[1], &bytes).expect("a file");
    assert_eq!(different_bytes(&files, 64 << 10), Ok(8192));
    assert_eq!(different_bytes(&files, 32 << 10), Ok(4096));
}
