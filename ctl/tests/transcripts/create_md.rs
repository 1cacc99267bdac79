//! `create-md` and its kin on real files, asked or not.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::stage::{Stage, is_blank, outcome};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[test]
fn fresh_metadata_is_created_without_a_question_and_can_be_shown() {
    let stage = Stage::new();
    let created = stage.run("create-md r0").expect_code(0);
    assert!(
        created
            .out
            .ends_with("New rbd meta data block successfully created.\n"),
        "{created:?}"
    );
    let shown = stage.run("dump-md r0").expect_code(0);
    assert!(
        shown.out.contains("\nresource \"r0\";\nnode \"alpha\";\n"),
        "{shown:?}"
    );
    assert!(shown.out.contains("\nmax-peers 1;\n"), "{shown:?}");
}

#[test]
fn every_disk_gets_another_random_id() {
    let stage = Stage::new();
    let id = || {
        stage.run("create-md r0 --force").expect_code(0);
        let shown = stage.run("dump-md r0").expect_code(0).out;
        let line = shown.lines().find(|line| line.starts_with("device-uuid "));
        line.unwrap().to_owned()
    };
    assert_ne!(id(), id());
}

#[test]
fn without_a_terminal_existing_metadata_is_kept_unless_forced() {
    let stage = Stage::new();
    stage.run("create-md r0").expect_code(0);
    let before = std::fs::read(stage.path("r0")).unwrap();
    let refused = stage.run("create-md r0").expect_code(10);
    assert!(
        refused.err.contains("rbd metadata of this very volume"),
        "{refused:?}"
    );
    assert!(refused.err.contains("nothing was written"), "{refused:?}");
    assert_eq!(refused.out, "");
    assert!(std::fs::read(stage.path("r0")).unwrap() == before);
    stage.run("create-md --force r0").expect_code(0);
    assert!(std::fs::read(stage.path("r0")).unwrap() != before);
}

#[test]
fn yes_from_a_pipe_is_not_taken_for_an_answer() {
    let stage = Stage::new();
    stage.run("create-md r0").expect_code(0);
    let mut command = stage.command("create-md r0");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take().unwrap().write_all(b"yes\n"));
    outcome(child.wait_with_output().unwrap()).expect_code(10);
}

#[test]
fn on_a_terminal_the_question_decides() {
    for (typed, code) in [("no\n", 10), ("y\n", 10), ("yes\n", 0)] {
        let stage = Stage::new();
        stage.run("create-md r0").expect_code(0);
        let before = std::fs::read(stage.path("r0")).unwrap();
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new())
            .unwrap()
            .into_string()
            .unwrap();
        let terminal = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        let mut child = stage
            .command("create-md r0")
            .stdin(terminal)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        rustix::io::write(&controller, typed.as_bytes()).unwrap();
        let mut asked = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut asked)
            .unwrap();
        assert_eq!(
            child.wait().unwrap().code(),
            Some(code),
            "{typed:?}: {asked}"
        );
        assert!(
            asked.contains("[need to type 'yes' to confirm] "),
            "{asked}"
        );
        let changed = std::fs::read(stage.path("r0")).unwrap() != before;
        assert_eq!(changed, code == 0, "{typed:?}");
    }
}

#[test]
fn a_missing_metadata_device_stops_only_its_own_volume() {
    let stage = Stage::new();
    let file = std::fs::File::create(stage.path("shared-meta")).unwrap();
    file.set_len(256 << 20).unwrap();
    let outcome = stage.run("create-md r1").expect_code(20);
    assert!(
        outcome.err.contains("never creates a backing file"),
        "{outcome:?}"
    );
    assert!(outcome.out.contains("r1/1: "), "{outcome:?}");
    assert!(!stage.path("meta").exists());
    assert!(
        is_blank(&stage.path("r1-1")),
        "external metadata leaves the data alone"
    );
    stage.run("dump-md r1/1").expect_code(0);
}

#[test]
fn wiping_asks_too_and_leaves_nothing_to_show() {
    let stage = Stage::new();
    stage.run("wipe-md r0 --force").expect_code(10);
    stage.run("create-md r0").expect_code(0);
    stage.run("wipe-md r0").expect_code(10);
    stage.run("dump-md r0").expect_code(0);
    stage.run("wipe-md r0 --force").expect_code(0);
    let gone = stage.run("dump-md r0").expect_code(10);
    assert!(gone.err.contains("no metadata"), "{gone:?}");
}

#[test]
fn peers_beyond_what_metadata_can_hold_are_a_usage_error() {
    let stage = Stage::new();
    for number in ["0", "32", "many"] {
        stage
            .run(&format!("create-md r0 --max-peers {number}"))
            .expect_code(1);
    }
    assert!(is_blank(&stage.path("r0")));
}
