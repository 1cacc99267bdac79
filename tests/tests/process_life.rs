//! Nodes come, go, crash and freeze while a client writes; afterwards both hold the same, and
//! nothing that was answered is lost.

use std::fs;
use std::thread;
use std::time::Duration;

use rbd_tests::check::Ledger;
use rbd_tests::process::{Chance, LoadOptions, Pair, Setup};

#[test]
fn the_first_sync_copies_everything() {
    let mut pair = Pair::new(Setup::default());
    pair.bring_up();
    assert_eq!(pair.alpha.status().disk(), "Inconsistent");
    pair.alpha.ok("primary --force");
    pair.wait_in_sync();
    let beta = pair.beta.status();
    assert!(beta.received() >= beta.size(), "{}", beta.text());
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn the_first_sync_is_skipped_where_both_disks_are_declared_equal() {
    let mut pair = Pair::new(Setup::default());
    fs::copy(pair.alpha.disk(0), pair.beta.disk(0)).expect("a copy");
    pair.bring_up();
    let skip = ["new-current-uuid", "--clear-bitmap", "r0/0"];
    let output = pair.alpha.rbdadm(&skip);
    assert_eq!(output.code, Some(0), "{}", output.text());
    pair.wait_in_sync();
    let beta = pair.beta.status();
    assert!(beta.received() < SMALL, "{}", beta.text());
    pair.alpha.ok("primary");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(500);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn clients_write_and_read_right_data_during_the_first_sync() {
    let mut pair = Pair::new(Setup::default().sized(64 << 20));
    pair.bring_up();
    pair.alpha.ok("primary --force");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(1000);
    pair.wait_in_sync();
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn after_a_disconnect_only_the_difference_travels() {
    let pair = Pair::primary(Setup::default());
    let before = pair.beta.status().received();
    pair.alpha.ok("disconnect");
    let mut client = pair.alpha.open();
    for at in [0, 5 << 20, 17 << 20, 30 << 20] {
        client.write(at, &[9; 64 << 10]).expect("a write");
    }
    pair.alpha.ok("connect");
    pair.wait_in_sync();
    let travelled = pair.beta.status().received() - before;
    assert!(travelled >= 4 * (64 << 10), "{travelled} bytes travelled");
    assert!(travelled < SMALL, "{travelled} bytes travelled");
    drop(client);
    stop_and_compare(pair);
}

#[test]
fn clients_do_not_notice_that_the_secondary_is_killed_and_returns() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    for _ in 0..2 {
        load.let_work(300);
        pair.beta.kill();
        load.let_work(300);
        pair.beta.start();
        pair.beta.ok("up");
        pair.wait_in_sync();
    }
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn clients_do_not_notice_an_orderly_restart_of_the_secondary() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    pair.beta.stop();
    load.let_work(300);
    pair.beta.start();
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn what_was_answered_survives_the_primary_s_death_on_the_other_node() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(1000);
    pair.alpha.kill();
    let outcome = load.join(&mut pair.ledger);
    assert!(!outcome.failures.is_empty(), "nobody noticed");
    pair.beta.wait_for("alone", |status| !status.is_connected());
    pair.beta.ok("primary");
    pair.verify("beta");
    let load = pair.load("beta", LoadOptions::default());
    load.let_work(300);
    pair.alpha.start();
    pair.alpha.ok("up");
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    assert_eq!(pair.alpha.status().role(), "Secondary");
    pair.finish();
}

#[test]
fn what_was_answered_survives_the_death_of_both() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(1000);
    pair.beta.kill();
    pair.alpha.kill();
    drop(load.join(&mut pair.ledger));
    pair.beta.start();
    pair.alpha.start();
    pair.wait_in_sync();
    pair.beta.ok("primary");
    pair.verify("beta");
    pair.finish();
}

#[test]
fn a_primary_that_dies_and_returns_at_once_loses_nothing() {
    let mut pair = Pair::primary(Setup::default());
    for seed in 0..3 {
        let options = LoadOptions {
            seed,
            ..LoadOptions::default()
        };
        let load = pair.load("alpha", options);
        load.let_work(300);
        pair.alpha.kill();
        drop(load.join(&mut pair.ledger));
        pair.alpha.start();
        pair.wait_in_sync();
        pair.alpha.ok("primary");
        pair.verify("alpha");
    }
    pair.finish();
}

#[test]
fn a_frozen_secondary_is_given_up_and_taken_back() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    pair.beta.pause();
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    load.let_work(300);
    pair.beta.resume();
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn a_primary_that_was_frozen_goes_on_where_it_was() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    pair.alpha.pause();
    pair.beta.wait_for("alone", |status| !status.is_connected());
    pair.alpha.resume();
    load.let_work(300);
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn the_primary_role_moves_back_and_forth() {
    let mut pair = Pair::primary(Setup::default());
    for (seed, (from, to)) in [("alpha", "beta"), ("beta", "alpha")]
        .repeat(2)
        .into_iter()
        .enumerate()
    {
        let options = LoadOptions {
            seed: seed as u64,
            ..LoadOptions::default()
        };
        let load = pair.load(from, options);
        load.let_work(200);
        load.stop(&mut pair.ledger).assert_undisturbed();
        pair.demote(from);
        pair.node(to).ok("primary");
        pair.verify(to);
    }
    pair.finish();
}

#[test]
fn a_primary_stopped_under_load_ends_well_and_loses_nothing() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(500);
    pair.alpha.stop();
    drop(load.join(&mut pair.ledger));
    pair.alpha.start();
    pair.wait_in_sync();
    pair.beta.ok("primary");
    pair.verify("beta");
    pair.finish();
}

#[test]
fn a_resync_interrupted_again_and_again_ends_with_equal_disks() {
    let mut pair = Pair::primary(Setup::default().sized(96 << 20));
    let mut chance = Chance::new(Chance::seed());
    for round in 0..6 {
        let options = LoadOptions {
            seed: round,
            ..LoadOptions::default()
        };
        let load = pair.load("alpha", options);
        pair.alpha.ok("disconnect");
        load.let_work(300);
        pair.alpha.ok("connect");
        pair.alpha
            .wait_for("connected", |status| status.is_connected());
        thread::sleep(Duration::from_millis(chance.below(100)));
        if round % 2 == 0 {
            pair.beta.kill();
            load.let_work(50);
            pair.beta.start();
            load.let_work(50);
            load.stop(&mut pair.ledger).assert_undisturbed();
        } else {
            pair.alpha.kill();
            drop(load.join(&mut pair.ledger));
            pair.alpha.start();
            pair.promote("alpha");
        }
        pair.verify("alpha");
    }
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn a_resource_taken_down_and_up_again_is_in_sync_at_once() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.demote("alpha");
    for node in [&pair.alpha, &pair.beta] {
        node.ok("down");
        node.ok("down");
    }
    for node in [&pair.alpha, &pair.beta] {
        node.ok("up");
        node.ok("up");
    }
    pair.wait_in_sync();
    let received = pair.alpha.status().received() + pair.beta.status().received();
    assert!(received < SMALL, "{received} bytes travelled for nothing");
    pair.finish();
}

#[test]
fn what_was_written_alone_is_there_after_the_peer_comes_for_the_first_time() {
    let mut pair = Pair::new(Setup::default());
    pair.alpha.start();
    pair.alpha.ok("create-md");
    pair.alpha.ok("up");
    pair.alpha.ok("primary --force");
    pair.size_ledger();
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(500);
    pair.beta.start();
    pair.beta.ok("create-md");
    pair.beta.ok("up");
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn a_replaced_disk_is_filled_again() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    pair.beta.ok("down");
    let size = fs::metadata(pair.beta.disk(0)).expect("a disk").len();
    let other = Ledger::initial_image(Chance::seed(), size);
    fs::write(pair.beta.disk(0), other).expect("a new disk");
    pair.beta.ok("create-md");
    pair.beta.ok("up");
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn a_command_right_after_a_restart_waits_until_the_resource_is_up_again() {
    let mut pair = Pair::synced(Setup::default());
    for _ in 0..5 {
        pair.alpha.kill();
        pair.alpha.start();
        pair.alpha.ok("connect");
    }
    for _ in 0..5 {
        pair.alpha.kill();
        pair.alpha.start();
        assert_eq!(pair.alpha.status().role(), "Secondary");
    }
    pair.wait_in_sync();
    pair.finish();
}

/// For what the ledger knows nothing of.
fn stop_and_compare(mut pair: Pair) {
    for node in pair.nodes() {
        node.stop();
    }
    pair.assert_equal();
}

/// Far less than a volume, more than what was written in these tests while the peer was away.
const SMALL: u64 = 2 << 20;
