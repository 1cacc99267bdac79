//! `wait-connect` and `wait-sync`.

use std::sync::atomic::{AtomicUsize, Ordering};

use rbd_protocol::control::{Refusal, RefusalCode, Reply, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use crate::stage::{Stage, healthy};

fn resyncing() -> ResourceStatus {
    let mut status = healthy("r0");
    status.devices[0].disk_state = DiskState::Inconsistent;
    status.connections[0].peer_devices[0].replication_state = ReplicationState::SyncTarget;
    status
}

#[test]
fn waiting_ends_when_the_goal_is_reached() {
    let stage = Stage::new();
    let looks = AtomicUsize::new(0);
    let daemon = stage.daemon(move |_| {
        let early = looks.fetch_add(1, Ordering::SeqCst) < 3;
        Reply::Status(vec![if early { resyncing() } else { healthy("r0") }])
    });
    stage.run("wait-connect r0").expect_code(0);
    assert_eq!(daemon.asked().len(), 1);
    stage.run("wait-sync r0 --timeout 60").expect_code(0);
    assert_eq!(daemon.asked().len(), 4);
}

#[test]
fn a_wait_that_times_out_exits_with_5_and_says_what_is_missing() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|_| Reply::Status(vec![resyncing()]));
    for words in ["wait-sync r0 --timeout 1", "wait-sync r0 --wfc-timeout 1"] {
        let outcome = stage.run(words).expect_code(5);
        assert_eq!(
            outcome.err,
            "r0: timed out after 1 s, beta volume 0 is SyncTarget\n"
        );
    }
}

#[test]
fn a_standalone_peer_ends_the_wait_at_once() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|_| {
        let mut status = healthy("r0");
        status.connections[0].connection_state = ConnectionState::StandAlone;
        Reply::Status(vec![status])
    });
    let outcome = stage.run("wait-connect r0").expect_code(5);
    assert!(
        outcome.err.contains("next: rbdadm connect r0:beta"),
        "{outcome:?}"
    );
    stage
        .run("wait-connect r0 --wait-after-sb --timeout 1")
        .expect_code(5);
}

#[test]
fn waiting_for_what_is_not_up_exits_with_10() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|_| {
        Reply::Refused(Refusal::new(
            RefusalCode::UnknownResource,
            "r0 is not up",
            "",
        ))
    });
    let outcome = stage.run("wait-connect r0").expect_code(10);
    assert_eq!(
        outcome.err,
        "r0: Unknown resource\n  it is not up on this node; rbdadm status lists what is\n"
    );
}
