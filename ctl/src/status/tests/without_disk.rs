//! What is said on a node whose disk has failed.

use rbd_protocol::state::DiskState;

use super::super::advice::advice;
use super::super::sample::healthy;

#[test]
fn who_has_lost_its_disk_is_told_to_mend_that_and_not_the_connection() {
    let mut status = healthy();
    status.connections[0].peer_devices[0].out_of_sync_bytes = 24 << 20;
    assert_eq!(advice(&status).len(), 1, "with a disk that is a trouble");
    status.devices[0].disk_state = DiskState::Diskless;
    let lines = advice(&status);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("volume 0 Diskless: "), "{lines:?}");
}
