//! A resync held back between real daemons: by either node, over lost links, under writes.

use rbd_tests::process::{LoadOptions, Pair, Setup, unless, wait_until};

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
