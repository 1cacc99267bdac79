//! Two Primaries: clients of both nodes write to places of their own or to the same ones, while
//! nodes are demoted, killed and cut off. Every read is judged, and both disks are compared.

use rbd_tests::process::{Node, Pair, STONITH, Setup, Two};

/// A fence handler that ends with what the test writes into a file, once it does.
const ASKS: &str = "while ! test -e $RBD_RUN_DIR/verdict; do sleep 0.02; done\n\
                    exit $(cat $RBD_RUN_DIR/verdict)";

fn wait_frozen(node: &Node) {
    node.wait_for("frozen I/O", |status| status.awaits_fencing());
}

#[test]
fn the_second_node_is_promoted_when_both_have_been_told() {
    let pair = Pair::primary(Setup::default().fencing("resource-and-stonith"));
    pair.beta.set_script("fence", "exit 1");
    pair.alpha.set_script("fence", "exit 1");
    let text = pair.beta.refused("primary", 11);
    assert!(text.contains("(-1) Multiple primaries"), "{text}");
    let (old, new) = ("    fencing", "    allow-two-primaries yes;\n    fencing");
    for node in [&pair.beta, &pair.alpha] {
        node.reconfigure(old, new);
    }
    pair.beta.ok("adjust");
    pair.wait_in_sync();
    let text = pair.beta.refused("primary", 11);
    assert!(text.contains("has not been told of a second one"), "{text}");
    assert!(text.contains("on alpha: rbdadm adjust"), "{text}");
    let text = pair.beta.ok("status");
    assert!(text.contains("not in force on alpha"), "{text}");
    pair.alpha.ok("adjust");
    pair.wait_in_sync();
    pair.beta.ok("primary");
    assert_eq!(pair.alpha.status().peer_role(), "Primary");
    assert!(!pair.beta.ok("status").contains('#'));
    // It cannot be taken back while it is used, and the link is not ended by the way.
    pair.alpha.reconfigure(new, old);
    let text = pair.alpha.refused("adjust", 11);
    assert!(text.contains("beta is Primary too"), "{text}");
    let text = pair.beta.refused("disconnect", 11);
    assert!(text.contains("--force"), "{text}");
    pair.alpha.ok("secondary");
    pair.alpha.ok("adjust");
    pair.wait_in_sync();
    pair.alpha.refused("primary", 11);
    pair.finish();
}

#[test]
fn what_overrides_fencing_is_shown() {
    let pair = Pair::synced(
        Setup::default()
            .net("    allow-two-primaries yes;\n    allow-two-primaries-without-fencing yes;\n"),
    );
    for node in [&pair.alpha, &pair.beta] {
        node.ok("primary");
        let words = "allow-two-primaries-without-fencing is set";
        assert!(node.ok("status").contains(words));
        let text = node.ok("explain").replace('\n', " ");
        assert!(text.contains(words), "{text}");
    }
    pair.finish();
}

#[test]
fn writers_on_halves_of_their_own_lose_nothing() {
    let mut two = Two::new(Setup::default(), "exit 1");
    let [low, high] = two.halves();
    let (one, other) = (two.load("alpha", low), two.load("beta", high));
    one.let_work(3000);
    other.let_work(3000);
    one.stop();
    other.stop();
    two.finish();
}

#[test]
fn writers_on_the_same_places_leave_both_disks_the_same() {
    let mut two = Two::new(Setup::default(), "exit 1");
    let (one, other) = two.quarrel();
    one.let_work(3000);
    other.let_work(3000);
    one.stop();
    other.stop();
    two.finish();
}

#[test]
fn either_is_demoted_under_load_and_the_other_does_not_notice() {
    let mut two = Two::new(Setup::default(), "exit 1");
    let (mut one, mut other) = two.quarrel();
    for _ in 0..2 {
        one.let_work(500);
        other.let_work(500);
        let text = two.pair.beta.refused("secondary", 11);
        assert!(text.contains("client(s)"), "{text}");
        two.pair.beta.ok("secondary --force");
        let outcome = other.join();
        assert!(!outcome.failures.is_empty());
        two.record.settle();
        one.let_work(500);
        two.promote_both();
        other = two.load("beta", 0..1024);
        other.let_work(500);
        two.pair.alpha.ok("secondary --force");
        let outcome = one.join();
        assert!(!outcome.failures.is_empty());
        two.record.settle();
        other.let_work(500);
        two.promote_both();
        one = two.load("alpha", 0..1024);
    }
    one.let_work(100);
    one.stop();
    other.stop();
    two.finish();
}

#[test]
fn of_two_one_is_killed_the_other_goes_on_and_both_write_again() {
    for victim in ["alpha", "beta"] {
        let survivor = if victim == "alpha" { "beta" } else { "alpha" };
        let mut two = Two::new(Setup::default(), STONITH);
        let (one, other) = two.quarrel();
        one.let_work(500);
        other.let_work(500);
        two.pair.node(victim).kill();
        let (dead, alive) = if victim == "alpha" {
            (one, other)
        } else {
            (other, one)
        };
        assert!(!dead.join().failures.is_empty());
        alive.let_work(500);
        two.pair.node(victim).start();
        two.pair.wait_in_sync();
        two.record.settle();
        alive.let_work(500);
        two.promote_both();
        let again = two.load(victim, 0..1024);
        again.let_work(500);
        alive.let_work(500);
        again.stop();
        alive.stop();
        assert_eq!(two.pair.node(survivor).status().role(), "Primary");
        two.finish();
    }
}

#[test]
fn of_two_that_lose_their_link_one_is_fenced_and_returns_as_a_target() {
    for _ in 0..2 {
        let mut two = Two::new(Setup::default().proxied(), STONITH);
        let (one, other) = two.quarrel();
        one.let_work(500);
        other.let_work(500);
        two.pair.cut();
        let victim = two.wait_for_the_fenced();
        let (dead, alive) = if victim == "alpha" {
            (one, other)
        } else {
            (other, one)
        };
        two.pair.node(victim).kill();
        assert!(!dead.join().failures.is_empty());
        alive.let_work(500);
        two.pair.mend();
        two.pair.node(victim).start();
        two.pair.wait_in_sync();
        two.record.settle();
        two.promote_both();
        let again = two.load(victim, 0..1024);
        again.let_work(500);
        alive.let_work(500);
        again.stop();
        alive.stop();
        two.finish();
    }
}

#[test]
fn a_hiccup_without_writes_costs_nothing() {
    let two = Two::new(Setup::default().proxied(), ASKS);
    for _ in 0..3 {
        two.pair.cut();
        wait_frozen(&two.pair.alpha);
        wait_frozen(&two.pair.beta);
        two.pair.mend();
        two.pair.wait_in_sync();
        for node in [&two.pair.alpha, &two.pair.beta] {
            let status = node.wait_for("I/O that goes on", |status| !status.is_suspended());
            assert_eq!((status.role(), status.peer_role()), ("Primary", "Primary"));
            assert_eq!(status.out_of_sync(), 0);
        }
    }
    two.finish();
}

#[test]
fn a_hiccup_under_load_ends_without_an_error_and_with_equal_disks() {
    let mut two = Two::new(Setup::default().proxied(), ASKS);
    let (one, other) = two.quarrel();
    for _ in 0..5 {
        one.let_work(300);
        other.let_work(300);
        two.pair.cut();
        wait_frozen(&two.pair.alpha);
        wait_frozen(&two.pair.beta);
        two.pair.mend();
        two.pair.wait_in_sync();
    }
    one.let_work(300);
    other.let_work(300);
    one.stop();
    other.stop();
    two.finish();
}

#[test]
fn both_killed_under_load_are_made_equal_from_one_of_them() {
    let mut two = Two::new(Setup::default(), "exit 1");
    for _ in 0..3 {
        let (one, other) = two.quarrel();
        one.let_work(300);
        other.let_work(300);
        for node in two.pair.nodes() {
            node.kill();
        }
        assert!(!one.join().failures.is_empty());
        assert!(!other.join().failures.is_empty());
        two.pair.check_marks();
        for node in two.pair.nodes() {
            node.start();
        }
        two.pair.wait_in_sync();
        two.record.settle();
        two.promote_both();
    }
    two.finish();
}
