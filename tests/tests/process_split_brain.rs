//! Split brain: how it shows on both nodes, and what ends it.

use std::path::{Path, PathBuf};

use rbd_tests::process::{LoadOptions, Meta, Node, Pair, Setup, unless, wait_until};

#[test]
fn two_primaries_are_a_split_brain_which_the_loser_s_consent_heals() {
    let mut pair = Pair::primary(Setup::default().proxied());
    split(&mut pair);
    pair.mend();
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
    }
    heal(pair);
}

#[test]
fn changes_on_both_sides_are_a_split_brain_even_between_secondaries() {
    let mut pair = Pair::primary(Setup::default().proxied());
    split(&mut pair);
    pair.demote("alpha");
    pair.demote("beta");
    pair.mend();
    for node in [&pair.alpha, &pair.beta] {
        let status = node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
        let note = status.note().to_lowercase();
        assert!(note.contains("split") && note.contains("brain"), "{note}");
        node.wait_for_log("Split-Brain detected");
    }
    heal(pair);
}

#[test]
fn the_loser_alone_ends_a_split_brain_with_one_command() {
    let mut pair = Pair::primary(Setup::default().proxied());
    meet_split(&mut pair);
    let dry = pair.beta.ok("resolve --keep alpha --dry-run");
    assert!(
        dry.contains("what this node changed is lost, 64 KiB"),
        "{dry}"
    );
    assert_eq!(pair.beta.status().connection(), "StandAlone");
    let said = pair.beta.ok("explain").replace('\n', " ");
    assert!(said.contains("Both nodes have changes"), "{said}");
    pair.beta.ok("resolve --keep alpha");
    healed(pair);
}

#[test]
fn the_winner_alone_ends_a_split_brain_once_the_loser_is_not_primary() {
    let mut pair = Pair::primary(Setup::default().proxied());
    meet_split(&mut pair);
    let text = pair.alpha.refused("resolve --keep alpha", 11);
    assert!(
        text.contains("on beta: rbdadm resolve r0 --keep alpha"),
        "{text}"
    );
    pair.demote("beta");
    pair.alpha.ok("resolve --keep alpha");
    healed(pair);
}

#[test]
fn a_split_brain_is_resolved_after_a_disconnect_too() {
    let mut pair = Pair::primary(Setup::default().proxied());
    meet_split(&mut pair);
    pair.beta.ok("disconnect");
    pair.beta.ok("resolve --keep alpha");
    healed(pair);
}

#[test]
fn a_volume_only_the_loser_has_changed_is_copied_from_there() {
    for given_on in ["alpha", "beta"] {
        let setup = Setup::default().volumes(&[Meta::Internal; 2]);
        let mut pair = Pair::primary(setup.proxied());
        pair.cut();
        for node in [&pair.alpha, &pair.beta] {
            node.wait_for("alone", |status| !status.is_connected());
        }
        write(&pair.alpha, 0, 7);
        write(&pair.alpha, 1, 8);
        pair.beta.ok("primary");
        write(&pair.beta, 0, 9);
        pair.demote("alpha");
        // Beta's second disk is a new one.
        pair.beta.ok("down");
        let made = pair.beta.rbdadm(&["create-md", "--force", "r0/1"]);
        assert_eq!(made.code, Some(0), "{}", made.text());
        pair.beta.ok("up");
        pair.mend();
        for node in [&pair.alpha, &pair.beta] {
            node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
        }
        let command = "resolve --keep beta";
        let dry = pair.node(given_on).ok(&format!("{command} --dry-run"));
        let expected = match given_on {
            "alpha" => "volume 1: only this node has changed it",
            _ => "volume 1: only alpha has changed it",
        };
        assert!(dry.contains(expected), "{dry}");
        pair.node(given_on).ok(command);
        pair.wait_in_sync();
        for node in pair.nodes() {
            node.stop();
        }
        pair.assert_equal();
        for (volume, value) in [(0, 9), (1, 8)] {
            let data = std::fs::read(pair.alpha.disk(volume)).expect("it can be read");
            assert!(data[1 << 20..][..4096].iter().all(|byte| *byte == value));
        }
    }
}

fn write(node: &Node, volume: usize, value: u8) {
    let mut client = node
        .try_open(volume)
        .unwrap_or_else(|error| panic!("{}: cannot open: {error}", node.name()));
    client.write(1 << 20, &[value; 4096]).expect("a write");
    drop(client.disconnect());
    node.wait_for("no clients", |status| status.open_count() == 0);
}

/// A split brain, both Primary, that both nodes have noticed.
fn meet_split(pair: &mut Pair) {
    split(pair);
    pair.mend();
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
    }
}

fn healed(mut pair: Pair) {
    pair.wait_in_sync();
    assert_eq!(pair.beta.status().role(), "Secondary");
    pair.verify("alpha");
    pair.finish();
}

/// Both write while they cannot see each other. The ledger follows alpha.
fn split(pair: &mut Pair) {
    split_with(pair, 16);
}

/// The same, with so many blocks written on beta.
fn split_with(pair: &mut Pair, writes: u64) {
    pair.cut();
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("alone", |status| !status.is_connected());
    }
    pair.beta.ok("primary");
    let mut client = pair.beta.open();
    for at in 0..writes {
        client.write(at << 20, &[5; 4096]).expect("a write");
    }
    drop(client.disconnect());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(300);
    load.stop(&mut pair.ledger).assert_undisturbed();
}

fn heal(mut pair: Pair) {
    pair.demote("beta");
    pair.beta.ok("connect --discard-my-data");
    pair.alpha.ok("connect");
    pair.wait_in_sync();
    assert_eq!(pair.beta.status().role(), "Secondary");
    pair.alpha.ok("primary");
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_split_brain_says_since_when_and_how_much_each_side_has_changed() {
    let mut pair = Pair::primary(Setup::default().proxied());
    meet_split(&mut pair);
    for node in [&pair.alpha, &pair.beta] {
        let status = node.ok("status").replace('\n', " ");
        assert!(status.contains("changed: volume 0: this node"), "{status}");
        assert!(status.contains("64 KiB (since 20"), "{status}");
        let said = node.ok("explain").replace('\n', " ");
        assert!(said.contains("64 KiB in 16 block(s)"), "{said}");
    }
    heal(pair);
}

#[test]
fn a_policy_gives_up_the_side_that_has_changed_nothing() {
    let setup = Setup::default()
        .proxied()
        .net("    after-sb-0pri discard-zero-changes;\n");
    let mut pair = Pair::primary(with_handlers(setup));
    split_with(&mut pair, 0);
    pair.demote("alpha");
    pair.demote("beta");
    pair.mend();
    pair.wait_in_sync();
    for node in [&pair.alpha, &pair.beta] {
        wait_for_file(&called(node, "initial-split-brain"));
        assert!(!called(node, "split-brain").exists());
    }
    pair.alpha.ok("primary");
    healed(pair);
}

#[test]
fn a_policy_gives_up_the_secondary_s_changes() {
    let setup = Setup::default()
        .proxied()
        .net("    after-sb-1pri discard-secondary;\n");
    let mut pair = Pair::primary(setup);
    split(&mut pair);
    pair.demote("beta");
    pair.mend();
    let said = pair.alpha.ok("explain").replace('\n', " ");
    assert!(said.contains("after-sb-1pri discard-secondary"), "{said}");
    healed(pair);
}

#[test]
fn a_primary_that_loses_by_policy_is_told_and_keeps_its_data() {
    let setup = Setup::default().proxied().net(
        "    after-sb-0pri discard-least-changes;\n    after-sb-1pri call-pri-lost-after-sb;\n",
    );
    let mut pair = Pair::primary(with_handlers(setup));
    split(&mut pair);
    pair.demote("alpha");
    pair.mend();
    wait_for_file(&called(&pair.beta, "pri-lost-after-sb"));
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
        wait_for_file(&called(node, "split-brain"));
    }
    assert_eq!(pair.beta.status().role(), "Primary");
    assert!(!called(&pair.alpha, "pri-lost-after-sb").exists());
    let said = pair.beta.ok("explain").replace('\n', " ");
    let advice = "rbdadm secondary r0, after which the policies give up this node's changes";
    assert!(said.contains(advice), "{said}");
    // The handler is expected to end the Primary. Then the nodes meet again by themselves.
    pair.demote("beta");
    pair.wait_in_sync();
    pair.alpha.ok("primary");
    healed(pair);
}

#[test]
fn policies_that_differ_decide_nothing_and_say_so() {
    let setup = Setup::default()
        .proxied()
        .net("    after-sb-1pri discard-secondary;\n");
    let mut pair = Pair::primary(setup);
    pair.beta.reconfigure("discard-secondary", "consensus");
    pair.beta.ok("adjust");
    pair.wait_in_sync();
    split(&mut pair);
    pair.demote("beta");
    pair.mend();
    for node in [&pair.alpha, &pair.beta] {
        let status = node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
        assert!(status.note().contains("policies"), "{}", status.note());
    }
    pair.beta.ok("resolve --keep alpha");
    healed(pair);
}

#[test]
fn a_tentative_connection_says_what_would_happen_and_changes_nothing() {
    let mut pair = Pair::primary(Setup::default().proxied());
    pair.beta.ok("disconnect");
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    let said = pair.beta.ok("connect --tentative");
    assert!(said.contains("would become SyncTarget"), "{said}");
    let status = pair.beta.status();
    assert_eq!(status.connection(), "StandAlone");
    assert_ne!(status.disk(), "Inconsistent");
    pair.beta.ok("connect");
    healed(pair);
}

#[test]
fn a_tentative_connection_finds_a_split_brain() {
    let mut pair = Pair::primary(Setup::default().proxied());
    meet_split(&mut pair);
    pair.demote("beta");
    let said = pair.beta.ok("connect --tentative");
    assert!(said.contains("Split-Brain detected"), "{said}");
    let said = pair.beta.ok("connect --tentative --discard-my-data");
    assert!(said.contains("would become SyncTarget"), "{said}");
    assert_eq!(pair.beta.status().connection(), "StandAlone");
    pair.beta.ok("resolve --keep alpha");
    healed(pair);
}

/// Handlers that leave a file behind, named after them.
fn with_handlers(mut setup: Setup) -> Setup {
    setup.more.push_str("  handlers {\n");
    for name in ["initial-split-brain", "split-brain", "pri-lost-after-sb"] {
        let line = format!("    {name} \"touch $RBD_RUN_DIR/called-{name}\";\n");
        setup.more.push_str(&line);
    }
    setup.more.push_str("  }\n");
    setup
}

fn called(node: &Node, handler: &str) -> PathBuf {
    node.run_directory().join(format!("called-{handler}"))
}

fn wait_for_file(path: &Path) {
    wait_until(&path.display().to_string(), || {
        unless(path.exists(), || "no such file".to_owned())
    });
}
