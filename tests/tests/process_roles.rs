//! Who may be Primary, who may be a client, and how a split brain ends: with DRBD's texts.

use rbd_tests::nbd_client::{Error, REP_ERR_POLICY, REP_ERR_UNKNOWN};
use rbd_tests::process::{LoadOptions, Pair, Setup};

#[test]
fn a_secondary_refuses_clients_and_names_the_primary() {
    let pair = Pair::primary(Setup::default());
    let Err(Error::Refused { kind, text }) = pair.beta.try_open(0) else {
        panic!("a Secondary did not refuse a client");
    };
    assert_eq!(kind, REP_ERR_POLICY, "{text}");
    assert!(
        text.contains("Secondary") && text.contains("alpha"),
        "{text}"
    );
}

#[test]
fn an_unknown_export_is_refused_as_unknown() {
    let pair = Pair::primary(Setup::default());
    let Err(Error::Refused { kind, .. }) = pair.alpha.try_open(7) else {
        panic!("volume 7 does not exist");
    };
    assert_eq!(kind, REP_ERR_UNKNOWN);
}

#[test]
fn nobody_is_promoted_without_good_data() {
    let mut pair = Pair::new(Setup::default());
    pair.bring_up();
    let text = pair.alpha.refused("primary", 17);
    let expected = "r0: State change failed: (-2) Need access to UpToDate data";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn the_target_of_an_unfinished_sync_is_not_promoted() {
    let mut pair = Pair::new(Setup::default().proxied());
    pair.bring_up();
    // Enough for the decision who is the target, far too little for all data.
    for wire in &pair.wires {
        wire.cut_after(1 << 20);
    }
    pair.alpha.ok("primary --force");
    pair.beta
        .wait_for("a lost link", |status| !status.is_connected());
    pair.cut();
    // It may have been back for a moment, and then it is the Primary there that objects.
    pair.beta
        .wait_for("a cut link", |status| !status.is_connected());
    let text = pair.beta.refused("primary", 17);
    assert!(text.contains("Inconsistent"), "{text}");
    pair.mend();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn a_node_that_was_left_behind_is_not_promoted_before_it_has_seen_its_peer() {
    let mut pair = Pair::primary(Setup::default());
    pair.beta.kill();
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.alpha.kill();
    pair.beta.start();
    let text = pair.beta.refused("primary", 17);
    assert!(text.contains("Need access to UpToDate data"), "{text}");
    // The one that left it behind may go on alone.
    pair.beta.kill();
    pair.alpha.start();
    pair.promote("alpha");
    pair.verify("alpha");
    pair.beta.start();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn there_is_one_primary_only() {
    let pair = Pair::primary(Setup::default());
    for words in ["primary", "primary --force"] {
        let text = pair.beta.refused(words, 11);
        let expected = "State change failed: (-1) Multiple primaries not allowed by config";
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_primary_with_clients_is_not_demoted() {
    let pair = Pair::primary(Setup::default());
    let client = pair.alpha.open();
    for words in ["secondary", "down"] {
        let text = pair.alpha.refused(words, 11);
        let expected = "State change failed: (-12) Device is held open by someone";
        assert!(text.contains(expected), "{text}");
    }
    drop(client);
    pair.demote("alpha");
}

#[test]
fn a_forced_demotion_ends_the_clients_and_loses_nothing() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    pair.alpha.ok("secondary --force");
    drop(load.join(&mut pair.ledger));
    pair.beta.ok("primary");
    pair.verify("beta");
    pair.finish();
}
