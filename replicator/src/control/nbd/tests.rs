//! What clients are offered while a resource does not answer.

use std::time::Duration;

use rbd_protocol::nbd::Exports;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::exports::{Door, Snapshot};
use crate::control::fixtures;

#[test]
fn a_resource_that_does_not_answer_leaves_clients_of_others_time_to_negotiate() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = fixtures::daemon(directory.path());
    let _nobody_takes_them = fixtures::add_without_thread(&daemon, directory.path(), "r0");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let start = Instant::now();
        // As often as the exports are looked at for one client.
        for _ in 0..3 {
            let exports = Snapshot::take(&daemon, Door::Unix).await;
            let [(_, told)] = &exports.list()[..] else {
                panic!("one export")
            };
            assert!(told.contains("did not answer"), "{told}");
        }
        // Of time as the runtime counts it, which passes when everybody waits.
        assert!(start.elapsed() < Duration::from_secs(9));
    });
}
