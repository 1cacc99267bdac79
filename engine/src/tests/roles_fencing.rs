//! Whom a node fences and when: once, only where it has data to go on with, and never a peer it is
//! just meeting.

use alloc::vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fencing::{fenced, reunited, stonith};
use super::two_primaries::with;
use super::{Bench, VOLUME, diskless, image};
use crate::{Command, DiskError, DiskRequest, Handler, HandlerResult, LinkLoss};

const OFF: HandlerResult = HandlerResult::Exited(7);
const UNREACHABLE: HandlerResult = HandlerResult::Exited(5);

/// The boot the benches run in.
const BOOT: u128 = 7;

/// Longer than a closed link is given to come back.
const GRACE_MS: u64 = 1_000;

fn kept_apart() -> Bench {
    Bench::in_sync_as(fenced(Fencing::ResourceAndStonith))
}

/// Whether the disk says that the handler may have done something to the peer.
fn says_fenced(bench: &Bench) -> bool {
    let written = bench.superblock.as_ref();
    written.expect("it was written").peers[0].flags.fenced
}

/// The peer comes back with nothing new on either side.
fn peer_returns(bench: &mut Bench) {
    bench.meet(|hello| hello.role = Role::Secondary);
}

#[test]
fn it_is_durable_that_the_handler_was_called_before_it_is() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    assert_eq!(bench.handler(), None, "should the node crash now (G6)");
    bench.write_metadata();
    assert!(says_fenced(&bench));
    assert_eq!(
        bench.handler().map(|(_, handler)| handler),
        Some(Handler::FencePeer)
    );
}

#[test]
fn a_secondary_that_loses_its_peer_fences_nobody() {
    let mut bench = kept_apart();
    bench.link_down(LinkLoss::Timeout);
    bench.wait_ms(60_000);
    bench.write_metadata();
    assert_eq!(bench.handler(), None);
    assert!(!bench.is_frozen());
}

#[test]
fn a_primary_that_is_demoted_before_it_has_fenced_its_peer_does_not_any_more() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
    bench.wait_ms(2 * GRACE_MS);
    bench.write_metadata();
    assert_eq!(bench.handler(), None);
}

#[test]
fn nobody_is_fenced_during_a_handshake_but_when_it_fails() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Closed);
    bench.link_up();
    bench.wait_ms(2 * GRACE_MS);
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "it may be back in a moment");
    assert!(bench.is_frozen());
    bench.link_down(LinkLoss::Timeout);
    bench.fence_starts();
}

#[test]
fn a_peer_lost_again_is_not_fenced_twice_at_once() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let first = bench.fence_starts();
    peer_returns(&mut bench);
    assert!(!bench.is_frozen());
    bench.link_down(LinkLoss::Timeout);
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "the first one has not ended");
    assert!(bench.is_frozen());
    bench.handler_ends(first, OFF);
    assert!(bench.is_frozen(), "that was of another loss");
    let second = bench.fence_starts();
    bench.handler_ends(second, OFF);
    bench.write_metadata();
    assert!(!bench.is_frozen());
}

#[test]
fn what_a_handler_did_is_taken_back_only_when_it_has_ended() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    peer_returns(&mut bench);
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "both at once undo each other");
    bench.handler_ends(fence, OFF);
    bench.write_metadata();
    assert_eq!(bench.peer_disk(), DiskState::UpToDate, "it is back");
    let (unfence, handler) = bench.handler().expect("it may have been fenced");
    assert_eq!(handler, Handler::UnfencePeer);
    bench.handler_ends(unfence, HandlerResult::Exited(0));
    bench.write_metadata();
    assert!(!says_fenced(&bench));
}

#[test]
fn a_peer_lost_while_its_fencing_is_taken_back_is_fenced_when_that_has_ended() {
    let mut bench = reunited(fenced(Fencing::ResourceAndStonith));
    let (unfence, _) = bench.handler().expect("it was fenced");
    bench.link_down(LinkLoss::Timeout);
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "both at once undo each other");
    assert!(bench.is_frozen());
    bench.handler_ends(unfence, HandlerResult::Exited(0));
    bench.fence_starts();
    assert!(
        says_fenced(&bench),
        "what is done now is not taken back yet"
    );
}

/// Whoever has decided to go on has decided that for this once.
#[test]
fn a_node_promoted_anew_asks_anew_although_somebody_went_on_without_a_verdict() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.command(Command::ResumeIo);
    bench.handler_ends(fence, HandlerResult::Exited(1));
    assert!(!bench.is_frozen());
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
    let call = bench.command(Command::Promote { force: false });
    bench.fence_starts();
    assert_eq!(bench.reply(call), None);
}

#[test]
fn that_the_peer_cannot_be_reached_is_enough_for_the_one_primary_with_the_newest_data() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, UNREACHABLE);
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_eq!(bench.peer_disk(), DiskState::Outdated);

    // The Primary is lost, and this node is to take over.
    let mut bench = kept_apart();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.link_down(LinkLoss::Timeout);
    let call = bench.command(Command::Promote { force: false });
    let fence = bench.fence_starts();
    bench.handler_ends(fence, UNREACHABLE);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn that_the_peer_cannot_be_reached_says_nothing_to_who_may_not_have_the_newest_data() {
    for (result, done) in [(UNREACHABLE, false), (OFF, true)] {
        let mut kept_power = image();
        kept_power.superblock.boot_id = BOOT;
        let mut bench = Bench::alone(fenced(Fencing::ResourceAndStonith), kept_power);
        assert_eq!(bench.disk_state(), DiskState::Consistent);
        let call = bench.command(Command::Promote { force: false });
        let fence = bench.fence_starts();
        bench.handler_ends(fence, result);
        bench.write_metadata();
        assert_eq!(bench.reply(call), Some(done), "{result:?}");
    }
}

#[test]
fn a_primary_whose_new_disk_is_being_filled_does_not_fence_the_only_data_there_is() {
    let newer = GenerationId(0x2000);
    let mut bench = stonith();
    bench.flush();
    bench.disk(DiskRequest::Flush, Err(DiskError::Io));
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(diskless::whole(&own).into()));
    bench.attach(image());
    let own = bench.relink().expect("a greeting");
    let mut theirs = diskless::whole(&own);
    theirs.volumes[0].current = newer;
    theirs.volumes[0].bitmap = diskless::SHARED;
    bench.packet(Packet::Hello(theirs.into()));
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.asked.clear();
    bench.link_down(LinkLoss::Timeout);
    bench.wait_ms(60_000);
    bench.write_metadata();
    assert_eq!(bench.handler(), None);
    assert!(!bench.is_frozen());
}

#[test]
fn a_peer_that_was_fenced_and_comes_back_behind_keeps_nobody_waiting() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, OFF);
    bench.write_metadata();
    let status = bench.engine.status(bench.now);
    let behind = status.connections[0].peer_devices[0].bitmap_generation;
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::Outdated;
        hello.volumes[0].current = behind;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history.clear();
    });
    assert!(!bench.is_frozen());
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.peer_acks();
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_second_primary_that_was_heard_to_be_secondary_again_is_one_like_any_other() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 9,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, UNREACHABLE);
    bench.write_metadata();
    assert!(!bench.is_frozen());
}

#[test]
fn what_a_handler_without_a_verdict_did_is_told() {
    for (result, said) in [
        (HandlerResult::Exited(42), "exited with 42"),
        (HandlerResult::Failed, "did not end in time"),
        (HandlerResult::Exited(6), "says that the peer is Primary"),
        (OFF, "the peer has been fenced; its disk counts as Outdated"),
    ] {
        let mut bench = stonith();
        bench.link_down(LinkLoss::Timeout);
        let fence = bench.fence_starts();
        bench.handler_ends(fence, result);
        let told = bench.reports();
        assert!(told.iter().any(|text| text.contains(said)), "{told:?}");
    }
}
