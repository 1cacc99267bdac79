//! What is said and kept when a peer, its disk or its answer is lost, and what must not be taken
//! for an answer.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Divergence, Fencing, RefusalCode};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::policy::{ResyncConflict, SplitPolicies};
use rbd_protocol::state::{DiskState, Role};

use super::diskless::{SHARED, served, whole};
use super::fencing::{fenced, stonith};
use super::fixtures::image_of;
use super::resync::{NEWER, end, target};
use super::split_brain::{changed, changed_too, divergence, resolve, shown, split, told};
use super::two_primaries::with;
use super::{Bench, GENERATION, PEER, SIZE, VOLUME, config, image};
use crate::{Command, DiskRequest, Handler, HandlerResult, LinkLoss};

const PROMOTE: Command = Command::Promote { force: false };

fn says(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

/// Greets as a peer whose data has nothing to do with this node's.
fn unrelated(hello: &mut Hello) {
    changed_too(hello);
    hello.volumes[0].bitmap = GenerationId::NONE;
    hello.volumes[0].history = vec![GenerationId(0x9999)];
}

#[test]
fn a_write_the_peer_had_not_answered_when_its_disk_failed_waits_for_the_verdict() {
    let mut bench = stonith();
    let before = bench.generation();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    says(&mut bench, Role::Secondary, DiskState::Diskless);
    assert!(bench.is_frozen());
    bench.end_metadata();
    assert_eq!(bench.generation(), before, "none begins before the verdict");
    bench.wait_ms(1_000);
    let fence = bench.fence_starts();
    assert_eq!(bench.answer(write), None);
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
}

/// The other goes on answering for as long as its lease lasts, by a clock that may be slower.
#[test]
fn another_primary_is_given_longer_than_its_lease_to_notice() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    for _ in 0..49 {
        bench.wait_ms(100);
        bench.write_metadata();
        assert_eq!(bench.handler(), None);
        assert!(bench.is_frozen());
    }
    bench.wait_ms(100);
    bench.fence_starts();
}

#[test]
fn who_is_not_known_to_have_everything_pledges_nothing() {
    let mut bench = Bench::in_sync();
    says(&mut bench, Role::Secondary, DiskState::Outdated);
    bench.sent();
    bench.packet(Packet::InvalidateRequest {
        id: 5,
        volume: VOLUME,
        sender_loses: true,
        marked_only: false,
    });
    let refused = Packet::InvalidateReply {
        id: 5,
        volume: VOLUME,
        granted: false,
    };
    assert_eq!(bench.sent(), [refused]);
}

/// Whoever has asked has been told that nothing was changed.
#[test]
fn a_question_is_forgotten_with_its_link() {
    let mut bench = Bench::alone(config(), image());
    bench.write_metadata();
    bench.greeted(|_| {});
    assert!(bench.is_writing_metadata(), "it is in sync");
    bench.packet(Packet::InvalidateRequest {
        id: 5,
        volume: VOLUME,
        sender_loses: false,
        marked_only: false,
    });
    bench.link_down(LinkLoss::Closed);
    bench.meet(|_| {});
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn the_source_is_told_that_its_target_is_whole() {
    let mut bench = target();
    bench.packet(end(NEWER));
    let mut said = Vec::new();
    for _ in 0..8 {
        bench.disk(DiskRequest::Flush, Ok(()));
        bench.end_metadata();
        for packet in bench.sent() {
            match packet {
                Packet::Flush { id, volume } => bench.packet(Packet::FlushAck { id, volume }),
                other => said.push(other),
            }
        }
    }
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let is_whole = |packet: &Packet| match packet {
        Packet::State { disks, .. } => disks.contains(&(VOLUME, DiskState::UpToDate)),
        _ => false,
    };
    assert!(said.iter().any(is_whole), "{said:?}");
}

#[test]
fn what_is_read_for_a_peer_takes_room_of_its_link() {
    let mut bench = Bench::primary();
    let empty = bench.engine.link_room(PEER);
    let (id, volume, range) = (7, VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::RemoteRead { id, volume, range });
    let room = bench.engine.link_room(PEER);
    assert_eq!(room.requests, empty.requests - 1);
    assert_eq!(room.bytes, empty.bytes - 4096);
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.engine.link_room(PEER), empty);
}

#[test]
fn a_split_brain_is_called_so_only_where_both_have_changes_and_also_when_it_comes_later() {
    let mut bench = changed(told(SplitPolicies::default(), ResyncConflict::Disconnect));
    bench.meet(unrelated);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert_eq!(divergence(&bench), Some(Divergence::Unknown));
    assert_eq!(bench.handlers(), []);
    bench.meet(changed_too);
    assert_eq!(
        bench.handlers(),
        [Handler::InitialSplitBrain, Handler::SplitBrain]
    );
}

#[test]
fn volumes_that_each_node_has_changed_one_of_make_a_split_brain() {
    let mut bench = Bench::of_two_volumes(config());
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        let [first, second] = &mut hello.volumes[..] else {
            return;
        };
        first.current = GENERATION;
        first.bitmap = GenerationId::NONE;
        second.bitmap = second.current;
        second.current = GenerationId(0x3000);
        for volume in [first, second] {
            volume.history.clear();
            volume.disk = DiskState::UpToDate;
        }
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert_eq!(divergence(&bench), Some(Divergence::Both));
}

#[test]
fn what_would_be_given_up_is_not_told_while_it_may_grow() {
    for command in [PROMOTE, Command::Stop] {
        let mut bench = split();
        bench.write_metadata();
        bench.engine.changes(PEER, VOLUME, 0).expect("it is told");
        bench.command(command);
        let refusal = bench.engine.changes(PEER, VOLUME, 0);
        let code = refusal.expect_err("its role is changing").code;
        assert_eq!(code, RefusalCode::StateTransient);
    }
}

#[test]
fn a_stop_keeps_nobody_from_letting_io_go_on() {
    let mut bench = Bench::in_sync();
    bench.command(Command::Stop);
    for command in [Command::SuspendIo, Command::ResumeIo] {
        let call = bench.command(command);
        assert_eq!(bench.reply(call), Some(true));
    }
}

#[test]
fn a_primary_that_is_stopped_says_that_it_is_demoted_and_a_secondary_does_not() {
    for (mut bench, is_said) in [(Bench::primary(), true), (Bench::in_sync(), false)] {
        bench.command(Command::Stop);
        let told = bench.reports();
        let said = told.iter().any(|text| text.contains("demoted first"));
        assert_eq!(said, is_said, "{told:?}");
    }
}

#[test]
fn a_disk_with_data_that_is_larger_than_clients_know_is_not_taken_under_them() {
    let mut bench = served();
    let call = bench.attach(image_of(2 * SIZE));
    assert_eq!(bench.refusal(call).code, RefusalCode::DiskTooSmall);
}

/// The next peer that serves its clients must have what they have seen.
#[test]
fn a_node_promoted_without_a_disk_says_what_its_clients_have_seen() {
    let mut bench = Bench::bare(config());
    bench.connect();
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    bench.command(PROMOTE);
    bench.consent();
    assert_eq!(bench.engine.role(), Role::Primary);
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].current, SHARED);
}

#[test]
fn whoever_breaks_the_protocol_is_named() {
    let mut bench = Bench::primary();
    bench.packet(Packet::Outdated);
    let told = bench.reports();
    assert!(
        told.iter().any(|text| text.starts_with("beta sent")),
        "{told:?}"
    );
}

#[test]
fn that_a_peer_is_behind_is_known_after_a_restart() {
    for outdated in [true, false] {
        let mut image = image();
        image.superblock.peers[0].flags.peer_outdated = outdated;
        let bench = Bench::alone(config(), image);
        let disk = if outdated {
            DiskState::Outdated
        } else {
            DiskState::DUnknown
        };
        assert_eq!(bench.peer_disk(), disk);
    }
}

fn invalidate_remote(bench: &mut Bench) -> crate::CallId {
    bench.command(Command::Invalidate {
        volume: VOLUME,
        peer: None,
        remote: true,
        marked_only: false,
        force: false,
    })
}

#[test]
fn who_has_asked_the_peer_to_give_up_its_data_pledges_to_keep_its_own() {
    let mut bench = Bench::in_sync();
    invalidate_remote(&mut bench);
    bench.sent();
    bench.packet(Packet::InvalidateRequest {
        id: 5,
        volume: VOLUME,
        sender_loses: true,
        marked_only: false,
    });
    let granted = Packet::InvalidateReply {
        id: 5,
        volume: VOLUME,
        granted: true,
    };
    assert_eq!(bench.sent(), [granted], "both want the same");
}

#[test]
fn nobody_asks_for_the_only_data_to_be_given_up() {
    let mut fresh = image();
    fresh.superblock.generation = GenerationId::JUST_CREATED;
    fresh.superblock.flags.consistent = false;
    fresh.superblock.flags.was_up_to_date = false;
    fresh.superblock.peers[0].flags.full_sync = true;
    let mut bench = Bench::alone(config(), fresh);
    bench.meet(|_| {});
    bench.sent();
    let call = invalidate_remote(&mut bench);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
    assert_eq!(bench.sent(), []);
}

/// This node has gone on by force from older data, and then been demoted.
#[test]
fn where_only_the_peer_has_changes_an_order_can_keep_no_others() {
    let mut bench = Bench::alone(config(), image());
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    let own = bench.generation();
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].current = GenerationId(0x3000);
        hello.volumes[0].bitmap = own;
        hello.volumes[0].disk = DiskState::UpToDate;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert_eq!(divergence(&bench), Some(Divergence::Peer));
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    let seen = shown(&bench);
    let call = resolve(&mut bench, true, seen.clone());
    assert_eq!(bench.refusal(call).code, RefusalCode::InvalidRequest);
    let call = resolve(&mut bench, false, seen);
    assert_eq!(bench.reply(call), Some(true));
}
