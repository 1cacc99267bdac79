//! The handler that keeps what a resync overwrites, with LVM's commands replaced by scripts that
//! write down how they are called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// LVM as the script sees it: a thick and a thin volume, a stranger's one, and snapshots as files
/// of their names that hold their origin's.
const STAND_INS: [(&str, &str); 4] = [
    (
        "lsblk",
        r#"for last; do :; done
           case $last in /dev/vg/*) echo lvm ;; /dev/sda) echo disk ;; *) exit 32 ;; esac"#,
    ),
    (
        "lvs",
        r#"for last; do :; done
           [ ! -e "$HOME/locked" ] || exit 5
           case "$3 $last" in
           "vg_name /dev/vg/"*) echo "  vg" ;;
           "lv_name vg") echo "  data"; ls "$HOME/volumes" ;;
           "lv_name "*) echo "  ${last##*/}" ;;
           "origin "*) echo "  $(cat "$HOME/volumes/${last##*/}")" ;;
           "pool_lv vg/thin") echo "  pool" ;;
           "pool_lv "*) echo "  " ;;
           *) exit 3 ;;
           esac"#,
    ),
    (
        "lvcreate",
        r#"echo "lvcreate $*" >> "$HOME/calls"
           [ ! -e "$HOME/full" ] || exit 5
           while [ "$1" != --name ]; do shift; done
           echo "${3#vg/}" > "$HOME/volumes/$2""#,
    ),
    (
        "lvremove",
        r#"echo "lvremove $*" >> "$HOME/calls"
           for last; do :; done
           rm "$HOME/volumes/${last#vg/}""#,
    ),
];

struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        let stage = TempDir::new().expect("a directory");
        fs::create_dir(stage.path().join("volumes")).expect("a directory");
        for (name, script) in STAND_INS {
            let path = stage.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("is its own");
        }
        Self(stage)
    }

    fn set(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).expect("a file");
    }

    fn run(&self, handler: &str, disk: &str, state: &str, options: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../cluster/handlers/snapshot-resync-target-lvm.sh");
        Command::new(script)
            .args(options)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()))
            .env("RBD_HANDLER", handler)
            .env("RBD_DISK_STATE", state)
            .env("DRBD_LL_DISK", disk)
            .output()
            .expect("the script runs")
    }

    fn before(&self, disk: &str, options: &[&str]) -> Output {
        self.run("before-resync-target", disk, "Outdated", options)
    }

    fn after(&self, disk: &str) -> Output {
        self.run("after-resync-target", disk, "UpToDate", &[])
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// It fails and says this, in one line.
fn refuses(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(words), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

const THICK: &str =
    "lvcreate --yes --snapshot --extents 100%ORIGIN --name data-before-resync vg/data";
const REMOVED: &str = "lvremove --yes vg/data-before-resync";

#[test]
fn a_snapshot_is_taken_before_and_removed_after() {
    let stage = Stage::new();
    succeeds(&stage.before("/dev/vg/data", &[]));
    assert_eq!(stage.calls(), [THICK]);
    succeeds(&stage.after("/dev/vg/data"));
    assert_eq!(stage.calls(), [THICK, REMOVED]);
    succeeds(&stage.after("/dev/vg/data"));
    assert_eq!(stage.calls().len(), 2, "there is none any more");
}

#[test]
fn the_first_snapshot_of_an_interrupted_resync_is_kept_and_an_older_one_is_not() {
    let stage = Stage::new();
    succeeds(&stage.before("/dev/vg/data", &[]));
    let state = "Inconsistent";
    succeeds(&stage.run("before-resync-target", "/dev/vg/data", state, &[]));
    assert_eq!(stage.calls(), [THICK]);
    succeeds(&stage.before("/dev/vg/data", &[]));
    assert_eq!(stage.calls(), [THICK, REMOVED, THICK]);
}

#[test]
fn a_thin_volume_needs_no_room_of_its_own() {
    let stage = Stage::new();
    succeeds(&stage.before("/dev/vg/thin", &["-s", "-kept"]));
    let call = "lvcreate --yes --snapshot --name thin-kept vg/thin";
    assert_eq!(stage.calls(), [call]);
}

#[test]
fn without_room_for_a_snapshot_the_resync_is_kept_from_beginning() {
    let stage = Stage::new();
    stage.set("full", "");
    let output = stage.before("/dev/vg/data", &["-p", "15"]);
    refuses(&output, "must not be overwritten without");
    assert!(stage.calls()[0].contains("15%ORIGIN"));
}

#[test]
fn somebody_elses_volume_is_never_removed() {
    let stage = Stage::new();
    stage.set("volumes/data-before-resync", "other\n");
    refuses(
        &stage.before("/dev/vg/data", &[]),
        "is no snapshot of vg/data",
    );
    refuses(&stage.after("/dev/vg/data"), "is no snapshot of vg/data");
    assert_eq!(stage.calls(), [""; 0]);
}

#[test]
fn a_disk_that_is_no_lvm_volume_is_left_alone_or_refused() {
    let stage = Stage::new();
    succeeds(&stage.before("/dev/sda", &[]));
    refuses(
        &stage.before("/dev/sda", &["-r"]),
        "is no LVM volume (disk)",
    );
    stage.set("file", "");
    let file = stage.0.path().join("file").display().to_string();
    succeeds(&stage.before(&file, &[]));
    refuses(&stage.before(&file, &["-r"]), "is no LVM volume (file)");
    assert_eq!(stage.calls(), [""; 0]);
}

#[test]
fn what_cannot_be_found_out_is_no_permission() {
    let stage = Stage::new();
    refuses(&stage.before("/dev/gone", &[]), "lsblk does not tell");
    stage.set("locked", "");
    refuses(&stage.before("/dev/vg/data", &[]), "lvs does not know");
    let state = "Outdated";
    refuses(
        &stage.run("fence-peer", "/dev/vg/data", state, &[]),
        "is for",
    );
    refuses(&stage.before("/dev/vg/data /dev/sda", &[]), "one volume");
    refuses(&stage.before("", &[]), "one volume");
    refuses(&stage.before("/dev/vg/data", &["-p", "x"]), "-p wants");
    refuses(&stage.before("/dev/vg/data", &["-s", "/"]), "-s wants");
    assert_eq!(stage.calls(), [""; 0]);
}
