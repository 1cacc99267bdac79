//! The wire between the nodes is cut, held up and damaged under load: clients notice at most a
//! pause, and both nodes end up with the same.

use rbd_tests::process::{Chance, LoadOptions, Pair, Setup, unless, wait_until};

#[test]
fn a_flipped_bit_costs_the_link_and_nothing_else() {
    damaged_under_load(|pair, wire, chance| {
        pair.wires[wire].flip_a_bit(chance.below(1 << 20));
    });
}

#[test]
fn a_link_that_ends_in_the_middle_of_a_packet_is_opened_anew() {
    damaged_under_load(|pair, wire, chance| {
        pair.wires[wire].cut_off(chance.below(1 << 20));
    });
}

#[test]
fn a_cut_wire_is_survived_and_the_difference_resynced() {
    let mut pair = Pair::primary(Setup::default().proxied());
    let load = pair.load("alpha", LoadOptions::default());
    for _ in 0..3 {
        load.let_work(200);
        pair.cut();
        pair.alpha
            .wait_for("alone", |status| !status.is_connected());
        load.let_work(200);
        pair.mend();
        pair.wait_in_sync();
    }
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_wire_that_moves_nothing_is_noticed_and_given_up() {
    let mut pair = Pair::primary(Setup::default().proxied());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    for wire in &pair.wires {
        wire.stall();
    }
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("alone", |status| !status.is_connected());
    }
    load.let_work(200);
    pair.mend();
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

#[test]
fn connections_that_end_many_times_a_second_end_in_equal_disks() {
    let mut pair = Pair::primary(Setup::default().proxied());
    let load = pair.load("alpha", LoadOptions::default());
    let mut chance = Chance::new(Chance::seed());
    for _ in 0..30 {
        load.let_work(1 + chance.below(60));
        for wire in &pair.wires {
            wire.reset();
        }
    }
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.finish();
}

fn damaged_under_load(damage: impl Fn(&Pair, usize, &mut Chance)) {
    let mut pair = Pair::primary(Setup::default().proxied());
    let load = pair.load("alpha", LoadOptions::default());
    let mut chance = Chance::new(Chance::seed());
    for _ in 0..4 {
        // Which of the two wires carries the link depends on who dialled.
        let before: u64 = pair.wires.iter().map(|wire| wire.damaged()).sum();
        for wire in 0..pair.wires.len() {
            damage(&pair, wire, &mut chance);
        }
        wait_until("damage was done", || {
            let after: u64 = pair.wires.iter().map(|wire| wire.damaged()).sum();
            unless(after > before, || format!("{} answered", load.answered()))
        });
        pair.wait_in_sync();
    }
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}
