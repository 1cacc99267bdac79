//! A volume grows only where both copies are whole and nothing else changes, and only by the answer
//! to what was asked.

use alloc::vec;

use rbd_protocol::control::{RefusalCode, ResourceConfig};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::sizes::{LARGE, RESIZE, asked_of_peer, external, measure, peer_answers, roomy, size};
use super::{Bench, SIZE, VOLUME, config};
use crate::Command;

fn before_growth(config: ResourceConfig) -> Bench {
    let mut bench = Bench::alone(config, roomy());
    bench.meet(|_| {});
    bench.asked.clear();
    bench
}

/// Whether the peer is told at once that this node does not grow now.
fn is_turned_away(bench: &mut Bench, id: u64) -> bool {
    bench.packet(Packet::ResizeRequest {
        id,
        volume: VOLUME,
        capacity: LARGE,
        assume_clean: false,
    });
    let busy = Packet::ResizeReply {
        id,
        volume: VOLUME,
        bytes: 0,
        granted: false,
    };
    bench.sent().contains(&busy)
}

#[test]
fn nobody_grows_with_a_peer_that_lacks_something() {
    let mut bench = before_growth(config());
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::Outdated)],
    });
    let call = bench.command(RESIZE);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNeedsConnection);
    assert!(is_turned_away(&mut bench, 7));
}

#[test]
fn nobody_grows_for_a_peer_while_something_else_changes() {
    let mut growing = before_growth(config());
    growing.command(RESIZE);
    assert!(is_turned_away(&mut growing, 7));
    let mut promoting = before_growth(config());
    promoting.command(Command::Promote { force: false });
    assert!(is_turned_away(&mut promoting, 7));
    assert!(!is_turned_away(&mut before_growth(config()), 7));
}

/// It has grown for another request, if at all, and that is found out over a new link.
#[test]
fn an_answer_to_another_request_grows_nothing() {
    let mut bench = before_growth(config());
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_answers(&mut bench, request + 1, LARGE, false);
    bench.write_metadata();
    assert_eq!(bench.reply(call), None, "it is still waited for");
    peer_answers(&mut bench, request, SIZE, true);
    bench.write_metadata();
    assert_eq!(bench.refusal(call).code, RefusalCode::StateRefusedByPeer);
    assert_eq!(size(&bench), SIZE, "that is no growth");
}

#[test]
fn a_disk_that_never_tells_its_size_is_waited_for_eight_seconds() {
    let mut quiet = config();
    quiet.peers[0].net.ping_interval_ms = 600_000;
    let mut bench = before_growth(quiet);
    let call = bench.command(RESIZE);
    for _ in 0..79 {
        bench.wait_ms(100);
        assert_eq!(bench.reply(call), None);
    }
    bench.wait_ms(100);
    bench.wait_ms(100);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
}
