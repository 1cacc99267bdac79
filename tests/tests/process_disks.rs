//! Disks that are missing, too small, full, damaged or somebody else's: each is refused with one
//! clear error, and the peer goes on serving its clients from its own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rbd_tests::process::{Chance, Meta, Node, Pair, Setup, undisturbed};

#[test]
fn a_disk_without_metadata_is_refused_as_such() {
    beta_returns_with(
        |beta| blank(&beta.disk(0)),
        10,
        &["(119)", "No valid meta-data signature found", "create-md"],
    );
}

#[test]
fn a_disk_that_has_shrunk_is_refused_with_both_sizes() {
    beta_returns_with(
        |beta| {
            let disk = open(&beta.disk(0));
            disk.set_len(20 << 20).expect("a file can be cut");
        },
        // What is now the end of the disk is not where metadata was.
        10,
        &["(119)"],
    );
    undisturbed(
        Pair::primary(Setup::default().volumes(&[Meta::External])),
        |pair| {
            pair.beta.ok("down");
            let whole = fs::read(pair.beta.disk(0)).expect("a disk");
            let disk = open(&pair.beta.disk(0));
            disk.set_len(20 << 20).expect("a file can be cut");
            let text = pair.beta.refused("up", 10);
            for words in ["(111)", "20971520", "33554432"] {
                assert!(text.contains(words), "{text}");
            }
            disk.write_all_at(&whole, 0).expect("a file can grow");
            pair.beta.ok("up");
        },
    );
}

#[test]
fn a_disk_too_small_for_metadata_is_refused_by_create_md() {
    let mut pair = Pair::new(Setup::default());
    open(&pair.alpha.disk(0))
        .set_len(8 << 10)
        .expect("a file can be cut");
    pair.alpha.start();
    let output = pair.alpha.verb("create-md");
    assert_ne!(output.code, Some(0), "{}", output.text());
    assert!(output.stderr.contains("8192"), "{}", output.text());
}

#[test]
fn the_other_node_s_disk_is_refused_with_both_names() {
    beta_returns_with(
        |beta| {
            let alpha = beta.home().with_file_name("alpha").join("disk0");
            fs::copy(alpha, beta.disk(0)).expect("a copy");
        },
        10,
        &["(165)", "alpha", "beta"],
    );
}

#[test]
fn another_resource_s_disk_is_refused_with_both_names() {
    let mut pair = Pair::new(Setup::default());
    pair.alpha.start();
    pair.alpha.ok("create-md");
    pair.alpha.reconfigure("resource r0", "resource other");
    pair.alpha.set_resource("other");
    let text = pair.alpha.refused("up", 10);
    for words in ["(165)", "r0", "other"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn metadata_of_a_future_version_is_refused_with_both_versions() {
    beta_returns_with(
        |beta| {
            for superblock in superblocks(&beta.disk(0)) {
                let version = 77_u16.to_le_bytes();
                write_at(&beta.disk(0), superblock + 8, &version);
            }
        },
        10,
        &["(165)", "77", "1"],
    );
}

#[test]
fn scribbled_superblocks_are_refused_and_never_taken_for_a_fresh_disk() {
    for copies in [&[0][..], &[1], &[0, 1]] {
        beta_returns_with(
            |beta| {
                let places = superblocks(&beta.disk(0));
                for copy in copies {
                    // The signature stays, the rest is noise.
                    let mut noise = vec![0; 4096 - 64];
                    Chance::new(5).fill(&mut noise);
                    write_at(&beta.disk(0), places[*copy] + 64, &noise);
                }
            },
            10,
            &["(118)", "superblock"],
        );
    }
}

#[test]
fn damage_elsewhere_in_the_metadata_counts_as_out_of_sync() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        pair.beta.ok("down");
        let disk = pair.beta.disk(0);
        // Everything between the data and the superblocks: intent log and bitmaps.
        let start = pair.alpha.status().size();
        let mut noise = vec![0; usize::try_from(superblocks(&disk)[1] - start).expect("small")];
        Chance::new(6).fill(&mut noise);
        write_at(&disk, start, &noise);
        pair.beta.ok("up");
        pair.beta.wait_for_log("damaged");
    });
}

#[test]
fn a_missing_disk_is_named() {
    beta_returns_with(
        |beta| fs::remove_file(beta.disk(0)).expect("it can be removed"),
        10,
        &["(104)", "disk0"],
    );
}

#[test]
fn a_disk_in_use_by_another_daemon_is_refused_with_its_process() {
    let pair = Pair::primary(Setup::default());
    pair.beta.ok("down");
    let (ours, theirs) = (pair.beta.disk(0), pair.alpha.disk(0));
    pair.beta
        .reconfigure(&ours.to_string_lossy(), "/nonexistent/nothing");
    pair.beta
        .reconfigure(&theirs.to_string_lossy(), &ours.to_string_lossy());
    pair.beta
        .reconfigure("/nonexistent/nothing", &theirs.to_string_lossy());
    let text = pair.beta.refused("up", 10);
    for words in ["(114)", &pair.alpha.pid().to_string()] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn create_md_does_not_destroy_the_metadata_of_a_running_resource() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        for words in ["create-md", "create-md --force"] {
            let output = pair.beta.verb(words);
            assert_ne!(output.code, Some(0), "{words}: {}", output.text());
        }
    });
}

/// While alpha is written to, beta goes down, its disk is changed, and `up` must be refused with
/// this exit code and these words. The disk as it was is good again afterwards.
fn beta_returns_with(change: impl FnOnce(&Node), code: i32, words: &[&str]) {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        pair.beta.ok("down");
        let good = fs::read(pair.beta.disk(0)).expect("a disk");
        change(&pair.beta);
        let text = pair.beta.refused("up", code);
        for words in words {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        assert!(!pair.alpha.status().is_connected());
        fs::write(pair.beta.disk(0), good).expect("a disk");
        pair.beta.ok("up");
    });
}

/// Where the two copies of the superblock are: the last two blocks.
fn superblocks(disk: &Path) -> [u64; 2] {
    let end = fs::metadata(disk).expect("a disk").len() / 4096 * 4096;
    [end - 4096, end - 8192]
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    open(path)
        .write_all_at(bytes, offset)
        .expect("a disk can be written");
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .write(true)
        .open(path)
        .expect("a disk can be opened")
}

fn blank(path: &Path) {
    let length = fs::metadata(path).expect("a disk").len();
    let disk = open(path);
    disk.set_len(0)
        .and_then(|()| disk.set_len(length))
        .expect("a file can be cut");
}
