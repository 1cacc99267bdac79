//! Two copies compared by real daemons: what was changed behind their backs is found, told and made
//! good, and nothing else is, whoever writes meanwhile and whatever happens to the link.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rbd_tests::faultfs::{Effect, Fault, On, Opening};
use rbd_tests::process::{LoadOptions, Node, Pair, Setup, unless, wait_until};
use rustix::io::Errno;

#[test]
fn what_has_changed_behind_a_daemons_back_is_found_told_and_repaired() {
    let mut pair = Pair::primary(verified(""));
    work(&mut pair, 300);
    flip(&pair.beta, BLOCK * 7 + 100);
    flip(&pair.beta, BLOCK * 2_000);
    flip(&pair.beta, BLOCK * 2_001 + 4_095);

    // Without a repair it is told and marked.
    pair.alpha.ok("verify");
    let found = ["out of sync: 28672+4096", "out of sync: 8192000+8192"];
    for text in found {
        pair.alpha.wait_for_log(text);
    }
    pair.alpha.wait_for_log("3 blocks out of sync");
    wait_for_handler(&pair.alpha, "r0 0");
    let status = pair.alpha.wait_for("its end", |status| status.is_in_sync());
    assert_eq!(status.out_of_sync(), 3 * BLOCK);
    let advice = pair.alpha.ok("explain").replace('\n', " ");
    assert!(advice.contains("differs from the copy on beta"), "{advice}");

    // With one it is made equal at once, and is found no more.
    pair.alpha.ok("verify --repair");
    pair.alpha.wait_for("repaired", |status| {
        status.is_in_sync() && status.out_of_sync() == 0
    });
    pair.wait_in_sync();
    pair.alpha.ok("verify");
    pair.alpha.wait_for_log(" 0 blocks out of sync");
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn without_a_primary_the_node_that_was_asked_keeps_its_data() {
    let mut pair = Pair::primary(verified(""));
    work(&mut pair, 200);
    pair.demote("alpha");
    flip(&pair.alpha, BLOCK * 3);
    pair.beta.ok("verify --repair");
    pair.beta.wait_for_log("1 blocks out of sync");
    wait_for_handler(&pair.beta, "r0 0");
    pair.beta.wait_for("repaired", |status| {
        status.is_in_sync() && status.out_of_sync() == 0
    });
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn beside_writers_nothing_is_found_and_they_do_not_notice() {
    let mut pair = Pair::primary(verified(""));
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    for round in 1..=3 {
        for node in [&pair.alpha, &pair.beta] {
            node.ok("verify");
            wait_until("the end of a verify", || {
                let ended = node.log().matches("verify done").count();
                unless(ended == round, || node.log_end())
            });
        }
    }
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    for node in [&pair.alpha, &pair.beta] {
        assert!(!node.log().contains("out of sync: "), "{}", node.log_end());
        assert_eq!(node.log().matches(" 0 blocks out of sync").count(), 3);
    }
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_verify_is_shown_outlives_its_links_and_goes_on_where_it_was_ended() {
    let mut pair = Pair::primary(verified("  disk {\n    c-max-rate 4M;\n  }\n").proxied());
    let last = pair.alpha.status().size() - BLOCK;
    flip(&pair.beta, last);

    pair.alpha.ok("verify");
    pair.alpha
        .wait_for("VerifyS", |status| status.replication() == "VerifyS");
    pair.beta
        .wait_for("VerifyT", |status| status.replication() == "VerifyT");
    let said = pair.alpha.ok("status");
    assert!(
        said.contains("replication:VerifyS peer-disk:UpToDate done:"),
        "{said}"
    );
    let said = pair.alpha.refused("verify", 11);
    assert!(said.contains("is being verified already"), "{said}");

    // The link goes, then the peer's process.
    pair.cut();
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    pair.mend();
    pair.alpha
        .wait_for("VerifyS", |status| status.replication() == "VerifyS");
    pair.beta.kill();
    pair.beta.start();
    pair.beta.ok("up");
    pair.alpha
        .wait_for("VerifyS", |status| status.replication() == "VerifyS");

    let said = pair.alpha.verb("verify --abort").text();
    assert!(said.contains("the next one goes on there"), "{said}");
    pair.alpha.wait_for("its end", |status| status.is_in_sync());
    assert!(!pair.alpha.log().contains("verify done"));
    pair.alpha.ok("verify --repair");
    pair.alpha.wait_for_log("1 blocks out of sync");
    let log = pair.alpha.log();
    let begun: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("verify begins"))
        .collect();
    assert_eq!(begun.len(), 2);
    let whole = format!("verify begins: {} bytes", last + BLOCK);
    assert!(
        begun[0].contains(&whole) && !begun[1].contains(&whole),
        "{begun:?}"
    );
    pair.alpha.wait_for("repaired", |status| {
        status.is_in_sync() && status.out_of_sync() == 0
    });
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn a_verify_is_refused_where_it_makes_no_sense() {
    let pair = Pair::primary(Setup::default());
    let said = pair.alpha.refused("verify", 11);
    assert!(said.contains("verify-alg"), "{said}");
    pair.alpha
        .reconfigure("protocol C;", "protocol C;\n    verify-alg sha256;");
    pair.alpha.ok("adjust");
    let said = pair.alpha.refused("verify --start 1G", 10);
    assert!(said.contains("nothing between start and stop"), "{said}");
    pair.beta.ok("down");
    let said = pair.alpha.refused("verify", 11);
    assert!(said.contains("not connected"), "{said}");
}

#[test]
fn what_a_verify_cannot_read_is_written_anew_and_compared_or_told_and_the_disk_stays() {
    let name = "what_a_verify_cannot_read_is_written_anew_and_compared_or_told_and_the_disk_stays";
    let Some(setup) = verified("").faulty(name, Opening::Direct) else {
        return;
    };
    let mut pair = Pair::primary(setup);
    work(&mut pair, 200);
    let unreadable = || Fault::new(On::Read, Effect::Error(Errno::IO)).within(0..BLOCK);
    for whose in ["alpha", "beta"] {
        // The comparison's read fails, and then the block's own: it comes from the other node.
        flip(pair.node(whose), 9);
        let faults = [0; 2].map(|_| pair.node(whose).disks().set(unreadable().once()));
        pair.alpha.ok("verify");
        pair.node(whose).wait_for_log("is written anew");
        pair.alpha.wait_for("its end", |status| status.is_in_sync());
        let hits = faults.map(|fault| pair.node(whose).disks().hits(fault));
        assert_eq!(hits, [1, 1]);
        let log = pair.alpha.log();
        assert!(!log.contains("out of sync: "), "{}", pair.alpha.log_end());
    }
    wait_until("word of both ends", || {
        let ends = ends_without_a_finding(&pair.alpha);
        unless(ends == 2, || pair.alpha.log_end())
    });

    // What cannot be read even then is told, everything else is compared.
    pair.beta.disks().set(unreadable());
    flip(&pair.beta, BLOCK * 2_000);
    pair.alpha.ok("verify");
    pair.alpha.wait_for_log("the peer's disk cannot read it");
    pair.alpha.wait_for_log("out of sync: 8192000+4096");
    pair.alpha.wait_for_log(" bytes cannot be read");
    pair.alpha.wait_for_log("1 blocks out of sync, ");
    assert_eq!(pair.beta.status().disk(), "UpToDate");
    pair.beta.disks().clear();
    pair.alpha.ok("verify --repair");
    pair.alpha.wait_for("repaired", |status| {
        status.is_in_sync() && status.out_of_sync() == 0
    });
    pair.wait_in_sync();
    pair.verify("alpha");
    pair.finish_without_power();
}

/// How many verifies have compared everything and found nothing.
fn ends_without_a_finding(node: &Node) -> usize {
    let log = node.log();
    let ends = log.lines().filter(|line| line.contains("verify done"));
    let is_clean = |line: &&str| line.contains(" 0 blocks out of sync") && !line.contains("read");
    ends.filter(is_clean).count()
}

/// Copies may be compared, and the handler writes down what it is told.
fn verified(more: &str) -> Setup {
    let mut setup = Setup::default().net("    verify-alg sha256;\n");
    setup.more.push_str(
        "  handlers {\n    out-of-sync \"echo $DRBD_RESOURCE $DRBD_VOLUME >> \
         $RBD_RUN_DIR/told\";\n  }\n",
    );
    setup.more.push_str(more);
    setup
}

fn work(pair: &mut Pair, count: u64) {
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(count);
    load.stop(&mut pair.ledger).assert_undisturbed();
}

/// Flips every bit of a byte on the node's disk.
fn flip(node: &Node, at: u64) {
    let path = node.disk(0);
    let file = File::options().read(true).write(true).open(&path);
    let file = file.expect("the backing file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a read");
    file.write_all_at(&[!byte[0]], at).expect("a write");
    file.sync_all().expect("a flush");
}

fn wait_for_handler(node: &Node, words: &str) {
    let path = node.run_directory().join("told");
    wait_until("the out-of-sync handler", || {
        let told = std::fs::read_to_string(&path).unwrap_or_default();
        unless(told.lines().any(|line| line == words), || told.clone())
    });
}

const BLOCK: u64 = 4096;
