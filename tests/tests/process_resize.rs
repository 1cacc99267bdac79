//! Disks of different sizes, and volumes that grow under real daemons while a client writes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rbd_tests::process::{Chance, LoadOptions, Meta, Pair, Setup, run};

#[test]
fn two_disks_of_different_sizes_are_used_as_far_as_both_go() {
    let setup = Setup {
        disk_bytes: [32 * MIB, 40 * MIB],
        ..Setup::default()
    };
    let mut pair = Pair::primary(setup);
    let size = pair.data_size();
    assert!(size < 32 * MIB, "{size}");
    assert_eq!(pair.beta.status().size(), size);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    pair.beta.kill();
    load.let_work(200);
    pair.beta.start();
    pair.beta.ok("up");
    pair.wait_in_sync();
    assert_eq!(pair.beta.status().size(), size);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_disk_smaller_than_what_is_in_use_is_refused_in_one_line() {
    let setup = Setup {
        disk_bytes: [40 * MIB, 32 * MIB],
        ..Setup::default()
    };
    let mut pair = Pair::new(setup);
    pair.alpha.start();
    pair.alpha.ok("create-md");
    pair.alpha.ok("up");
    pair.alpha.ok("primary --force");
    let size = pair.alpha.status().size();
    pair.beta.start();
    pair.beta.ok("create-md");
    pair.beta.ok("up");
    for (node, words) in [
        (&pair.alpha, "The peer's disk size is too small!"),
        (&pair.beta, "this node's disk is too small"),
    ] {
        let status = node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
        assert!(status.note().contains(words), "{}", status.note());
        assert!(
            status.note().contains(&size.to_string()),
            "{}",
            status.note()
        );
    }
    assert_eq!(pair.alpha.status().size(), size, "nothing is cut off");
}

#[test]
fn a_volume_grows_while_a_client_writes() {
    let mut pair = Pair::primary(external());
    let before = pair.data_size();
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    let output = pair.alpha.verb("resize");
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert!(
        output.text().contains("there is room for"),
        "{}",
        output.text()
    );
    enlarge(&pair.alpha.disk(0), 48 * MIB, 0xaa);
    let text = pair.alpha.refused("resize", 10);
    assert!(text.contains("beta has room for"), "{text}");
    enlarge(&pair.beta.disk(0), 52 * MIB, 0xbb);
    pair.alpha.ok("resize");
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("the new size", |status| status.size() == 48 * MIB);
    }
    pair.wait_in_sync();
    load.let_work(200);
    let mut client = pair.alpha.open();
    assert_eq!(client.size(), 48 * MIB);
    client
        .write_durably(before, &[1; 4096])
        .expect("it is written");
    client
        .write_durably(48 * MIB - 4096, &[2; 4096])
        .expect("it is written");
    client.disconnect().expect("an orderly end");
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    assert_equal_up_to(pair, 48 * MIB);
}

#[test]
fn what_does_not_fit_or_is_not_whole_does_not_grow() {
    let pair = Pair::primary(external());
    pair.beta.ok("down");
    enlarge(&pair.alpha.disk(0), 48 * MIB, 0xaa);
    enlarge(&pair.beta.disk(0), 48 * MIB, 0xbb);
    let text = pair.alpha.refused("resize", 11);
    assert!(text.contains("(-15)"), "{text}");
    pair.beta.ok("up");
    pair.wait_in_sync();
    let disk = pair.alpha.disk(0);
    let meta = pair.alpha.meta(Some(0));
    set_length(&meta, MIB);
    set_length(&disk, 1 << 40);
    let text = pair.alpha.refused("resize", 10);
    assert!(text.contains("(112) Meta device too small."), "{text}");
    set_length(&disk, 48 * MIB);
    let at = pair.alpha.status().size();
    assert_eq!(at, pair.data_size(), "nothing has changed");
    // From the other node, while this one is Primary.
    pair.beta.ok("resize");
    pair.alpha
        .wait_for("the new size", |status| status.size() == 48 * MIB);
    pair.wait_in_sync();
    pair.demote("alpha");
    pair.promote("beta");
    assert_eq!(pair.beta.open().size(), 48 * MIB);
    assert_equal_up_to(pair, 48 * MIB);
}

#[test]
fn a_daemon_killed_while_the_volume_grows_costs_nothing() {
    let mut pair = Pair::primary(external());
    let mut size = 32 * MIB;
    let mut chance = Chance::new(Chance::seed());
    for round in 0..ROUNDS {
        size += 4 * MIB;
        enlarge(&pair.alpha.disk(0), size, 0xaa);
        enlarge(&pair.beta.disk(0), size, 0xbb);
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(50);
        let primary_dies = round % 2 == 1;
        let victim = if primary_dies {
            &pair.alpha
        } else {
            &pair.beta
        };
        let (pid, pause) = (victim.pid().to_string(), chance.below(60));
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(pause));
            run("kill", &["-9", &pid])
        });
        let output = pair.alpha.verb("resize");
        killer.join().expect("the daemon is killed");
        println!("round {round}: after {pause} ms {:?}", output.code);
        if primary_dies {
            pair.alpha.kill();
            drop(load.join(&mut pair.ledger));
            pair.alpha.start();
            pair.alpha.ok("up");
            pair.wait_in_sync();
            pair.alpha.ok("primary");
        } else {
            pair.beta.kill();
            load.let_work(50);
            pair.beta.start();
            pair.beta.ok("up");
            pair.wait_in_sync();
            load.stop(&mut pair.ledger).assert_undisturbed();
        }
        assert_eq!(pair.alpha.status().size(), pair.beta.status().size());
        pair.verify("alpha");
    }
    pair.alpha.ok("resize");
    pair.alpha
        .wait_for("the new size", |status| status.size() == size);
    pair.wait_in_sync();
    assert_equal_up_to(pair, size);
}

fn external() -> Setup {
    Setup::default().volumes(&[Meta::External])
}

/// The disk grows, and holds this where it is new.
fn enlarge(disk: &Path, bytes: u64, content: u8) {
    let before = fs::metadata(disk).expect("a disk").len();
    set_length(disk, bytes);
    let file = OpenOptions::new().write(true).open(disk).expect("a disk");
    let new = usize::try_from(bytes - before).expect("a small disk");
    file.write_all_at(&vec![content; new], before)
        .expect("a disk");
}

fn set_length(disk: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(disk).expect("a disk");
    file.set_len(bytes).expect("a disk");
}

/// Both nodes end, and their disks are the same as far as the volume goes.
fn assert_equal_up_to(mut pair: Pair, bytes: u64) {
    for node in pair.nodes() {
        node.stop();
    }
    let length = usize::try_from(bytes).expect("a small disk");
    let [alpha, beta] = [&pair.alpha, &pair.beta].map(|node| {
        let content = fs::read(node.disk(0)).expect("a disk");
        content[..length].to_vec()
    });
    let differs = alpha
        .iter()
        .zip(&beta)
        .position(|(here, there)| here != there);
    assert_eq!(differs, None, "the first byte that differs");
}

const MIB: u64 = 1 << 20;
const ROUNDS: u32 = 8;
