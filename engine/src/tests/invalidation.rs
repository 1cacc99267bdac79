//! Data declared bad by command: on one node, and never on both.

use rbd_protocol::control::RefusalCode;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::{Bench, SIZE, VOLUME};
use crate::{CallId, Command, LinkLoss};

fn invalidate(remote: bool, force: bool) -> Command {
    Command::Invalidate {
        volume: VOLUME,
        peer: None,
        remote,
        marked_only: false,
        force,
    }
}

/// The question the peer has been asked, and whether this node would lose.
fn asked(bench: &mut Bench) -> Option<(u64, bool)> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::InvalidateRequest {
            id, sender_loses, ..
        } => Some((id, sender_loses)),
        _ => None,
    })
}

fn answered(bench: &mut Bench) -> Option<bool> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::InvalidateReply { granted, .. } => Some(granted),
        _ => None,
    })
}

fn reply(bench: &mut Bench, id: u64, granted: bool) {
    let volume = VOLUME;
    bench.packet(Packet::InvalidateReply {
        id,
        volume,
        granted,
    });
}

fn peer_asks(bench: &mut Bench, sender_loses: bool) {
    bench.packet(Packet::InvalidateRequest {
        id: 77,
        volume: VOLUME,
        sender_loses,
        marked_only: false,
    });
}

fn refused(bench: &mut Bench, command: Command) -> RefusalCode {
    let call = bench.command(command);
    bench.refusal(call).code
}

/// A node whose data is being declared bad, with the peer's word that it keeps its own.
fn pledged() -> (Bench, CallId) {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(false, false));
    let (id, own) = asked(&mut bench).expect("the peer answers for the data first");
    assert!(own);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    reply(&mut bench, id, true);
    (bench, call)
}

#[test]
fn own_data_is_given_up_when_the_peer_has_pledged_to_keep_its_own() {
    let (mut bench, call) = pledged();
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    assert_eq!(bench.reply(call), None, "answered when it is durable");
    assert_eq!(bench.out_of_sync_bytes(), SIZE);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    let superblock = bench.superblock.clone().expect("recorded");
    assert!(!superblock.flags.consistent && superblock.peers[0].flags.full_sync);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    let hello = bench.relink().expect("greets");
    assert_eq!(hello.volumes[0].disk, DiskState::Inconsistent);
}

#[test]
fn only_the_answer_to_this_question_counts() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(false, false));
    let (id, _) = asked(&mut bench).expect("the peer answers for the data first");
    for granted in [true, false] {
        reply(&mut bench, id + 1, granted);
        assert_eq!(bench.reply(call), None);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
    }
    reply(&mut bench, id, false);
    assert_eq!(bench.reply(call), Some(false));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn the_peer_does_not_hear_of_it_before_it_is_durable() {
    let (mut bench, _) = pledged();
    bench.close_dropped();
    bench.sent();
    bench.link_up();
    assert!(bench.sent().is_empty(), "not even a greeting");
    bench.write_metadata();
    assert!(!bench.sent().is_empty());
}

#[test]
fn own_data_is_kept_when_the_peer_does_not_answer_for_it() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(false, false));
    let (id, _) = asked(&mut bench).expect("asked");
    reply(&mut bench, id, false);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateRefusedByPeer);
    let call = bench.command(invalidate(false, false));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
    bench.meet(|_| {});
    let call = bench.command(invalidate(false, false));
    for _ in 0..4 {
        bench.wait_ms(2_500);
        bench.packet(Packet::Ping { id: 1 });
    }
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
    let (id, _) = asked(&mut bench).expect("asked");
    reply(&mut bench, id, true);
    assert_eq!(bench.disk_state(), DiskState::UpToDate, "too late");
}

#[test]
fn without_a_keeper_only_force_gives_up_the_data() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    let code = refused(&mut bench, invalidate(false, false));
    assert_eq!(code, RefusalCode::StateNoUpToDateData);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let call = bench.command(invalidate(false, true));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    let call = bench.command(invalidate(false, false));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true), "what is no copy may be lost");
}

#[test]
fn a_primary_gives_up_nothing_even_by_force() {
    let mut bench = Bench::primary();
    let code = refused(&mut bench, invalidate(false, true));
    assert_eq!(code, RefusalCode::StateNoUpToDateData);
    peer_asks(&mut bench, false);
    assert_eq!(answered(&mut bench), Some(false));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_disk_a_primary_lives_on_is_not_given_up_even_by_force() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 5,
        disks: alloc::vec![(VOLUME, DiskState::Diskless)],
    });
    let code = refused(&mut bench, invalidate(false, true));
    assert_eq!(code, RefusalCode::StateNoUpToDateData);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn of_two_commands_at_once_neither_gives_up_anything() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(false, false));
    let (id, _) = asked(&mut bench).expect("asked");
    peer_asks(&mut bench, true);
    assert_eq!(answered(&mut bench), Some(false), "it is giving up its own");
    reply(&mut bench, id, false);
    assert_eq!(bench.reply(call), Some(false));
    let call = bench.command(invalidate(true, false));
    peer_asks(&mut bench, false);
    assert_eq!(answered(&mut bench), Some(false), "it keeps its own");
    assert_eq!(bench.reply(call), None);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn who_has_pledged_to_keep_its_data_does_so_until_the_link_is_gone() {
    let mut bench = Bench::in_sync();
    peer_asks(&mut bench, true);
    assert_eq!(answered(&mut bench), Some(true));
    peer_asks(&mut bench, false);
    assert_eq!(answered(&mut bench), Some(false));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|_| {});
    bench.sent();
    peer_asks(&mut bench, false);
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    assert_eq!(answered(&mut bench), None, "the next greeting tells");
}

#[test]
fn the_peer_has_given_up_its_data_when_its_greeting_says_so() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(true, false));
    let (_, own) = asked(&mut bench).expect("asked");
    assert!(!own);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.reply(call), None);
    bench.meet(|hello| {
        hello.volumes[0].disk = DiskState::Inconsistent;
        hello.volumes[0].dirty_blocks = SIZE / 4096;
    });
    assert_eq!(bench.reply(call), Some(true));
    let peer_device = &bench.connection().peer_devices[0];
    assert_eq!(peer_device.replication_state, ReplicationState::WFBitMapS);
    let code = refused(&mut bench, invalidate(false, false));
    assert_eq!(code, RefusalCode::StateSyncActive);
}

#[test]
fn only_the_answer_to_this_question_says_that_the_peer_keeps_its_data() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(true, false));
    let (id, _) = asked(&mut bench).expect("asked");
    reply(&mut bench, id + 1, false);
    assert_eq!(bench.reply(call), None);
    reply(&mut bench, id, false);
    assert_eq!(bench.reply(call), Some(false));
}

#[test]
fn a_peer_that_comes_back_with_its_data_has_not_given_it_up() {
    let mut bench = Bench::in_sync();
    let call = bench.command(invalidate(true, false));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|_| {});
    assert_eq!(bench.reply(call), Some(false));
}

#[test]
fn nobody_but_a_secondary_in_sync_is_asked_to_give_up_its_data() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 5,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    let code = refused(&mut bench, invalidate(true, false));
    assert_eq!(code, RefusalCode::StateRefusedByPeer);
    bench.link_down(LinkLoss::Closed);
    let code = refused(&mut bench, invalidate(true, false));
    assert_eq!(code, RefusalCode::StateNeedsConnection);
}
