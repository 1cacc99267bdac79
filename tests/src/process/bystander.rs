//! A client that goes on writing while something bad is done to somebody else.

use std::time::Duration;

use super::{LoadOptions, Pair};

/// Does `harm` to a pair whose alpha is Primary and written to all the time. Afterwards the writers
/// must not have noticed anything, both daemons must live, and both disks must be equal.
///
/// # Panics
/// When anything is not so.
pub fn undisturbed(mut pair: Pair, harm: impl FnOnce(&mut Pair)) {
    let options = LoadOptions {
        pause: Duration::from_millis(1),
        ..LoadOptions::default()
    };
    let load = pair.load("alpha", options);
    load.let_work(50);
    harm(&mut pair);
    load.let_work(100);
    load.stop(&mut pair.ledger).assert_undisturbed();
    for node in pair.nodes() {
        assert!(node.is_alive(), "{}'s daemon has died", node.name());
        let log = node.log();
        assert!(
            !log.contains("panicked"),
            "{}: {}",
            node.name(),
            node.log_end()
        );
    }
    pair.wait_in_sync();
    pair.verify("alpha");
    pair.finish();
}
