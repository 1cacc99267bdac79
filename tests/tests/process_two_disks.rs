//! Two Primaries and their disks: taken away, failing, compared and growing while clients of both
//! nodes write; and nodes that leave in order.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rbd_tests::faultfs::{Effect, Fault, On, Opening};
use rbd_tests::process::{Meta, Setup, Two, wait_until};
use rustix::io::Errno;

/// A fence handler that takes note of having been called.
const NOTES: &str = "touch $RBD_RUN_DIR/fenced; exit 1";

/// One that keeps the peer from being promoted with what is on its disk, and lets it go on.
const BARS: &str = "exit 4";

/// What nobody must have written in a test in which nobody is to be fenced.
fn marks_of_fencing(two: &Two) -> [PathBuf; 2] {
    [&two.pair.alpha, &two.pair.beta].map(|node| node.run_directory().join("fenced"))
}

fn assert_nobody_was_fenced(two: &Two) {
    for mark in marks_of_fencing(two) {
        assert!(!mark.exists(), "{}", mark.display());
    }
}

#[test]
fn either_disk_is_detached_and_attached_and_no_client_notices() {
    let mut two = Two::new(Setup::default(), BARS);
    let (one, other) = two.quarrel();
    for node in ["beta", "alpha", "beta"] {
        one.let_work(300);
        other.let_work(300);
        two.pair.node(node).ok("detach");
        assert_eq!(two.pair.node(node).status().disk(), "Diskless");
        one.let_work(300);
        other.let_work(300);
        two.pair.node(node).ok("attach");
        two.pair.wait_in_sync();
    }
    one.stop();
    other.stop();
    two.finish();
}

#[test]
fn a_disk_fails_under_either_and_no_client_notices() {
    let name = "a_disk_fails_under_either_and_no_client_notices";
    let Some(setup) = Setup::default().faulty(name, Opening::Direct) else {
        return;
    };
    let mut two = Two::new(setup, BARS);
    for node in ["alpha", "beta"] {
        let (one, other) = two.quarrel();
        one.let_work(200);
        other.let_work(200);
        let disks = two.pair.node(node).disks().clone();
        disks.set(Fault::new(On::Write, Effect::Error(Errno::IO)).after(20));
        let broken = two.pair.node(node);
        broken.wait_for("a failed disk", |status| status.disk() == "Diskless");
        one.let_work(300);
        other.let_work(300);
        disks.clear();
        two.pair.node(node).ok("attach");
        two.pair.wait_in_sync();
        one.let_work(100);
        other.let_work(100);
        one.stop();
        other.stop();
    }
    two.finish();
}

#[test]
fn a_verify_finds_what_has_changed_and_nothing_of_what_both_write() {
    let setup = Setup::default().net("    verify-alg sha256;\n");
    let mut two = Two::new(setup, NOTES);
    let (one, other) = two.quarrel();
    for node in ["alpha", "beta"] {
        one.let_work(200);
        other.let_work(200);
        two.pair.node(node).ok("verify");
        two.pair.node(node).wait_for_log(" 0 blocks out of sync");
    }
    one.stop();
    other.stop();
    // What nobody has written since.
    let path = two.pair.beta.disk(0);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.expect("the backing file");
    let mut byte = [0];
    let at = 8 << 20;
    file.read_exact_at(&mut byte, at).expect("a read");
    file.write_all_at(&[!byte[0]], at).expect("a write");
    two.pair.alpha.ok("verify");
    two.pair.alpha.wait_for_log(" 1 blocks out of sync");
    assert_eq!(two.pair.alpha.status().out_of_sync(), 4096);
    file.write_all_at(&byte, at).expect("a write");
    assert_nobody_was_fenced(&two);
    two.finish();
}

#[test]
fn a_volume_grows_while_both_write() {
    let setup = Setup::default().volumes(&[Meta::External]);
    let mut two = Two::new(setup, NOTES);
    let (one, other) = two.quarrel();
    one.let_work(200);
    other.let_work(200);
    let size = 48 << 20;
    for node in [&two.pair.alpha, &two.pair.beta] {
        let disk = OpenOptions::new().write(true).open(node.disk(0));
        let disk = disk.expect("the backing file");
        disk.set_len(size).expect("it grows");
    }
    two.pair.beta.ok("resize");
    for node in [&two.pair.alpha, &two.pair.beta] {
        node.wait_for("the new size", |status| status.size() == size);
    }
    one.let_work(200);
    other.let_work(200);
    one.stop();
    other.stop();
    two.pair.wait_in_sync();
    assert_nobody_was_fenced(&two);
    two.finish();
}

#[test]
fn either_leaves_in_order_and_nobody_is_fenced() {
    let mut two = Two::new(Setup::default(), NOTES);
    for (leaving, staying) in [("beta", "alpha"), ("alpha", "beta")] {
        let load = two.load(staying, 0..1024);
        let leaver = two.load(leaving, 0..1024);
        load.let_work(200);
        leaver.let_work(200);
        // Its clients go first: a resource in use does not go down.
        two.pair.node(leaving).refused("down", 11);
        leaver.stop();
        two.pair
            .node(leaving)
            .wait_for("no clients", |status| status.open_count() == 0);
        two.pair.node(leaving).ok("down");
        load.let_work(200);
        assert_eq!(two.pair.node(staying).status().peer_disk(), "Outdated");
        two.pair.node(leaving).ok("up");
        two.pair.wait_in_sync();
        two.promote_both();
        // A daemon that is told to end, with clients.
        let leaver = two.load(leaving, 0..1024);
        leaver.let_work(200);
        two.pair.node(leaving).stop();
        assert!(!leaver.join().failures.is_empty());
        load.let_work(200);
        two.pair.node(leaving).start();
        two.pair.wait_in_sync();
        two.record.settle();
        two.promote_both();
        load.stop();
    }
    assert_nobody_was_fenced(&two);
    two.finish();
}

#[test]
fn what_a_fence_left_behind_is_gone_when_both_are_in_sync() {
    let two = Two::new(
        Setup::default().proxied(),
        "echo > $RBD_RUN_DIR/fenced; exit 7",
    );
    two.pair.beta.set_script("fence", "exit 1");
    two.pair.cut();
    let mark = marks_of_fencing(&two)[0].clone();
    wait_until("the fence handler", || {
        rbd_tests::process::unless(mark.exists(), || "it has not run".into())
    });
    two.pair
        .alpha
        .wait_for("I/O that goes on", |status| !status.is_suspended());
    drop(fs::remove_file(mark));
    // The one that was fenced in name only stays frozen, and is demoted by force.
    two.pair
        .beta
        .wait_for("frozen I/O", |status| status.awaits_fencing());
    let mut client = two.pair.alpha.open();
    client.write_durably(0, &[7; 4096]).expect("it is written");
    client.disconnect().expect("an orderly end");
    two.pair.mend();
    two.pair.beta.ok("secondary --force");
    two.pair.wait_in_sync();
    two.pair.assert_equal();
}
