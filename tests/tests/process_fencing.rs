//! Fencing by real scripts: nothing is answered before a clear verdict, and whatever is unclear
//! changes nothing.

use rbd_tests::nbd_client::{CMD_READ, Request};
use rbd_tests::process::{LoadOptions, Pair, Setup};

/// A fence handler that ends with what the test writes into a file, once it does.
const ASKS: &str = "while ! test -e $RBD_RUN_DIR/verdict; do sleep 0.02; done\n\
                    exit $(cat $RBD_RUN_DIR/verdict)";

fn fenced(policy: &str, script: &str) -> Pair {
    let pair = Pair::primary(Setup::default().proxied().fencing(policy));
    for node in [&pair.alpha, &pair.beta] {
        node.set_script("fence", script);
        node.set_script("unfence", "touch $RBD_RUN_DIR/unfenced");
    }
    pair
}

fn wait_frozen(pair: &Pair) {
    pair.alpha
        .wait_for("frozen I/O", |status| status.awaits_fencing());
}

fn wait_thawed(pair: &Pair) {
    pair.alpha
        .wait_for("I/O that goes on", |status| !status.is_suspended());
}

#[test]
fn nothing_is_answered_before_the_verdict() {
    let mut pair = fenced("resource-and-stonith", ASKS);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    pair.cut();
    wait_frozen(&pair);
    pair.alpha.wait_for_log("handler starts");
    pair.alpha
        .wait_for("requests that wait", |status| status.waiting() > 0);
    let answered = load.answered();
    for _ in 0..5 {
        assert!(pair.alpha.status().awaits_fencing());
    }
    assert_eq!(load.answered(), answered);
    pair.alpha.set_script("verdict", "7");
    wait_thawed(&pair);
    load.let_work(100);
    assert_eq!(pair.alpha.status().peer_disk(), "Outdated");
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.mend();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn a_secondary_that_leaves_by_force_gives_up_nothing() {
    let pair = fenced("resource-and-stonith", "exit 1");
    pair.beta.ok("disconnect --force");
    wait_frozen(&pair);
    assert_eq!(pair.beta.status().disk(), "UpToDate");
    assert_eq!(pair.beta.status().connection(), "StandAlone");
    pair.beta.ok("connect");
    wait_thawed(&pair);
    pair.wait_in_sync();

    // Without force it asks, and nobody has to be fenced.
    pair.beta.ok("disconnect");
    pair.beta
        .wait_for("its word", |status| status.disk() == "Outdated");
    assert!(!pair.alpha.status().awaits_fencing());
    pair.beta.ok("connect");
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn only_the_codes_of_a_verdict_are_one() {
    let mut pair = fenced("resource-and-stonith", "exit 1");
    for code in [3, 4, 5, 7] {
        pair.alpha.set_script("fence", &format!("exit {code}"));
        pair.cut();
        pair.alpha
            .wait_for("a loss", |status| !status.is_connected());
        wait_thawed(&pair);
        let expected = if code == 3 {
            "Inconsistent"
        } else {
            "Outdated"
        };
        assert_eq!(pair.alpha.status().peer_disk(), expected, "code {code}");
        pair.mend();
        pair.wait_in_sync();
    }
    for script in [
        "exit 0",
        "exit 1",
        "exit 2",
        "exit 6",
        "exit 100",
        "kill -9 $$",
        "exec /no",
    ] {
        pair.alpha.set_script("fence", script);
        pair.cut();
        wait_frozen(&pair);
        pair.alpha.wait_for_log("nothing changes");
        let mut client = pair.alpha.open();
        let request = Request {
            command: CMD_READ,
            flags: 0,
            offset: 0,
            length: 4096,
            payload: &[],
        };
        client.send(request).expect("the daemon takes it in");
        pair.alpha
            .wait_for("a request that waits", |status| status.waiting() == 1);
        assert!(pair.alpha.status().awaits_fencing(), "{script}");
        pair.alpha.ok("resume-io");
        client.answer().expect("it goes on by command");
        wait_thawed(&pair);
        drop(client.disconnect());
        pair.mend();
        pair.wait_in_sync();
    }
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_handler_that_hangs_is_killed_and_changes_nothing() {
    let mut pair = Pair::synced(Setup::default().fencing("resource-and-stonith"));
    pair.alpha.stop();
    pair.alpha.set_handler_timeout(1);
    pair.alpha.start();
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    pair.alpha.set_script("fence", "sleep 1000");
    pair.beta.kill();
    wait_frozen(&pair);
    pair.alpha.wait_for_log("handler killed after 1 s");
    assert!(pair.alpha.status().awaits_fencing());
    // The peer's return ends the wait as well.
    pair.beta.start();
    pair.wait_in_sync();
    wait_thawed(&pair);
    pair.finish();
}

#[test]
fn resource_only_asks_and_goes_on_meanwhile() {
    let mut pair = fenced("resource-only", ASKS);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    pair.cut();
    pair.alpha.wait_for_log("handler starts");
    load.let_work(100);
    assert!(!pair.alpha.status().is_suspended());
    pair.alpha.set_script("verdict", "4");
    pair.alpha
        .wait_for("a verdict", |status| status.peer_disk() == "Outdated");
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.mend();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn what_a_fence_has_done_is_taken_back_when_both_are_in_sync() {
    let pair = fenced("resource-and-stonith", "exit 7");
    let unfenced = pair.alpha.run_directory().join("unfenced");
    pair.cut();
    pair.alpha
        .wait_for("a fenced peer", |status| status.peer_disk() == "Outdated");
    wait_thawed(&pair);
    assert!(!unfenced.exists());
    pair.mend();
    pair.wait_in_sync();
    pair.alpha
        .wait_for("an unfenced peer", |_| unfenced.exists());
    assert!(!pair.beta.run_directory().join("unfenced").exists());
    pair.finish();
}

#[test]
fn who_leaves_in_order_declares_itself_behind_and_nobody_is_fenced() {
    let mut pair = fenced("resource-and-stonith", "touch $RBD_RUN_DIR/fenced; exit 7");
    let fenced = pair.alpha.run_directory().join("fenced");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    pair.beta.ok("down");
    load.let_work(100);
    assert_eq!(pair.alpha.status().peer_disk(), "Outdated");
    pair.beta.ok("up");
    pair.wait_in_sync();
    // A daemon that is told to end, as at a shutdown, leaves in the same way.
    pair.beta.stop();
    load.let_work(100);
    assert_eq!(pair.alpha.status().peer_disk(), "Outdated");
    pair.beta.start();
    pair.wait_in_sync();
    // So does a Primary that is told to go on alone.
    pair.alpha.ok("disconnect");
    load.let_work(100);
    assert_eq!(pair.beta.status().disk(), "Outdated");
    pair.alpha.ok("connect");
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    assert!(!fenced.exists(), "nobody had to be fenced");
    pair.finish();
}

#[test]
fn a_node_is_promoted_without_its_peer_only_after_fencing_it() {
    let mut pair = fenced("resource-and-stonith", "exit 1");
    pair.alpha.kill();
    pair.beta
        .wait_for("a loss", |status| !status.is_connected());
    let text = pair.beta.refused("primary", 11);
    assert!(
        text.contains("(-7) Refusing to be Primary while peer is not outdated"),
        "{text}"
    );
    // A node that has just started knows nothing; that nobody can reach the peer is no help then.
    pair.beta.kill();
    pair.beta.start();
    pair.beta.set_script("fence", "exit 5");
    let text = pair.beta.refused("primary", 11);
    assert!(text.contains("(-7)"), "{text}");
    pair.beta.set_script("fence", "exit 7");
    pair.beta.ok("primary");
    let status = pair.beta.status();
    assert_eq!(
        (status.disk(), status.peer_disk()),
        ("UpToDate", "Outdated")
    );
    pair.verify("beta");
    // That is remembered.
    pair.beta.kill();
    pair.beta.start();
    pair.beta.set_script("fence", "exit 1");
    pair.beta.ok("primary");
    pair.alpha.start();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn an_outdated_disk_is_not_promoted_before_it_has_seen_its_peer() {
    let mut pair = Pair::primary(Setup::default().proxied());
    let text = pair.alpha.refused("outdate", 17);
    assert!(text.contains("(-2)"), "{text}");
    let text = pair.beta.refused("outdate", 11);
    assert!(
        text.contains("(-6) Refusing to be Outdated while Connected"),
        "{text}"
    );
    pair.cut();
    pair.beta
        .wait_for("a loss", |status| !status.is_connected());
    pair.beta.ok("outdate");
    assert_eq!(pair.beta.status().disk(), "Outdated");
    pair.beta.kill();
    pair.beta.start();
    assert_eq!(pair.beta.status().disk(), "Outdated");
    pair.beta.refused("primary", 17);
    pair.mend();
    pair.wait_in_sync();
    // The same while nobody serves it, and while no daemon runs at all.
    pair.beta.ok("down");
    pair.beta.ok("outdate");
    pair.beta.stop();
    pair.beta.ok("outdate");
    pair.beta.start();
    pair.cut();
    pair.beta.ok("up");
    assert_eq!(pair.beta.status().disk(), "Outdated");
    pair.mend();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn suspended_requests_wait_until_they_are_resumed() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(50);
    pair.alpha.ok("suspend-io");
    pair.alpha
        .wait_for("requests that wait", |status| status.waiting() > 0);
    let answered = load.answered();
    for _ in 0..5 {
        assert!(pair.alpha.status().is_suspended());
    }
    assert_eq!(load.answered(), answered);
    pair.alpha.ok("resume-io");
    load.let_work(50);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn a_peer_that_stands_still_is_noticed_and_fenced() {
    let mut pair = fenced("resource-and-stonith", "exit 7");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    pair.beta.pause();
    pair.alpha
        .wait_for("a silent peer", |status| !status.is_connected());
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.beta.resume();
    pair.wait_in_sync();
    pair.finish();
}
