//! How long one of two Primaries goes on without a word of the other, and how long that one waits.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fencing::fenced;
use super::two_primaries::with;
use super::{Bench, VOLUME};
use crate::{HandlerResult, LinkLoss, RequestKind};

/// What a Primary waits before it takes the other's word for lost, and a bit more.
const LEASE_MS: u64 = 4_000;

/// Longer than that, whatever the clocks.
const WAIT_MS: u64 = LEASE_MS * 5 / 4;

/// The pause after a handler without a verdict.
const AGAIN_MS: u64 = 30_000;

fn two() -> Bench {
    with(NodeId(0), fenced(Fencing::ResourceAndStonith))
}

/// The questions that have been sent since the last look.
fn questions(bench: &mut Bench) -> Vec<u64> {
    let packets = bench.sent().into_iter();
    let ids = packets.filter_map(|packet| match packet {
        Packet::Ping { id } => Some(id),
        _ => None,
    });
    ids.collect()
}

fn fenced_with(bench: &mut Bench, code: u8) {
    let handler = bench.fence_starts();
    bench.handler_ends(handler, HandlerResult::Exited(code));
    bench.write_metadata();
}

fn peer_says(bench: &mut Bench, role: Role) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
}

#[test]
fn only_that_it_is_off_is_a_verdict_on_another_primary_that_may_still_answer() {
    for (code, at_once, later) in [(4, false, true), (5, false, false), (7, true, true)] {
        let mut bench = two();
        bench.link_down(LinkLoss::Timeout);
        fenced_with(&mut bench, code);
        assert_eq!(bench.is_frozen(), !at_once, "code {code}");
        if !at_once {
            bench.wait_ms(if code == 4 { WAIT_MS } else { AGAIN_MS });
            fenced_with(&mut bench, code);
            assert_eq!(bench.is_frozen(), !later, "code {code}");
        }
    }
}

#[test]
fn a_peer_that_was_never_let_in_or_has_left_answers_nobody() {
    let mut bench = Bench::primary_as(fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    fenced_with(&mut bench, 4);
    assert!(!bench.is_frozen());

    let mut bench = two();
    peer_says(&mut bench, Role::Secondary);
    bench.link_down(LinkLoss::Timeout);
    fenced_with(&mut bench, 4);
    assert!(!bench.is_frozen());
}

#[test]
fn a_peer_that_has_been_let_in_may_have_become_primary_unheard() {
    let mut bench = two();
    peer_says(&mut bench, Role::Secondary);
    bench.packet(Packet::PromoteRequest {
        id: 77,
        migration_ms: 0,
    });
    let reply = |packet: &Packet| matches!(packet, Packet::PromoteReply { granted: true, .. });
    assert!(bench.sent().iter().any(reply));
    peer_says(&mut bench, Role::Secondary); // sent before it has read that
    bench.link_down(LinkLoss::Timeout);
    fenced_with(&mut bench, 4);
    assert!(bench.is_frozen());
}

#[test]
fn one_of_two_primaries_is_silent_when_its_lease_is_over_whatever_it_still_hears() {
    for answers in [true, false] {
        let mut bench = two();
        for _ in 0..8 {
            bench.wait_ms(LEASE_MS / 8);
            for id in questions(&mut bench) {
                if answers {
                    bench.packet(Packet::PingAck { id });
                }
            }
            // What was on its way for long is no sign that the other still counts on this node.
            peer_says(&mut bench, Role::Primary);
        }
        assert_eq!(bench.is_frozen(), !answers);
    }
}

/// As after its machine has stood still.
#[test]
fn a_lease_that_is_over_counts_before_whatever_has_waited_meanwhile() {
    let mut bench = two();
    bench.now = bench.now.plus_ms(LEASE_MS);
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    assert_eq!(bench.answer(read), None);
    assert!(bench.is_frozen());
}
