//! When a wait ends, and for how long it lasts, on made-up states.

use std::time::Duration;

use rbd_protocol::ids::GenerationId;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::{Goal, Progress, limit, pause, progress};
use crate::site::Startup;
use crate::status::sample::{healthy, lost_link, resyncing};
use crate::target::Target;

fn r0() -> Target {
    Target::whole("r0")
}

#[test]
fn a_healthy_resource_has_reached_both_goals() {
    for goal in [Goal::Connected, Goal::InSync] {
        assert_eq!(progress(&healthy(), &r0(), goal, false), Progress::Reached);
    }
}

#[test]
fn a_resource_without_peers_has_reached_both_goals() {
    let mut status = healthy();
    status.connections.clear();
    for goal in [Goal::Connected, Goal::InSync] {
        assert_eq!(progress(&status, &r0(), goal, false), Progress::Reached);
    }
}

#[test]
fn a_peer_out_of_reach_is_waited_for() {
    let state = progress(&lost_link(), &r0(), Goal::Connected, false);
    assert_eq!(state, Progress::Waiting("beta is Connecting".to_owned()));
}

#[test]
fn a_connection_whose_volume_does_not_replicate_yet_is_waited_for() {
    let mut status = healthy();
    status.connections[0].peer_devices[0].replication_state = ReplicationState::Off;
    let state = progress(&status, &r0(), Goal::Connected, false);
    assert!(matches!(state, Progress::Waiting(_)), "{state:?}");
}

#[test]
fn a_resync_is_connected_but_not_in_sync() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Inconsistent;
    status.connections[0].peer_devices = vec![resyncing(
        0,
        ReplicationState::SyncTarget,
        DiskState::UpToDate,
    )];
    let connected = progress(&status, &r0(), Goal::Connected, false);
    assert_eq!(connected, Progress::Reached);
    let in_sync = progress(&status, &r0(), Goal::InSync, false);
    let expected = "beta volume 0 is SyncTarget, 37.50 % done".to_owned();
    assert_eq!(in_sync, Progress::Waiting(expected));
}

#[test]
fn two_inconsistent_disks_are_not_in_sync() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Inconsistent;
    status.connections[0].peer_devices[0].peer_disk_state = DiskState::Inconsistent;
    let state = progress(&status, &r0(), Goal::InSync, false);
    let expected = "beta volume 0 is Inconsistent/Inconsistent".to_owned();
    assert_eq!(state, Progress::Waiting(expected));
}

#[test]
fn a_standalone_peer_is_given_up_unless_it_is_to_be_waited_for() {
    let mut status = lost_link();
    status.connections[0].connection_state = ConnectionState::StandAlone;
    let given_up = progress(&status, &r0(), Goal::Connected, false);
    assert!(matches!(given_up, Progress::GivenUp(_)), "{given_up:?}");
    let waiting = progress(&status, &r0(), Goal::Connected, true);
    assert!(matches!(waiting, Progress::Waiting(_)), "{waiting:?}");
}

#[test]
fn only_the_peer_and_the_volume_named_are_waited_for() {
    let mut status = healthy();
    let mut gone = lost_link().connections.remove(0);
    gone.name = "gamma".to_owned();
    status.connections.push(gone);
    let beta = Target::parse("r0:beta").unwrap();
    let reached = progress(&status, &beta, Goal::InSync, false);
    assert_eq!(reached, Progress::Reached);
    let everybody = progress(&status, &r0(), Goal::InSync, false);
    assert_ne!(everybody, Progress::Reached);
}

#[test]
fn the_time_to_wait_depends_on_how_this_node_went_down() {
    let startup = Startup {
        wfc_timeout: 1,
        degr_wfc_timeout: 2,
        outdated_wfc_timeout: 3,
        wait_after_sb: false,
    };
    let seconds = |number| Some(Duration::from_secs(number));
    let mut status = lost_link();
    assert_eq!(limit(None, startup, &status), seconds(1));
    status.connections[0].peer_devices[0].bitmap_generation = GenerationId(0xABC);
    assert_eq!(limit(None, startup, &status), seconds(2));
    status.devices[0].disk_state = DiskState::Outdated;
    assert_eq!(limit(None, startup, &status), seconds(3));
    assert_eq!(limit(Some(9), startup, &status), seconds(9));
    assert_eq!(limit(None, Startup::default(), &status), None);
}

#[test]
fn a_young_wait_looks_often_and_an_old_one_seldom() {
    assert_eq!(pause(Duration::ZERO), Duration::from_millis(10));
    assert_eq!(pause(Duration::from_millis(640)), Duration::from_millis(20));
    assert_eq!(pause(Duration::from_secs(3600)), Duration::from_millis(150));
}
