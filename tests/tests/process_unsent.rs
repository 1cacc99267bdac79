//! What a resync between real daemons does not send: blocks that are the same, and zeroes.

use std::os::unix::fs::MetadataExt;

use rbd_tests::process::{LoadOptions, Node, Pair, Setup, unless, wait_until};

/// How much the node's last resync did not have to send, in bytes: the same, and zeroes.
fn unsent(node: &Node) -> (u64, u64) {
    let log = node.log();
    let line = log
        .lines()
        .rfind(|line| line.contains("resync done"))
        .expect("a resync has ended");
    let Some((_, told)) = line.split_once("not sent: ") else {
        return (0, 0);
    };
    let mut numbers = told
        .split(|at: char| !at.is_ascii_digit())
        .filter(|word| !word.is_empty());
    let mut next = || {
        numbers
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    (next(), next())
}

/// Writes to the first part of the volume.
fn work(pair: &mut Pair) {
    let options = LoadOptions {
        share: 10,
        ..LoadOptions::default()
    };
    let load = pair.load("alpha", options);
    load.let_work(300);
    load.stop(&mut pair.ledger).assert_undisturbed();
}

/// Makes beta fetch all of it. That is its resync of this number: the first one filled it.
fn copy_everything(pair: &Pair, number: usize) {
    pair.beta.ok("invalidate");
    for node in [&pair.alpha, &pair.beta] {
        wait_until("word of the resync's end", || {
            let ended = node.log().matches("resync done").count();
            unless(ended == number, || node.log_end())
        });
    }
    pair.wait_in_sync();
}

#[test]
fn a_resync_that_compares_first_sends_only_what_differs() {
    let setup = Setup::default().net("    csums-alg sha256;\n");
    let mut pair = Pair::primary(setup);
    work(&mut pair);
    let size = pair.alpha.status().size();
    copy_everything(&pair, 2);
    assert_eq!(unsent(&pair.beta).0, size);
    assert_eq!(unsent(&pair.alpha).0, size);

    // While clients write, too.
    let load = pair.load("alpha", LoadOptions::default());
    copy_everything(&pair, 3);
    load.stop(&mut pair.ledger).assert_undisturbed();
    assert!(unsent(&pair.beta).0 > 0);
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn zeroes_are_not_sent_and_take_no_space_at_the_target() {
    let mut pair = Pair::primary(Setup::default());
    let size = pair.alpha.status().size();
    let mut client = pair.alpha.open();
    let zeroes = vec![0; 1 << 20];
    let upper_half = size / 2 / MIB..size / MIB;
    for piece in upper_half.clone() {
        client.write(piece * MIB, &zeroes).expect("it is written");
    }
    drop(client);
    copy_everything(&pair, 2);
    let (same, zeroes) = unsent(&pair.beta);
    assert_eq!(same, 0, "nobody has asked for a comparison");
    let written = (upper_half.end - upper_half.start) * MIB;
    assert!(
        zeroes <= written && zeroes > written / 2,
        "{zeroes} of {written}"
    );
    let space = |node: &Node| {
        let facts = std::fs::metadata(node.disk(0)).expect("it has a disk");
        facts.blocks() * 512
    };
    assert!(space(&pair.beta) <= space(&pair.alpha));
    for node in pair.nodes() {
        node.stop();
    }
    pair.assert_equal();
}

const MIB: u64 = 1 << 20;
