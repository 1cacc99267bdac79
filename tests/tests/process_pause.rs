//! A resync held back between real daemons: by either node, over lost links, under writes.

use rbd_tests::process::{LoadOptions, Meta, Pair, Setup, unless, wait_until};

/// A pair whose beta lacks much and is not given it.
fn behind() -> Pair {
    let mut setup = Setup::default().proxied();
    setup.more.push_str("  disk {\n    c-max-rate 1G;\n  }\n");
    let mut pair = Pair::primary(setup);
    pair.cut();
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    work(&mut pair);
    pair.alpha.ok("pause-sync");
    pair.mend();
    pair
}

fn work(pair: &mut Pair) {
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    load.stop(&mut pair.ledger).assert_undisturbed();
}

fn wait_paused(pair: &Pair) {
    pair.alpha.wait_for("PausedSyncS", |status| {
        status.replication() == "PausedSyncS"
    });
    pair.beta.wait_for("PausedSyncT", |status| {
        status.replication() == "PausedSyncT"
    });
}

#[test]
fn a_paused_resync_moves_nothing_survives_its_link_and_goes_on_in_the_end() {
    let mut pair = behind();
    wait_paused(&pair);
    let lacking = pair.alpha.status().out_of_sync();
    assert!(lacking > 0);
    let said = pair.beta.ok("status");
    assert!(said.contains("disk:Inconsistent"), "{said}");
    assert!(said.contains("resync-suspended:peer"), "{said}");
    let said = pair.alpha.ok("status");
    assert!(said.contains("resync-suspended:user"), "{said}");
    assert!(said.contains("held back by pause-sync"), "{said}");

    // Writes go to both meanwhile, and a lost link changes nothing.
    work(&mut pair);
    assert_eq!(pair.alpha.status().out_of_sync(), lacking);
    pair.cut();
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    pair.mend();
    wait_paused(&pair);
    assert!(pair.alpha.status().out_of_sync() >= lacking);

    // Each node lets go what was paused on it, and only that.
    let said = pair.alpha.refused("pause-sync", 10);
    assert!(said.contains("(134)"), "{said}");
    let said = pair.beta.refused("resume-sync", 10);
    assert!(said.contains("(157)"), "{said}");
    pair.beta.ok("pause-sync");
    pair.alpha.ok("resume-sync");
    wait_paused(&pair);
    let said = pair.beta.ok("status");
    assert!(said.contains("resync-suspended:user"), "{said}");
    pair.beta.ok("resume-sync");
    pair.wait_in_sync();
    let said = pair.beta.refused("resume-sync", 10);
    assert!(said.contains("(135)"), "{said}");
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_running_resync_tells_what_limits_it() {
    let mut pair = behind();
    wait_paused(&pair);
    pair.beta.reconfigure("c-max-rate 1G", "c-max-rate 4k");
    pair.beta.ok("adjust");
    pair.alpha.ok("resume-sync");
    for node in [&pair.alpha, &pair.beta] {
        wait_until("the limit", || {
            let said = node.ok("status");
            let is_told = said.contains("limited by the configured rate");
            unless(is_told, || said)
        });
    }
    pair.beta.reconfigure("c-max-rate 4k", "c-max-rate 1G");
    pair.beta.ok("adjust");
    pair.wait_in_sync();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_volume_waits_for_the_one_it_is_to_follow_and_goes_on_when_that_is_done() {
    let mut setup = Setup::default().volumes(&[Meta::Internal, Meta::Internal]);
    setup.more.push_str(
        "  disk {\n    c-max-rate 10M;\n  }\n  volume 1 {\n    disk {\n      \
         resync-after r0/0;\n    }\n  }\n",
    );
    let mut pair = Pair::primary(setup);
    wait_until("both volumes", || {
        let said = pair.beta.ok("status");
        unless(!said.contains("Inconsistent"), || said)
    });
    pair.beta.ok("invalidate");
    let all = |wanted: &[&str]| {
        let said = pair.beta.ok("status");
        unless(wanted.iter().all(|text| said.contains(text)), || said)
    };
    wait_until("volume 1 to wait for volume 0", || {
        all(&[
            "replication:SyncTarget",
            "replication:PausedSyncT",
            "dependency",
        ])
    });
    // Nothing of the second has come before the first is done.
    let told = |text: &str, volume: u32| {
        let log = pair.beta.log();
        let is_of = |line: &&str| line.contains(&format!("volume={volume}"));
        let count = log.lines().filter(|line| line.contains(text)).filter(is_of);
        count.count()
    };
    let before = [0, 1].map(|volume| told("resync done", volume));
    wait_until("the first", || {
        unless(told("resync done", 0) > before[0], || pair.beta.log_end())
    });
    assert_eq!(told("resync done", 1), before[1]);
    pair.wait_in_sync();
    wait_until("word of the second", || {
        unless(told("resync done", 1) > before[1], || pair.beta.log_end())
    });
    assert_eq!(told("resync done", 1), before[1] + 1);
    pair.verify("alpha");
    pair.finish();
}
