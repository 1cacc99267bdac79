//! Live migrations: a second Primary for a while, and one again by itself.

use rbd_tests::process::{Node, Pair, STONITH, Setup, Two};

const MIGRATE: &str = "primary --for-migration --expires 10";

fn wait_secondary(node: &Node) {
    node.wait_for("its demotion", |status| status.role() == "Secondary");
}

#[test]
fn who_is_moved_from_is_demoted_when_nobody_uses_it_any_more() {
    let mut two = Two::to_migrate(Setup::default(), "exit 1");
    let one = two.load("alpha", 0..1024);
    one.let_work(500);
    let text = two.pair.beta.refused("primary", 11);
    assert!(text.contains("alpha is Primary"), "{text}");
    two.pair.beta.ok(MIGRATE);
    for node in [&two.pair.alpha, &two.pair.beta] {
        let text = node.ok("status");
        assert!(text.contains("migration-left:"), "{text}");
    }
    let other = two.load("beta", 0..1024);
    one.let_work(500);
    other.let_work(500);
    // While both are in use nothing is taken from anybody.
    two.pair.alpha.wait_for("the end of the time", |_| {
        two.pair.alpha.ok("status").contains("migration-left:0s")
    });
    one.let_work(500);
    other.let_work(500);
    let text = two.pair.alpha.ok("explain").replace('\n', " ");
    assert!(text.contains("both nodes are in use"), "{text}");
    one.stop();
    wait_secondary(&two.pair.alpha);
    other.let_work(500);
    let text = two.pair.beta.ok("status");
    assert!(!text.contains("migration"), "{text}");
    two.pair.alpha.refused("primary", 11);
    other.stop();
    two.finish();
}

#[test]
fn a_migration_that_comes_to_nothing_leaves_everything_as_it_was() {
    let mut two = Two::to_migrate(Setup::default(), "exit 1");
    let one = two.load("alpha", 0..1024);
    one.let_work(500);
    two.pair.beta.ok(MIGRATE);
    wait_secondary(&two.pair.beta);
    one.let_work(500);
    assert_eq!(two.pair.alpha.status().role(), "Primary");
    // The next one goes there and back.
    two.pair.beta.ok(MIGRATE);
    one.stop();
    two.pair.alpha.ok("secondary");
    two.pair.alpha.ok(MIGRATE);
    two.pair.beta.ok("secondary");
    let again = two.load("alpha", 0..1024);
    again.let_work(500);
    again.stop();
    two.finish();
}

#[test]
fn a_link_lost_in_a_migration_leaves_one_of_the_two() {
    let mut two = Two::to_migrate(Setup::default().proxied(), STONITH);
    let one = two.load("alpha", 0..1024);
    two.pair.beta.ok(MIGRATE);
    let other = two.load("beta", 0..1024);
    one.let_work(500);
    other.let_work(500);
    two.name_victims();
    two.pair.cut();
    two.pair.alpha.wait_for_log("I/O is suspended");
    let victim = two.wait_for_the_fenced();
    let (survivor, alive, dead) = if victim == "beta" {
        ("alpha", one, other)
    } else {
        ("beta", other, one)
    };
    two.pair.node(victim).kill();
    assert!(!dead.join().failures.is_empty());
    alive.let_work(500);
    two.pair.mend();
    two.pair.node(victim).start();
    two.pair.wait_in_sync();
    two.record.settle();
    alive.let_work(500);
    let text = two.pair.node(survivor).ok("status");
    assert!(!text.contains("migration"), "{text}");
    two.pair.node(victim).refused("primary", 11);
    alive.stop();
    two.finish();
}

#[test]
fn both_go_on_in_it_over_a_link_that_was_made_anew() {
    let mut two = Two::to_migrate(Setup::default().proxied(), "sleep 30; exit 1");
    let one = two.load("alpha", 0..1024);
    two.pair.beta.ok(MIGRATE);
    let other = two.load("beta", 0..1024);
    one.let_work(500);
    other.let_work(500);
    two.pair.cut();
    two.pair.alpha.wait_for_log("I/O is suspended");
    two.pair.mend();
    two.pair.wait_in_sync();
    one.let_work(500);
    other.let_work(500);
    other.stop();
    wait_secondary(&two.pair.beta);
    one.stop();
    two.finish();
}

#[test]
fn without_fencing_it_is_refused_and_says_what_to_do() {
    let pair = Pair::primary(Setup::default());
    let text = pair.beta.refused(MIGRATE, 11);
    assert!(
        text.contains("allow-two-primaries-without-fencing"),
        "{text}"
    );
    pair.beta.refused("primary --for-migration --expires 9", 1);
    pair.beta.refused("primary --for-migration --force", 1);
    pair.beta.refused("primary --expires 60", 1);
    pair.finish();
}
