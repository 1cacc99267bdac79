//! Whatever a client writes is on both nodes.

use rbd_tests::process::{LoadOptions, Pair, Setup};

#[test]
fn everything_clients_write_side_by_side_is_on_both_nodes() {
    let mut pair = Pair::primary(Setup::default());
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(2000);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}
