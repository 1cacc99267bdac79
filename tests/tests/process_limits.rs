//! Daemons that are given too few descriptors or too little memory: that costs the client who comes
//! too late, or the daemon, and never the data.

use std::time::Duration;

use rbd_tests::nbd_client::Client;
use rbd_tests::process::{LoadOptions, Pair, Setup, lacks, unless, wait_until};

#[test]
fn more_clients_than_descriptors_cost_only_the_clients_that_come_too_late() {
    let name = "more_clients_than_descriptors_cost_only_the_clients_that_come_too_late";
    if lacks(name, &["prlimit"]) {
        return;
    }
    let limit = ["prlimit", "--nofile=64", "--"].map(str::to_owned).to_vec();
    let setup = Setup {
        prefixes: [limit.clone(), limit],
        ..Setup::default()
    };
    let mut pair = Pair::primary(setup);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(100);
    // Who comes too late waits in vain for an answer.
    let mut clients = Vec::new();
    let socket = pair.alpha.nbd_socket();
    let patience = Duration::from_secs(5);
    while let Ok(client) = Client::unix(&socket, "r0/0", patience) {
        clients.push(client);
        assert!(clients.len() < 64, "each has a descriptor");
    }
    assert!(!clients.is_empty(), "there is room for some");
    pair.alpha
        .wait_for_log("connections of NBD clients wait, because none can be accepted");
    load.let_work(100);
    // Nor does the link come back to no descriptors.
    pair.beta.kill();
    drop(clients);
    wait_until("room for a client", || {
        unless(pair.alpha.try_open(0).is_ok(), || pair.alpha.log_end())
    });
    pair.beta.start();
    pair.beta.ok("up");
    pair.wait_in_sync();
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

#[test]
fn a_node_without_memory_is_a_lost_node_and_no_lost_data() {
    let name = "a_node_without_memory_is_a_lost_node_and_no_lost_data";
    if lacks(name, &["prlimit"]) {
        return;
    }
    let mut pair = Pair::primary(Setup::default());
    let mut deaths = 0;
    for mebibytes in [8, 16, 20, 24, 28, 32, 40] {
        let limit = format!("--as={}", mebibytes << 20_u32);
        pair.beta.kill();
        pair.beta.run_under(&["prlimit".into(), limit, "--".into()]);
        let options = LoadOptions {
            depth: 32,
            longest: 256,
            ..LoadOptions::default()
        };
        let load = pair.load("alpha", options);
        load.let_work(50);
        if pair.beta.try_start().is_ok() {
            drop(pair.beta.verb("up"));
            load.let_work(500);
        }
        deaths += u32::from(!pair.beta.is_alive());
        load.let_work(100);
        pair.beta.kill();
        pair.beta.run_under(&[]);
        pair.beta.start();
        pair.beta.ok("up");
        pair.wait_in_sync();
        load.stop(&mut pair.ledger).assert_undisturbed();
        pair.verify("alpha");
    }
    assert!(deaths > 0, "it can do with next to nothing");
    pair.finish();
}
