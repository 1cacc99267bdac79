//! Power cuts and disks that fail under real daemons: nothing that was flushed is lost, nothing
//! that was answered is lost while one node kept its power, no success is told that is none, and
//! the other node stays right.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rbd_tests::faultfs::{Effect, Fault, On, Opening};
use rbd_tests::nbd_client::{Client, EIO, ENOSPC, Error};
use rbd_tests::process::{LoadOptions, Node, Pair, Setup, wait_until};
use rustix::io::Errno;

#[test]
fn what_was_flushed_survives_the_power_of_both() {
    let name = "what_was_flushed_survives_the_power_of_both";
    for opening in [Opening::Buffered, Opening::Direct] {
        let Some(mut pair) = pair(name, opening) else {
            return;
        };
        for seed in 0..3 {
            slow_down(&mut pair, 3);
            let options = LoadOptions {
                seed,
                ..LoadOptions::default()
            };
            let load = pair.load("alpha", options);
            load.let_work(600);
            Node::cut_power(&mut pair.nodes(), seed);
            drop(load.join(&mut pair.ledger));
            pair.ledger.power_lost();
            pair.check_marks();
            slow_down(&mut pair, 0);
            restart(&mut pair.alpha);
            restart(&mut pair.beta);
            pair.wait_in_sync();
            pair.alpha.ok("primary");
            pair.verify("alpha");
        }
        pair.finish_without_power();
    }
}

#[test]
fn what_was_answered_survives_the_power_of_the_primary_on_the_other_node() {
    let name = "what_was_answered_survives_the_power_of_the_primary_on_the_other_node";
    let Some(mut pair) = pair(name, Opening::Direct) else {
        return;
    };
    slow_down(&mut pair, 2);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(600);
    Node::cut_power(&mut [&mut pair.alpha], 7);
    drop(load.join(&mut pair.ledger));
    pair.beta.wait_for("alone", |status| !status.is_connected());
    pair.beta.ok("primary");
    pair.verify("beta");
    let load = pair.load("beta", LoadOptions::default());
    load.let_work(300);
    restart(&mut pair.alpha);
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish_without_power();
}

#[test]
fn the_node_that_kept_its_power_wins_over_the_primary_that_did_not() {
    let name = "the_node_that_kept_its_power_wins_over_the_primary_that_did_not";
    let Some(mut pair) = pair(name, Opening::Buffered) else {
        return;
    };
    for seed in 0..3 {
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(400);
        Node::cut_power(&mut [&mut pair.alpha], seed);
        // Its last writes have reached the other node, which only its process can lose.
        if seed > 0 {
            pair.beta.kill();
        }
        drop(load.join(&mut pair.ledger));
        if seed > 0 {
            pair.check_marks();
            restart(&mut pair.beta);
        }
        restart(&mut pair.alpha);
        pair.wait_in_sync();
        pair.alpha.ok("primary");
        pair.verify("alpha");
    }
    pair.finish_without_power();
}

#[test]
fn clients_do_not_notice_that_the_secondary_loses_its_power() {
    let name = "clients_do_not_notice_that_the_secondary_loses_its_power";
    let Some(mut pair) = pair(name, Opening::Direct) else {
        return;
    };
    slow_down(&mut pair, 2);
    let load = pair.load("alpha", LoadOptions::default());
    for seed in 0..2 {
        load.let_work(300);
        Node::cut_power(&mut [&mut pair.beta], seed);
        load.let_work(100);
        restart(&mut pair.beta);
        pair.wait_in_sync();
    }
    load.stop(&mut pair.ledger).assert_undisturbed();
    // Only the other one has it now.
    Node::cut_power(&mut [&mut pair.alpha], 3);
    pair.beta.wait_for("alone", |status| !status.is_connected());
    pair.beta.ok("primary");
    pair.verify("beta");
    restart(&mut pair.alpha);
    pair.wait_in_sync();
    pair.finish_without_power();
}

#[test]
fn clients_do_not_notice_that_the_disk_of_the_secondary_fails() {
    let name = "clients_do_not_notice_that_the_disk_of_the_secondary_fails";
    let Some(mut pair) = pair(name, Opening::Buffered) else {
        return;
    };
    let options = LoadOptions {
        pause: Duration::from_millis(1),
        ..LoadOptions::default()
    };
    for failure in failures(&pair) {
        let load = pair.load("alpha", options);
        load.let_work(50);
        let fault = pair.beta.disks().set(failure.fault.clone());
        if failure.needs_cold_regions {
            // Its bits are written anew.
            drop(pair.beta.verb("down"));
            drop(pair.beta.verb("up"));
        }
        pair.alpha.wait_for("the peer has lost its disk", |status| {
            !status.is_connected() || ["Failed", "Diskless"].contains(&status.peer_disk())
        });
        load.let_work(100);
        assert!(pair.beta.disks().hits(fault) > 0, "{}", failure.what);
        assert!(pair.beta.is_alive(), "{}: beta has died", failure.what);
        pair.beta.disks().clear();
        pair.beta.ok("up");
        pair.wait_in_sync();
        load.stop(&mut pair.ledger).assert_undisturbed();
        println!("{}: clients saw nothing", failure.what);
    }
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn clients_do_not_notice_that_the_disk_of_the_primary_fails() {
    let name = "clients_do_not_notice_that_the_disk_of_the_primary_fails";
    let Some(mut pair) = pair(name, Opening::Buffered) else {
        return;
    };
    let mut all = failures(&pair);
    all.push(Failure {
        what: "EIO on reads",
        fault: error(On::Read, Errno::IO, 0..pair.data_size()),
        needs_cold_regions: false,
    });
    all.retain(|failure| !failure.needs_cold_regions);
    for (number, failure) in all.into_iter().enumerate() {
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(100);
        let fault = pair.alpha.disks().set(failure.fault.clone());
        pair.alpha
            .wait_for("diskless", |status| status.disk() == "Diskless");
        load.let_work(100);
        load.stop(&mut pair.ledger).assert_undisturbed();
        assert!(pair.alpha.disks().hits(fault) > 0, "{}", failure.what);
        assert!(pair.alpha.is_alive(), "{}: alpha has died", failure.what);
        let status = pair.alpha.status();
        assert_eq!(status.disk(), "Diskless", "{}", status.text());
        pair.verify("alpha");
        println!("{}: clients saw nothing", failure.what);
        // Given back under the Primary, it is filled and used again.
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(100);
        pair.alpha.disks().clear();
        pair.alpha.ok("attach");
        pair.wait_in_sync();
        load.let_work(100);
        load.stop(&mut pair.ledger).assert_undisturbed();
        pair.verify("alpha");
        pair.alpha.disks().set(failure.fault.clone());
        let load = pair.load("alpha", LoadOptions::default());
        pair.alpha
            .wait_for("diskless", |status| status.disk() == "Diskless");
        load.stop(&mut pair.ledger).assert_undisturbed();
        // Sometimes it is gone before anybody can ask it.
        if number % 2 == 0 {
            Node::cut_power(&mut [&mut pair.alpha], 1);
            pair.beta.wait_for("alone", |status| !status.is_connected());
        } else {
            pair.demote("alpha");
        }
        pair.beta.ok("primary");
        pair.verify("beta");
        let load = pair.load("beta", LoadOptions::default());
        load.let_work(100);
        pair.alpha.disks().clear();
        restart(&mut pair.alpha);
        pair.wait_in_sync();
        load.stop(&mut pair.ledger).assert_undisturbed();
        pair.demote("beta");
        pair.promote("alpha");
        pair.verify("alpha");
    }
    pair.finish_without_power();
}

#[test]
fn a_place_that_cannot_be_read_is_written_anew_from_the_other_node() {
    let name = "a_place_that_cannot_be_read_is_written_anew_from_the_other_node";
    let Some(mut pair) = pair(name, Opening::Buffered) else {
        return;
    };
    let (mut client, data) = write_first(&mut pair);
    client.flush().expect("a flush");
    // What the disk holds there now, nobody is to see.
    let disk = File::options().write(true).open(pair.alpha.disk(0));
    disk.and_then(|disk| disk.write_all_at(&[0xee; 4096], 0))
        .expect("a damaged disk");
    let once = error(On::Read, Errno::IO, 0..4096).once();
    let fault = pair.alpha.disks().set(once);
    let length = u32::try_from(data.len()).expect("a small write");
    for _ in 0..2 {
        let read = client.read(0, length).expect("the other node has it");
        assert!(read == data, "other data than was written");
    }
    assert_eq!(pair.alpha.disks().hits(fault), 1);
    let status = pair.alpha.status();
    assert_eq!(status.disk(), "UpToDate", "{}", status.text());
    pair.alpha.wait_for_log("is written anew");
    drop(client.disconnect());
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn a_failed_flush_is_made_good_by_the_other_node_and_not_by_a_later_one() {
    let name = "a_failed_flush_is_made_good_by_the_other_node_and_not_by_a_later_one";
    for is_mute in [false, true] {
        let Some(mut pair) = pair(name, Opening::Buffered) else {
            return;
        };
        let (mut client, _) = write_first(&mut pair);
        let once = error(On::Flush, Errno::IO, 0..u64::MAX).once();
        let fault = pair.alpha.disks().set(once);
        if is_mute {
            let metadata = error(On::Write, Errno::IO, pair.data_size()..u64::MAX);
            pair.alpha.disks().set(metadata);
        }
        let flushed = client.flush();
        assert!(pair.alpha.disks().hits(fault) == 1 && flushed.is_ok());
        let status = pair.alpha.status();
        assert_eq!(status.disk(), "Diskless", "{}", status.text());
        // Without the other node there is nothing that could be flushed.
        pair.beta.kill();
        assert!(client.flush().is_err(), "the second flush made it good");
        drop(client.disconnect());
        // The disk is taken again, and what its cache has lost comes from the other node.
        pair.demote("alpha");
        let note = pair.alpha.run_directory().join("lost-caches/r0.0");
        assert!(note.exists(), "{}", note.display());
        if is_mute {
            pair.alpha.kill(); // so nobody but the run directory knows
            pair.alpha.disks().clear();
        }
        restart(&mut pair.beta);
        restart(&mut pair.alpha);
        pair.wait_in_sync();
        assert!(!note.exists(), "{}", note.display());
        pair.alpha.stop();
        pair.beta.stop();
        // Beta's copy of it is good, and so must alpha's be, without the power its cache had.
        Node::cut_power(&mut [&mut pair.alpha], 0);
        pair.finish_without_power();
    }
}

#[test]
fn clients_do_not_notice_disks_that_write_slowly_and_read_by_halves() {
    let name = "clients_do_not_notice_disks_that_write_slowly_and_read_by_halves";
    let Some(mut pair) = pair(name, Opening::Direct) else {
        return;
    };
    let short = Fault::new(On::Read, Effect::Short);
    let faults = [&pair.alpha, &pair.beta].map(|node| node.disks().set(short.clone()));
    slow_down(&mut pair, 5);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(500);
    pair.beta.kill();
    restart(&mut pair.beta);
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    for (node, fault) in pair.nodes().into_iter().zip(faults) {
        assert!(node.disks().hits(fault) > 0, "{} did all", node.name());
    }
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn a_disk_that_hangs_and_goes_on_loses_nothing() {
    let name = "a_disk_that_hangs_and_goes_on_loses_nothing";
    let Some(mut pair) = pair(name, Opening::Direct) else {
        return;
    };
    for node in ["alpha", "beta"] {
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(100);
        let disks = pair.node(node).disks().clone();
        let fault = disks.set(Fault::new(On::Any, Effect::Hang));
        wait_until("something hangs", || {
            rbd_tests::process::unless(disks.under_way() > 0, || "nothing".to_owned())
        });
        disks.release();
        load.let_work(100);
        load.stop(&mut pair.ledger).assert_undisturbed();
        assert!(disks.hits(fault) > 0);
        pair.wait_in_sync();
    }
    // What hangs in a daemon that is killed comes to the disk after its death.
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    let disks = pair.alpha.disks().clone();
    disks.set(Fault::new(On::Write, Effect::Hang));
    wait_until("something hangs", || {
        rbd_tests::process::unless(disks.under_way() > 0, || "nothing".to_owned())
    });
    pair.alpha.kill();
    drop(load.join(&mut pair.ledger));
    restart(&mut pair.alpha);
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn a_disk_that_hangs_for_too_long_is_let_go_and_clients_go_on() {
    let name = "a_disk_that_hangs_for_too_long_is_let_go_and_clients_go_on";
    let Some(mut pair) = pair(name, Opening::Direct) else {
        return;
    };
    for node in pair.nodes() {
        node.reconfigure("resource r0 {", "resource r0 { disk { disk-timeout 10; }");
        node.ok("adjust");
    }
    for node in ["alpha", "beta"] {
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(100);
        let disks = pair.node(node).disks().clone();
        let fault = disks.set(Fault::new(On::Any, Effect::Hang));
        pair.node(node)
            .wait_for("diskless", |status| status.disk() == "Diskless");
        load.let_work(100);
        assert!(disks.hits(fault) > 0);
        // What still comes of it counts no more, and the disk is taken again.
        disks.clear();
        disks.release();
        wait_until("the disk is taken again", || {
            let up = pair.node(node).verb("up");
            rbd_tests::process::unless(up.code == Some(0), || up.text())
        });
        pair.wait_in_sync();
        load.stop(&mut pair.ledger).assert_undisturbed();
        pair.verify("alpha");
    }
    pair.finish_without_power();
}

#[test]
fn the_only_copy_goes_on_though_a_place_cannot_be_read_and_a_write_finds_no_space() {
    let name = "the_only_copy_goes_on_though_a_place_cannot_be_read_and_a_write_finds_no_space";
    let Some(pair) = pair(name, Opening::Buffered) else {
        return;
    };
    pair.beta.ok("down");
    let mut client = pair.alpha.open();
    client.write(0, &[1; 8192]).expect("a write");
    client.flush().expect("a flush");
    let unread = pair.alpha.disks().set(error(On::Read, Errno::IO, 0..4096));
    let full = error(On::Write, Errno::NOSPC, 1 << 20..(1 << 20) + 4096);
    let full = pair.alpha.disks().set(full);
    let is_error = |result: Result<(), Error>, number: u32| match result {
        Err(Error::Request(found)) => assert_eq!(found, number),
        other => panic!("{other:?}"),
    };
    is_error(client.read(0, 4096).map(drop), EIO);
    is_error(client.write(1 << 20, &[2; 4096]), ENOSPC);
    assert_eq!(client.read(4096, 4096).expect("the rest"), [1; 4096]);
    client.write(2 << 20, &[3; 4096]).expect("the rest");
    client.flush().expect("what was written is durable");
    let status = pair.alpha.status();
    assert_eq!(status.disk(), "UpToDate", "{}", status.text());
    assert!(pair.alpha.disks().hits(unread) > 0 && pair.alpha.disks().hits(full) > 0);
    drop(client.disconnect());
    pair.alpha.disks().clear();
    pair.beta.ok("up");
    pair.wait_in_sync();
}

#[test]
fn a_resync_copies_all_but_what_its_source_cannot_read() {
    let name = "a_resync_copies_all_but_what_its_source_cannot_read";
    let Some(mut pair) = pair(name, Opening::Buffered) else {
        return;
    };
    pair.beta.ok("down");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    load.stop(&mut pair.ledger).assert_undisturbed();
    let (mut client, _) = write_first(&mut pair);
    client.flush().expect("a flush");
    drop(client.disconnect());
    let bad = error(On::Read, Errno::IO, 0..4096);
    let fault = pair.alpha.disks().set(bad);
    pair.beta.ok("up");
    let status = pair
        .beta
        .wait_for("only the hole", |status| status.out_of_sync() == 4096);
    assert_eq!(status.disk(), "Inconsistent", "{}", status.text());
    assert_eq!(pair.alpha.status().disk(), "UpToDate");
    assert!(pair.alpha.disks().hits(fault) > 0);
    // It can be read again, as after it has been written.
    pair.alpha.disks().clear();
    pair.wait_in_sync();
    pair.finish_without_power();
}

/// A client at alpha, and what it has written at the beginning, durably soon.
fn write_first(pair: &mut Pair) -> (Client, Vec<u8>) {
    let mut shards = pair.ledger.take_shards();
    let data = shards[0].issue(0, 8, rbd_tests::check::Kind::Data);
    let mut client = pair.alpha.open();
    client.write(0, &data).expect("a write");
    shards[0].acknowledge_durable(0, 8, rbd_tests::check::Kind::Data);
    pair.ledger.put_back(shards);
    (client, data)
}

struct Failure {
    what: &'static str,
    fault: Fault,
    /// Only what is done at an attach surely meets it.
    needs_cold_regions: bool,
}

/// Ways for a disk to fail for good.
fn failures(pair: &Pair) -> Vec<Failure> {
    let data = pair.data_size();
    let failure = |what, fault| Failure {
        what,
        fault,
        needs_cold_regions: false,
    };
    vec![
        failure("EIO on writes", error(On::Write, Errno::IO, 0..data)),
        failure("EIO on flushes", error(On::Flush, Errno::IO, 0..u64::MAX)),
        failure("no space", error(On::Write, Errno::NOSPC, 0..data)),
        Failure {
            what: "EIO on metadata",
            fault: error(On::Write, Errno::IO, data..u64::MAX),
            needs_cold_regions: true,
        },
    ]
}

fn error(on: On, error: Errno, range: Range<u64>) -> Fault {
    Fault::new(on, Effect::Error(error)).within(range)
}

/// A pair in sync on faulty disks, alpha Primary.
fn pair(test: &str, opening: Opening) -> Option<Pair> {
    Setup::default().faulty(test, opening).map(Pair::primary)
}

/// Up again, whether the daemon has died or only the disk is gone.
fn restart(node: &mut Node) {
    if !node.is_started() {
        node.start();
    }
    node.ok("up");
}

/// Every write and flush takes up to so long.
fn slow_down(pair: &mut Pair, milliseconds: u64) {
    for node in pair.nodes() {
        node.disks()
            .set_latency(Duration::from_millis(milliseconds));
    }
}
