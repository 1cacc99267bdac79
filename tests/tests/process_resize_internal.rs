//! Volumes with metadata at the end of their disks, which are enlarged while they are used or while
//! they are not: the metadata moves, under real daemons while a client writes.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rbd_tests::process::{Chance, LoadOptions, Pair, Setup, Status, run};

#[test]
fn a_volume_with_internal_metadata_grows_while_a_client_writes() {
    let mut pair = Pair::primary(Setup::default());
    let before = pair.data_size();
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    for node in [&pair.alpha, &pair.beta] {
        enlarge(&node.disk(0), 32 * MIB + 8192, 0xcc);
    }
    let text = pair.alpha.refused("resize", 10);
    assert!(text.contains("must grow by"), "{text}");
    enlarge(&pair.alpha.disk(0), 48 * MIB, 0xaa);
    enlarge(&pair.beta.disk(0), 52 * MIB, 0xbb);
    pair.alpha.ok("resize");
    // The Primary shows it when the peer is a target.
    let grown = |status: &Status| status.size() > before + 15 * MIB;
    let [size, other] =
        [&pair.alpha, &pair.beta].map(|node| node.wait_for("the new size", grown).size());
    assert_eq!(size, other);
    pair.wait_in_sync();
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    for node in pair.nodes() {
        node.kill();
        node.start();
        node.ok("up");
    }
    pair.wait_in_sync();
    assert_eq!(pair.beta.status().size(), size);
    assert_equal_up_to(pair, size);
}

#[test]
fn a_disk_enlarged_while_it_was_not_in_use_is_attached_and_grows() {
    let mut pair = Pair::primary(Setup::default());
    let before = pair.data_size();
    for node in pair.nodes() {
        node.stop();
        enlarge(&node.disk(0), 48 * MIB, 0xaa);
        node.start();
        node.ok("up");
    }
    pair.wait_in_sync();
    assert_eq!(pair.alpha.status().size(), before);
    pair.alpha.ok("resize");
    pair.wait_in_sync();
    let size = pair.beta.status().size();
    assert!(size > before + 15 * MIB, "{size}");
    assert_equal_up_to(pair, size);
}

#[test]
fn a_daemon_killed_while_internal_metadata_moves_costs_nothing() {
    let mut pair = Pair::primary(Setup::default());
    let mut bytes = 32 * MIB;
    let mut chance = Chance::new(Chance::seed());
    for round in 0..ROUNDS {
        bytes += 4 * MIB;
        enlarge(&pair.alpha.disk(0), bytes, 0xaa);
        enlarge(&pair.beta.disk(0), bytes, 0xbb);
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
    pair.wait_in_sync();
    let size = pair.beta.status().size();
    assert!(size > bytes - MIB, "{size}");
    assert_equal_up_to(pair, size);
}

/// The disk grows, and holds this where it is new.
fn enlarge(disk: &Path, bytes: u64, content: u8) {
    let file = OpenOptions::new().write(true).open(disk).expect("a disk");
    let before = file.metadata().expect("a disk").len();
    file.set_len(bytes).expect("a disk");
    let new = usize::try_from(bytes - before).expect("a small disk");
    file.write_all_at(&vec![content; new], before)
        .expect("a disk");
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
