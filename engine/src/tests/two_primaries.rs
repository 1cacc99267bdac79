//! Two Primaries: every way in which their writes can meet.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode, ResourceConfig};
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{Packet, Place};
use rbd_protocol::state::{DiskState, Role};

use super::fenced_return::without_disk;
use super::fencing::fenced;
use super::parting::drain;
use super::{Bench, VOLUME, config};
use crate::{Command, DiskRequest, HandlerResult, LinkLoss, RequestError, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// This node is Primary, and so is its peer, node 1.
fn as_node(node_id: NodeId) -> Bench {
    with(node_id, config())
}

pub(super) fn with(node_id: NodeId, mut config: ResourceConfig) -> Bench {
    config.node_id = node_id;
    config.peers[0].net.two_primaries = true;
    let mut bench = Bench::primary_as(config);
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    // Its regions are marked.
    for offset in [0, 4 << 20] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
        bench.peer_acks();
    }
    bench.asked.clear();
    bench
}

/// The node whose write is the later one of two that cross.
pub(super) fn lower() -> Bench {
    as_node(NodeId(0))
}

pub(super) fn higher() -> Bench {
    as_node(NodeId(5))
}

/// How many writes have been sent before.
pub(super) const BEFORE: u32 = 2;

/// The peer writes one block, or as many, having seen so many of this node's writes.
pub(super) fn peer_writes(bench: &mut Bench, id: u64, (offset, blocks): (u64, u32), seen: u32) {
    bench.packet(Packet::Write {
        id,
        volume: VOLUME,
        range: ByteRange::new(offset, blocks * 4096),
        fua: false,
        place: Place { seen, behind: 1 },
    });
}

fn acks(bench: &mut Bench) -> Vec<u64> {
    let acks = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::WriteAck { id, .. } => Some(id),
        _ => None,
    });
    acks.collect()
}

fn sent_writes(bench: &mut Bench) -> Vec<(u64, Place)> {
    let writes = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::Write { id, place, .. } => Some((id, place)),
        _ => None,
    });
    writes.collect()
}

fn ack(bench: &mut Bench, id: u64) {
    bench.packet(Packet::WriteAck { id, volume: VOLUME });
}

#[test]
fn the_lower_node_writes_its_own_once_more_over_one_that_crossed_it() {
    let mut bench = lower();
    let own = bench.write(0);
    let id = sent_writes(&mut bench)[0].0;
    assert!(bench.disk(WRITE, Ok(())));
    peer_writes(&mut bench, 70, (0, 2), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
    assert_eq!(acks(&mut bench), []);
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [70]);
    assert_eq!(bench.on_disk(WRITE), 1, "its own once more");
    ack(&mut bench, id);
    assert_eq!(bench.answer(own), None, "the disk has the other's");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(own), Some(Ok(())));
}

#[test]
fn on_the_lower_node_a_crossed_write_waits_for_the_disk_and_no_longer() {
    let mut bench = lower();
    let own = bench.write(0);
    let id = sent_writes(&mut bench)[0].0;
    peer_writes(&mut bench, 70, (0, 2), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 1, "its own");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [70]);
    ack(&mut bench, id);
    assert_eq!(bench.answer(own), None);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(own), Some(Ok(())));
}

#[test]
fn a_crossed_write_that_its_own_covers_is_not_written() {
    let mut bench = lower();
    bench.write(0);
    bench.disk(WRITE, Ok(()));
    bench.sent();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 0);
    assert_eq!(acks(&mut bench), [70]);
}

#[test]
fn a_write_that_has_seen_the_own_one_comes_after_it() {
    let mut bench = lower();
    let own = bench.write(0);
    let id = sent_writes(&mut bench)[0].0;
    peer_writes(&mut bench, 70, (0, 1), BEFORE + 1);
    assert_eq!(bench.on_disk(WRITE), 1, "its own");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 0, "and that is it");
    ack(&mut bench, id);
    assert_eq!(bench.answer(own), Some(Ok(())));
}

#[test]
fn the_lower_node_sends_its_own_at_once_and_writes_it_after_what_had_come() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.write(0);
    let sent = sent_writes(&mut bench);
    assert_eq!(sent[0].1.seen, 1);
    assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [70]);
    assert_eq!(bench.on_disk(WRITE), 1, "its own");
}

#[test]
fn the_higher_node_acknowledges_a_crossed_write_when_its_own_has_been() {
    let mut bench = higher();
    let own = bench.write(0);
    let id = sent_writes(&mut bench)[0].0;
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 1, "its own");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [], "the peer may not have the own one");
    ack(&mut bench, id);
    assert_eq!(acks(&mut bench), [70]);
    assert_eq!(bench.answer(own), Some(Ok(())));
}

#[test]
fn the_higher_node_owes_nothing_for_what_the_peer_had_seen() {
    let mut bench = higher();
    bench.write(0);
    bench.sent();
    bench.disk(WRITE, Ok(()));
    peer_writes(&mut bench, 70, (0, 1), BEFORE + 1);
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [70]);
}

#[test]
fn on_the_higher_node_a_write_waits_for_what_came_before_it_and_goes_before_what_comes_later() {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.write(0);
    assert_eq!(sent_writes(&mut bench), [], "the peer's goes first");
    peer_writes(&mut bench, 71, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    let sent = sent_writes(&mut bench);
    assert_eq!(sent[0].1.seen, 1, "it has not seen what waits for it");
    assert_eq!(bench.on_disk(WRITE), 1, "its own");
    bench.disk(WRITE, Ok(()));
    bench.disk(WRITE, Ok(()));
    assert_eq!(acks(&mut bench), [], "and the peer does not know that");
    ack(&mut bench, sent[0].0);
    assert_eq!(acks(&mut bench), [71]);
}

#[test]
fn what_does_not_overlap_waits_for_nothing() {
    for mut bench in [lower(), higher()] {
        bench.write(0);
        assert_eq!(sent_writes(&mut bench).len(), 1);
        peer_writes(&mut bench, 70, (4096, 1), BEFORE);
        bench.write(8192);
        assert_eq!(sent_writes(&mut bench).len(), 1);
        assert_eq!(bench.on_disk(WRITE), 3);
        for _ in 0..3 {
            bench.disk(WRITE, Ok(()));
        }
        assert_eq!(acks(&mut bench), [70]);
    }
}

#[test]
fn zeroes_and_discards_are_ordered_like_writes() {
    let mut bench = lower();
    bench.write(0);
    bench.disk(WRITE, Ok(()));
    bench.packet(Packet::Zero {
        id: 70,
        volume: VOLUME,
        range: ByteRange::new(0, 8192),
        fua: false,
        discard: true,
        place: Place {
            seen: BEFORE,
            behind: 1,
        },
    });
    let (fua, discard) = (false, true);
    assert!(bench.disk(DiskRequest::Zero { fua, discard }, Ok(())));
    assert_eq!(bench.on_disk(WRITE), 1, "its own once more");
}

#[test]
fn a_read_of_what_the_peer_may_not_have_is_answered_when_it_has() {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    bench.sent();
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.answer(read), None);
    let volume = VOLUME;
    assert!(bench.sent().contains(&Packet::Settle { id: 1, volume }));
    bench.packet(Packet::Settled { id: 1, volume });
    assert_eq!(bench.answer(read), Some(Ok(())));
}

#[test]
fn a_node_that_is_being_demoted_shows_no_such_thing_when_the_peer_is_lost() {
    let mut bench = with(NodeId(5), fenced(Fencing::ResourceAndStonith));
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    bench.command(Command::Demote { force: false });
    assert_eq!(bench.answer(read), None);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.answer(read), Some(Err(RequestError::NotPrimary)));
}

#[test]
fn a_read_of_what_a_later_write_says_the_peer_has_waits_for_nothing() {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    peer_writes(&mut bench, 71, (4096, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.answer(read), Some(Ok(())));
}

#[test]
fn a_node_says_that_it_has_settled_when_its_disk_has() {
    let mut bench = lower();
    bench.write(0);
    bench.sent();
    let (id, volume) = (u64::from(BEFORE) + 1, VOLUME);
    bench.packet(Packet::Settle { id, volume });
    assert_eq!(bench.sent(), []);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.sent(), [Packet::Settled { id, volume }]);
}

#[test]
fn a_count_of_writes_that_were_never_sent_costs_the_link() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE + 1);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

#[test]
fn two_primaries_that_have_begun_nothing_alone_are_joined() {
    let mut bench = lower();
    bench.flush();
    bench.flush_all();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    bench.asked.clear();
    bench.greeted(|own| assert_eq!(own.volumes[0].dirty_blocks, 0));
    assert!(bench.engine.role() == Role::Primary);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn the_second_is_promoted_only_when_both_have_been_told_so() {
    let mut alone = config();
    alone.peers[0].net.two_primaries = true;
    let mut bench = Bench::alone(alone, super::image());
    bench.meet(|hello| {
        hello.two_primaries = false;
        hello.role = Role::Primary;
    });
    let call = bench.command(Command::Promote { force: true });
    let refusal = bench.refusal(call);
    assert!(refusal.reason.contains("has not been told"), "{refusal:?}");
    assert!(refusal.help.contains("rbdadm adjust"), "{refusal:?}");
}

#[test]
fn a_node_that_was_let_go_while_its_promotion_was_recorded_is_no_primary() {
    let mut config = fenced(Fencing::ResourceAndStonith);
    config.peers[0].net.two_primaries = true;
    let mut bench = Bench::in_sync_as(config);
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert!(bench.is_writing_metadata(), "that it is Primary");
    bench.packet(Packet::LeaveReply { outdate: true });
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Secondary);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
    let superblock = bench.superblock.expect("it was written");
    assert!(superblock.flags.outdated && !superblock.flags.primary);
}

#[test]
fn a_link_between_two_primaries_ends_by_force_only() {
    let mut bench = lower();
    let peer = None;
    let call = bench.command(Command::Disconnect { peer, force: false });
    let refusal = bench.refusal(call);
    assert!(refusal.reason.contains("is Primary too"), "{refusal:?}");
    assert_eq!(bench.close_dropped(), None);
    bench.command(Command::Disconnect { peer, force: true });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
}

#[test]
fn options_of_a_link_between_two_primaries_do_not_change() {
    let mut bench = lower();
    let mut told = config();
    told.peers[0].net.two_primaries = true;
    let call = bench.command(Command::Configure(Box::new(told.clone())));
    assert_eq!(bench.reply(call), Some(true), "it is as it was");
    let mut slower = told.clone();
    slower.peers[0].net.ping_interval_ms += 1;
    for changed in [slower, config()] {
        let call = bench.command(Command::Configure(Box::new(changed)));
        let refusal = bench.refusal(call);
        assert!(refusal.reason.contains("is Primary too"), "{refusal:?}");
        assert_eq!(bench.close_dropped(), None);
    }
}

/// What it had begun, its clients wait for; that it was to be told apart from the peer for that, is
/// over: the peer tells now what is newer.
#[test]
fn one_that_is_being_demoted_and_filled_from_the_other_finishes_there_what_it_had_begun() {
    let mut config = config();
    config.node_id = NodeId(5);
    config.peers[0].net.two_primaries = true;
    config.peers[0].net.fencing = Fencing::ResourceAndStonith;
    let mut bench = Bench::primary_as(config);
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.command(Command::Demote { force: false });
    let own = bench.relink().expect("a greeting");
    let generation = bench.superblock.as_ref().expect("written").generation;
    let mut theirs = own;
    theirs.incarnation = 99;
    bench.packet(Packet::Hello(theirs.into()));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.write_metadata();
    let asked = bench.sent().into_iter().any(|packet| {
        let range = ByteRange::new(0, 4096);
        matches!(packet, Packet::RemoteWrite { range: of, .. } if of == range)
    });
    assert!(asked, "the write is done by the peer");
    assert_eq!(bench.answer(write), None);
    let superblock = bench.superblock.expect("written");
    assert_eq!(superblock.generation, generation, "(D5)");
}

#[test]
fn one_of_two_that_is_stopped_says_that_it_is_no_primary_before_it_asks_to_go() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.command(Command::Stop);
    let mut said = Vec::new();
    while bench.on_disk(DiskRequest::Flush) > 0 || bench.is_writing_metadata() {
        said.extend(drain(&mut bench));
        bench.write_metadata();
        said.extend(bench.sent());
    }
    let is_told = |packet: &Packet| match packet {
        Packet::State { role, .. } => *role == Role::Secondary,
        _ => false,
    };
    let told = said.iter().position(is_told);
    let asks = said.iter().position(|packet| *packet == Packet::Leave);
    assert!(told.is_some() && told < asks, "{said:?}");
}

#[test]
fn one_of_two_without_its_disk_is_kept_from_it_before_anything_is_answered() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        without_disk(hello);
        hello.role = Role::Primary;
    });
    bench.wait_ms(1_000);
    let write = bench.write(0);
    let handler = bench.fence_starts();
    assert!(bench.is_frozen(), "its disk may be used by another process");
    bench.handler_ends(handler, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen());
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn what_a_primary_had_sent_before_it_lost_its_disk_costs_nothing() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.write(0);
    peer_writes(&mut bench, 70, (8192, 1), BEFORE);
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::Failed)],
    });
    let (id, volume) = (u64::from(BEFORE) + 1, VOLUME);
    bench.packet(Packet::Settle { id, volume });
    bench.packet(Packet::Settled { id: 1, volume });
    peer_writes(&mut bench, 71, (16384, 1), BEFORE + 1);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn a_disk_is_detached_while_the_other_primary_writes_on() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    let own = bench.write(8192);
    let id = sent_writes(&mut bench)[0].0;
    let (volume, force) = (VOLUME, false);
    let call = bench.command(Command::Detach { volume, force });
    bench.disk(WRITE, Ok(()));
    peer_writes(&mut bench, 71, (16384, 1), BEFORE);
    assert_eq!(
        bench.on_disk(WRITE),
        2,
        "what this node waits for may wait for that"
    );
    ack(&mut bench, id);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(own), Some(Ok(())));
    peer_writes(&mut bench, 72, (16384, 1), BEFORE + 1);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 0, "it is kept back");
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}
