//! Disks that are taken away from running daemons and given back, while clients work.

use std::process::{Command, Stdio};
use std::time::Duration;

use rbd_tests::faultfs::{Effect, Fault, On, Opening};
use rbd_tests::nbd_client::{EIO, Error};
use rbd_tests::process::{LoadOptions, Pair, Setup, lacks, unless, wait_until};
use rustix::io::Errno;

#[test]
fn clients_do_not_notice_that_the_secondarys_disk_is_taken_away_and_given_back() {
    let mut pair = Pair::primary(Setup::default());
    let options = LoadOptions {
        pause: Duration::from_millis(1),
        ..LoadOptions::default()
    };
    let load = pair.load("alpha", options);
    for verb in ["attach", "adjust"] {
        load.let_work(100);
        let before = pair.beta.status().received();
        pair.beta.ok("detach");
        assert_eq!(pair.beta.status().disk(), "Diskless");
        load.let_work(100);
        pair.beta.ok(verb);
        pair.wait_in_sync();
        let all = pair.data_size();
        let copied = pair.beta.status().received() - before;
        assert!(copied < all, "{copied} of {all} bytes were copied");
    }
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_disk_that_hangs_is_let_go_although_a_client_asks_for_its_holes() {
    let name = "a_disk_that_hangs_is_let_go_although_a_client_asks_for_its_holes";
    if lacks(name, &["qemu-img"]) {
        return;
    }
    let setup = Setup::default().faulty(name, Opening::Direct);
    let Some(mut pair) = setup.map(Pair::primary) else {
        return;
    };
    pair.alpha
        .reconfigure("resource r0 {", "resource r0 { disk { disk-timeout 50; }");
    pair.alpha.ok("adjust");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    let disks = pair.alpha.disks().clone();
    let fault = disks.set(Fault::new(On::Any, Effect::Hang));
    wait_until("something hangs", || {
        unless(disks.hits(fault) > 0, || pair.alpha.log_end())
    });
    let mut map = Command::new("qemu-img");
    map.args(["map", "-f", "raw", &pair.alpha.uri(0)])
        .stdout(Stdio::null());
    let mut asking = map.spawn().expect("qemu-img starts");
    pair.alpha
        .wait_for("diskless", |status| status.disk() == "Diskless");
    load.let_work(100);
    assert!(asking.wait().expect("it ends").success());
    disks.clear();
    disks.release();
    wait_until("the disk is taken again", || {
        let up = pair.alpha.verb("up");
        unless(up.code == Some(0), || up.text())
    });
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn clients_do_not_notice_that_the_primarys_disk_is_taken_away_and_given_back() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    for verb in ["attach", "adjust", "up"] {
        load.let_work(100);
        pair.alpha.ok("detach");
        assert_eq!(pair.alpha.status().disk(), "Diskless");
        load.let_work(200);
        let before = to_copy(&pair.alpha.log()).len();
        pair.alpha.ok(verb);
        pair.wait_in_sync();
        // What clients read meanwhile comes from the peer as well: only the log tells it apart.
        let all = pair.data_size();
        let copied = || to_copy(&pair.alpha.log())[before..].iter().sum::<u64>();
        wait_until("word of the resync", || {
            unless(copied() > 0, || pair.alpha.log_end())
        });
        let copied = copied();
        assert!(copied < all, "{copied} of {all} bytes were copied");
    }
    // Other data than clients have seen is not taken, and costs them nothing.
    pair.alpha.ok("detach");
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    // Both are asked for a disk that clients use and nobody else has.
    let text = pair.beta.refused("detach", 17);
    assert!(text.contains("Need access to UpToDate data"), "{text}");
    pair.demote("alpha");
    pair.alpha.ok("attach");
    pair.wait_in_sync();
    pair.promote("alpha");
    pair.verify("alpha");
    pair.finish();
}

/// How much each resync was to copy to this node, from its log.
fn to_copy(log: &str) -> Vec<u64> {
    let begun = log
        .lines()
        .filter_map(|line| line.split_once("resync begins: "));
    let received = begun.filter_map(|(_, rest)| rest.split_once(" bytes to receive"));
    received
        .map(|(bytes, _)| bytes.parse().expect("a number of bytes"))
        .collect()
}

#[test]
fn a_node_without_its_disk_can_be_promoted_and_serves_what_its_peer_has() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.demote("alpha");
    pair.beta.ok("detach");
    pair.promote("beta");
    pair.verify("beta");
    let load = pair.load("beta", LoadOptions::default());
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.demote("beta");
    pair.promote("alpha");
    pair.verify("alpha");
    pair.beta.ok("attach");
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn the_last_copy_in_use_is_taken_away_only_by_force() {
    let pair = Pair::primary(Setup::default());
    pair.beta.ok("down");
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    let text = pair.alpha.refused("detach", 17);
    assert!(text.contains("rbdadm detach --force r0/0"), "{text}");
    assert_eq!(pair.alpha.status().disk(), "UpToDate");
    let mut client = pair.alpha.open();
    pair.alpha.ok("detach --force");
    let read = client.read(0, 4096);
    assert!(matches!(read, Err(Error::Request(EIO))), "{read:?}");
}

#[test]
fn a_disk_that_hangs_is_let_go_by_force_and_clients_go_on() {
    let name = "a_disk_that_hangs_is_let_go_by_force_and_clients_go_on";
    let Some(mut pair) = Setup::default()
        .faulty(name, Opening::Direct)
        .map(Pair::primary)
    else {
        return;
    };
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    let disks = pair.alpha.disks().clone();
    disks.set(Fault::new(On::Any, Effect::Hang));
    wait_until("something hangs", || {
        unless(disks.under_way() > 0, || "nothing".to_owned())
    });
    pair.alpha.ok("detach --force");
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.demote("alpha");
    // What still hangs would come to the disk later: it is not taken before that has ended.
    let output = pair.alpha.verb("attach");
    assert_ne!(output.code, Some(0), "{}", output.text());
    disks.clear();
    disks.release();
    wait_until("the old operations have ended", || {
        unless(pair.alpha.verb("attach").code == Some(0), || {
            "still in use".to_owned()
        })
    });
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    pair.verify("alpha");
    pair.finish_without_power();
}

#[test]
fn a_disk_that_could_not_be_told_that_clients_went_on_is_behind_all_the_same() {
    let name = "a_disk_that_could_not_be_told_that_clients_went_on_is_behind_all_the_same";
    let Some(mut pair) = Setup::default()
        .faulty(name, Opening::Direct)
        .map(Pair::primary)
    else {
        return;
    };
    let mute = Fault::new(On::Write, Effect::Error(Errno::IO));
    let mute = mute.within(pair.data_size()..u64::MAX);
    let mute = pair.alpha.disks().set(mute);
    pair.alpha.ok("detach --force");
    let note = pair.alpha.state_directory().join("left-behind/r0.0");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    assert!(pair.alpha.disks().hits(mute) > 0 && note.exists());
    pair.alpha.kill();
    drop(load.join(&mut pair.ledger));
    pair.beta.kill();
    pair.alpha.disks().clear();
    // It has nobody to ask, and nothing on the disk says so.
    pair.alpha.start();
    pair.alpha.ok("up");
    pair.alpha
        .wait_for_log("clients have gone on without this disk");
    let status = pair.alpha.status();
    assert_eq!(status.disk(), "Outdated", "{}", status.text());
    pair.alpha.refused("primary", 17);
    wait_until("the disk says so itself", || {
        unless(!note.exists(), || note.display().to_string())
    });
    pair.beta.start();
    pair.beta.ok("up");
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    pair.verify("alpha");
    pair.finish_without_power();
}
