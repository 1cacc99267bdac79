//! Two nodes in network namespaces of their own: the kernel's view of a cable that is pulled, slow,
//! or carries in one direction only, which no proxy on a loopback device has.

use rbd_tests::process::{Cable, Load, LoadOptions, Pair, Setup};

#[test]
fn a_cable_that_is_pulled_costs_clients_nothing_and_the_rest_is_copied() {
    let name = "a_cable_that_is_pulled_costs_clients_nothing_and_the_rest_is_copied";
    let Some(cable) = Cable::lay(name) else {
        return;
    };
    let mut pair = Pair::primary(Setup::default().on(&cable));
    let load = begin(&mut pair);
    cable.plug(false);
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("alone", |status| !status.is_connected());
    }
    load.let_work(200);
    assert!(pair.alpha.status().out_of_sync() > 0);
    cable.plug(true);
    end(pair, load);
}

#[test]
fn what_carries_one_way_only_is_no_link_whichever_way_it_is() {
    let name = "what_carries_one_way_only_is_no_link_whichever_way_it_is";
    let Some(cable) = Cable::lay(name) else {
        return;
    };
    let mut pair = Pair::primary(Setup::default().on(&cable));
    let load = begin(&mut pair);
    for deaf in [0, 1] {
        cable.deafen(deaf);
        for node in [&pair.alpha, &pair.beta] {
            node.wait_for("alone", |status| !status.is_connected());
        }
        load.let_work(100);
        cable.hear(deaf);
        pair.wait_in_sync();
    }
    end(pair, load);
}

#[test]
fn over_a_slow_cable_everything_arrives_and_a_lost_node_returns() {
    let name = "over_a_slow_cable_everything_arrives_and_a_lost_node_returns";
    let Some(cable) = Cable::lay(name) else {
        return;
    };
    let mut pair = Pair::primary(Setup::default().on(&cable));
    cable.throttle("20mbit");
    let load = begin(&mut pair);
    pair.beta.kill();
    load.let_work(300);
    pair.beta.start();
    pair.beta.ok("up");
    pair.wait_in_sync();
    load.let_work(20);
    cable.open_up();
    end(pair, load);
}

fn begin(pair: &mut Pair) -> Load {
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    load
}

/// All is well, nobody has noticed anything, and both disks are the same.
fn end(mut pair: Pair, load: Load) {
    pair.wait_in_sync();
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}
