//! The handler that must end before a resync overwrites anything, with real daemons.

use std::fs;

use rbd_tests::process::{LoadOptions, Pair, Setup, unless, wait_until};

/// A pair whose handlers write down for what they were called, and where the first does what a
/// script says, if there is one.
fn guarded() -> Pair {
    let mut setup = Setup::default().proxied();
    setup.more.push_str(
        "  handlers {\n    before-resync-target \"echo $DRBD_RESOURCE/$DRBD_VOLUME \
         $RBD_DISK_STATE >> $RBD_RUN_DIR/told; \
         if test -e $RBD_RUN_DIR/guard; then . $RBD_RUN_DIR/guard; fi\";\n    \
         after-resync-target \"echo done >> $RBD_RUN_DIR/told\";\n  }\n",
    );
    let pair = Pair::primary(setup);
    assert_eq!(wait_done(&pair), ["r0/0 Inconsistent"], "the first resync");
    assert!(!pair.alpha.run_directory().join("told").exists());
    pair
}

/// What beta's handler was called for until the end of a resync, forgotten with that.
fn wait_done(pair: &Pair) -> Vec<String> {
    wait_until("the end of a resync", || {
        unless(told(pair).last().is_some_and(|line| line == "done"), || {
            format!("{:?}", told(pair))
        })
    });
    let mut told = told(pair);
    told.pop();
    fs::remove_file(pair.beta.run_directory().join("told")).expect("it was there");
    told
}

fn told(pair: &Pair) -> Vec<String> {
    let told = fs::read_to_string(pair.beta.run_directory().join("told")).unwrap_or_default();
    told.lines().map(str::to_owned).collect()
}

/// Beta lacks something.
fn leave_behind(pair: &mut Pair) {
    pair.cut();
    pair.alpha
        .wait_for("alone", |status| !status.is_connected());
    work(pair);
}

fn work(pair: &mut Pair) {
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
}

/// Beta has given up, and says why.
fn wait_kept(pair: &Pair, why: &str) {
    let said = format!("before-resync-target {why}: no resync, nothing is overwritten");
    let status = pair.beta.wait_for("StandAlone", |status| {
        status.connection() == "StandAlone" && status.note().contains(&said)
    });
    assert!(
        status.note().contains("rbdadm connect r0"),
        "{}",
        status.note()
    );
    assert_ne!(status.disk(), "Inconsistent");
    let text = pair.beta.ok("status");
    assert!(text.contains(&said), "{text}");
}

#[test]
fn a_resync_begins_when_the_handler_has_ended_well_and_not_otherwise() {
    let mut pair = guarded();
    leave_behind(&mut pair);
    pair.mend();
    pair.wait_in_sync();
    assert_eq!(wait_done(&pair), ["r0/0 Outdated"]);

    pair.beta.set_script("guard", "exit 3");
    leave_behind(&mut pair);
    pair.mend();
    wait_kept(&pair, "exited with 3");
    work(&mut pair);
    pair.beta.ok("connect");
    wait_until("another run", || {
        unless(told(&pair).len() == 2, || format!("{:?}", told(&pair)))
    });
    wait_kept(&pair, "exited with 3");
    pair.beta.set_script("guard", "exit 0");
    pair.beta.ok("connect");
    pair.wait_in_sync();
    assert_eq!(wait_done(&pair).len(), 3);
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn clients_go_on_while_it_runs_and_a_restart_runs_it_again() {
    let mut pair = guarded();
    let waits = "while ! test -e $RBD_RUN_DIR/end; do sleep 0.02; done";
    pair.beta.set_script("guard", waits);
    leave_behind(&mut pair);
    pair.mend();
    pair.beta.wait_for("the handler", |status| {
        status.note().contains("before-resync-target runs")
    });
    work(&mut pair);
    assert_ne!(pair.beta.status().disk(), "Inconsistent");
    pair.beta.kill();
    pair.beta.start();
    pair.beta.ok("up");
    wait_until("another run", || {
        unless(told(&pair).len() == 2, || format!("{:?}", told(&pair)))
    });
    // The one of the dead daemon ends as well, and nobody listens.
    pair.beta.set_script("end", "");
    pair.wait_in_sync();
    assert_eq!(wait_done(&pair).len(), 2);
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_handler_that_hangs_is_killed_and_keeps_the_disk() {
    let mut pair = guarded();
    pair.beta.stop();
    pair.beta.set_handler_timeout(1);
    pair.beta.set_script("guard", "sleep 1000");
    work(&mut pair);
    pair.beta.start();
    pair.beta.ok("up");
    pair.beta.wait_for_log("handler killed after 1 s");
    wait_kept(&pair, "failed or did not end in time");
    pair.beta.set_script("guard", "exit 0");
    pair.beta.ok("connect");
    pair.wait_in_sync();
    pair.verify("alpha");
    pair.finish();
}
