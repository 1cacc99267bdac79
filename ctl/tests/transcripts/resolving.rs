//! `resolve`: what is asked of the daemon, in which order, and what is said about it.

use std::sync::{Arc, Mutex};

use rbd_protocol::control::{
    Divergence, RefusedPeer, RefusedVolume, Request, ResourceStatus, Shown,
};
use rbd_protocol::ids::{GenerationId, VolumeNumber};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use crate::stage::{Stage, StandIn, healthy, status_of};

/// What comes of an order to resolve.
#[derive(Clone, Copy)]
enum Outcome {
    Heals,
    Refuses,
}

pub(crate) fn split(divergence: Divergence) -> ResourceStatus {
    let mut status = healthy("r0");
    let connection = &mut status.connections[0];
    connection.connection_state = ConnectionState::StandAlone;
    connection.note = "Split-Brain detected but unresolved, dropping connection!".to_owned();
    connection.peer_devices[0].out_of_sync_bytes = 4096;
    connection.refused = Some(RefusedPeer {
        told_ms_ago: 60_000,
        role: Role::Secondary,
        tenure: 5,
        divergence,
        was_ordered: false,
        loses_by_policy: None,
        volumes: vec![RefusedVolume {
            volume: VolumeNumber(0),
            divergence: Divergence::Both,
            disk_state: DiskState::UpToDate,
            generation: GenerationId(7),
            changed_bytes: 8192,
            own_since: 0,
            peer_since: 0,
            is_exact: true,
        }],
    });
    status
}

/// A daemon in this state, which finds the split brain when told to connect.
fn daemon(stage: &Stage, first: ResourceStatus, outcome: Outcome) -> StandIn {
    let state = Arc::new(Mutex::new(first));
    stage.daemon(move |request| {
        let mut state = state.lock().unwrap();
        match (request, outcome) {
            (Request::Connect { .. }, _) => {
                if state.connections[0].refused.is_none() {
                    let role = state.role;
                    *state = split(Divergence::Both);
                    state.role = role;
                }
                told_now(&mut state);
            }
            (Request::Demote { .. }, _) => state.role = Role::Secondary,
            (Request::Resolve { .. }, Outcome::Heals) => *state = healthy("r0"),
            (Request::Resolve { .. }, Outcome::Refuses) => {
                told_now(&mut state).was_ordered = true;
            }
            _ => {}
        }
        status_of(&[state.clone()], request)
    })
}

fn told_now(status: &mut ResourceStatus) -> &mut RefusedPeer {
    let refused = status.connections[0].refused.as_mut().unwrap();
    refused.told_ms_ago = 0;
    refused
}

fn orders(daemon: &StandIn) -> Vec<Request> {
    let mut asked = daemon.asked();
    asked.retain(|request| !matches!(request, Request::Status { .. }));
    asked
}

fn connect() -> Request {
    Request::Connect {
        resource: "r0".to_owned(),
        peer: Some("beta".to_owned()),
        discard_my_data: false,
        tentative: false,
    }
}

fn resolve(keep_own: bool) -> Request {
    Request::Resolve {
        resource: "r0".to_owned(),
        peer: "beta".to_owned(),
        keep_own,
        shown: Shown {
            own_tenure: 9,
            tenure: 5,
            generations: vec![(VolumeNumber(0), GenerationId(7))],
        },
        saved: Vec::new(),
    }
}

#[test]
fn a_dry_run_says_what_would_be_lost_and_changes_nothing() {
    let stage = Stage::new();
    let daemon = daemon(&stage, split(Divergence::Both), Outcome::Heals);
    let outcome = stage
        .run("resolve r0 --keep alpha --dry-run")
        .expect_code(0);
    let expected = "\
r0: volume 0: what beta changed is lost, 8 KiB in 2 block(s); at most 12 KiB are copied
rbdd resolve r0:beta discard:peer
";
    assert_eq!(outcome.out, expected);
    assert_eq!(orders(&daemon), []);
}

#[test]
fn the_winner_orders_and_waits_until_it_is_done() {
    let stage = Stage::new();
    let daemon = daemon(&stage, split(Divergence::Both), Outcome::Heals);
    let outcome = stage.run("resolve r0 --keep alpha").expect_code(0);
    assert!(outcome.out.contains("the split brain with beta has ended"));
    assert_eq!(orders(&daemon), [connect(), resolve(true)]);
}

#[test]
fn a_loser_that_is_primary_is_demoted_first() {
    let stage = Stage::new();
    let mut status = split(Divergence::Both);
    status.role = Role::Primary;
    let daemon = daemon(&stage, status, Outcome::Heals);
    stage.run("resolve r0 --keep beta --force").expect_code(0);
    let demote = Request::Demote {
        resource: "r0".to_owned(),
        force: true,
    };
    assert_eq!(orders(&daemon), [connect(), demote, resolve(false)]);
}

#[test]
fn a_split_brain_that_is_not_known_yet_is_looked_for_first() {
    let stage = Stage::new();
    let mut alone = split(Divergence::Both);
    alone.connections[0].refused = None;
    let daemon = daemon(&stage, alone, Outcome::Heals);
    let outcome = stage.run("resolve r0 --keep beta -d").expect_code(0);
    assert!(
        outcome
            .out
            .contains("is not known until the nodes have met")
    );
    assert_eq!(orders(&daemon), []);
    let outcome = stage.run("resolve r0 --keep beta").expect_code(0);
    assert!(
        outcome
            .out
            .contains("what this node changed is lost, 4 KiB")
    );
    assert_eq!(orders(&daemon), [connect(), resolve(false)]);
}

#[test]
fn a_peer_that_is_primary_is_not_ordered_anything() {
    let stage = Stage::new();
    let mut status = split(Divergence::Both);
    status.connections[0].refused.as_mut().unwrap().role = Role::Primary;
    let daemon = daemon(&stage, status, Outcome::Heals);
    let outcome = stage.run("resolve r0 --keep alpha").expect_code(11);
    let expected = "\
r0: State change failed: (-10) State change was refused by peer node
  beta is Primary: its data is in use; on beta: rbdadm resolve r0 --keep alpha
";
    assert_eq!(outcome.err, expected);
    assert!(outcome.out.contains("what beta changed is lost"));
    assert_eq!(orders(&daemon), [connect()]);
}

#[test]
fn an_order_that_was_not_enough_ends_the_wait() {
    let stage = Stage::new();
    let daemon = daemon(&stage, split(Divergence::Both), Outcome::Refuses);
    let outcome = stage.run("resolve r0 --keep alpha").expect_code(11);
    assert!(outcome.err.contains("Split-Brain detected"), "{outcome:?}");
    assert_eq!(orders(&daemon), [connect(), resolve(true)]);
}

#[test]
fn what_is_no_split_brain_is_not_resolved() {
    let stage = Stage::new();
    for (divergence, keep) in [
        (Divergence::Unknown, "alpha"),
        (Divergence::Neither, "beta"),
        (Divergence::Own, "beta"),
        (Divergence::Peer, "alpha"),
    ] {
        let daemon = daemon(&stage, split(divergence), Outcome::Heals);
        let words = format!("resolve r0 --keep {keep}");
        let outcome = stage.run(&words).expect_code(10);
        assert!(outcome.err.contains("rbdadm explain r0"), "{outcome:?}");
        assert_eq!(orders(&daemon), [connect()]);
    }
    let _daemon = daemon(&stage, healthy("r0"), Outcome::Heals);
    let outcome = stage.run("resolve r0 --keep beta").expect_code(0);
    assert_eq!(outcome.out, "r0: connected to beta: no split brain\n");
    let outcome = stage.run("resolve r0 --keep gamma").expect_code(1);
    let expected = "Not a valid connection (r0:gamma) for this host\n";
    assert_eq!(outcome.err, expected);
}

#[test]
fn resolve_needs_to_be_told_whom_to_keep() {
    let stage = Stage::new();
    let outcome = stage.run("resolve r0").expect_code(1);
    assert!(outcome.err.contains("--keep"), "{outcome:?}");
    stage.run("resolve r0/0 --keep alpha").expect_code(1);
}
