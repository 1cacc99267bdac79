//! A peer that comes back while fencing minds it: with its data, without it, or not long enough to
//! have read who is Primary.

use alloc::boxed::Box;
use alloc::vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::fencing::{fenced, stonith};
use super::resync::replication;
use super::sizes::{LARGE, grown, roomy, size};
use super::two_primaries::with;
use super::{Bench, VOLUME};
use crate::{Command, DiskError, DiskRequest, Handler, HandlerResult, LinkLoss, RequestId};

/// The peer's disk is not attached.
pub(super) fn without_disk(hello: &mut Hello) {
    hello.role = Role::Secondary;
    hello.volumes[0].disk = DiskState::Diskless;
    hello.volumes[0].size_bytes = 0;
    hello.volumes[0].current = GenerationId::NONE;
    hello.volumes[0].bitmap = GenerationId::NONE;
    hello.volumes[0].history.clear();
}

/// A frozen Primary whose peer, lacking a write, has just greeted it again.
fn returning() -> (Bench, RequestId, GenerationId) {
    let mut bench = stonith();
    let generation = bench.generation();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = generation;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history.clear();
        hello.volumes[0].dirty_blocks = 0;
    });
    (bench, write, generation)
}

#[test]
fn a_peer_that_returns_may_not_have_read_the_greeting_until_it_shows() {
    let (mut bench, write, generation) = returning();
    bench.write_metadata();
    assert!(bench.is_frozen());
    assert_eq!(bench.answer(write), None);
    assert_eq!(bench.generation(), generation, "none begins for it");
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    });
    assert_eq!(bench.answer(write), None, "not durable");
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_ne!(bench.generation(), generation);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_peer_that_returns_and_is_lost_before_it_shows_is_fenced() {
    let (mut bench, write, generation) = returning();
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    assert_eq!(bench.generation(), generation);
    let fence = bench.fence_starts();
    assert_eq!(bench.answer(write), None);
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_peer_whose_disk_fails_is_fenced_for_that_disk_may_come_back() {
    let mut bench = stonith();
    bench.packet(Packet::State {
        tenure: 7,
        role: Role::Secondary,
        disks: vec![(VOLUME, DiskState::Diskless)],
    });
    assert!(bench.is_frozen());
    bench.wait_ms(1_000);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_eq!(bench.peer_disk(), DiskState::Diskless);
    // It goes and comes back without the disk: nothing has changed.
    bench.link_down(LinkLoss::Closed);
    assert!(!bench.is_frozen());
    assert_eq!(bench.peer_disk(), DiskState::Outdated);
    bench.meet(without_disk);
    bench.wait_ms(1_000);
    assert!(!bench.is_frozen());
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_peer_that_returns_without_its_disk_has_not_returned() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Closed);
    bench.meet(without_disk);
    assert!(bench.is_frozen());
    bench.wait_ms(1_000);
    let fence = bench.fence_starts();
    // Its disk is attached, which is seen over a new link: what the handler says now is too late.
    bench.packet(Packet::State {
        tenure: 7,
        role: Role::Secondary,
        disks: vec![(VOLUME, DiskState::Consistent)],
    });
    assert!(bench.is_frozen());
    bench.handler_ends(fence, HandlerResult::Failed);
    assert!(bench.is_frozen());
}

#[test]
fn a_node_promoted_while_its_target_may_not_have_read_the_greeting_begins_frozen() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    let generation = bench.generation();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        hello.volumes[0].disk = DiskState::Inconsistent;
    });
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    assert!(bench.is_frozen());
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    });
    bench.write_metadata();
    assert!(!bench.is_frozen());
}

#[test]
fn a_person_may_go_on_without_waiting_for_the_greeting_to_be_read() {
    let (mut bench, write, generation) = returning();
    bench.write_metadata();
    assert!(bench.is_frozen());
    bench.command(Command::ResumeIo);
    assert!(!bench.is_frozen());
    assert_eq!(
        bench.answer(write),
        None,
        "that the peer is behind is not durable"
    );
    bench.write_metadata();
    assert_ne!(bench.generation(), generation);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_primary_that_has_lost_its_disk_does_not_fence_the_only_data_there_is() {
    let mut bench = stonith();
    bench.flush();
    bench.disk(DiskRequest::Flush, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.link_down(LinkLoss::Timeout);
    bench.wait_ms(60_000);
    bench.write_metadata();
    assert_eq!(bench.handler(), None);
    assert!(!bench.is_frozen());
}

/// Both are frozen, and what one of them has begun is to be copied to this one.
#[test]
fn one_of_two_primaries_has_its_handler_run_before_the_other_fills_it() {
    let handler = Handler::BeforeResyncTarget;
    let mut told = fenced(Fencing::ResourceAndStonith);
    told.node_id = NodeId(5);
    let mut bench = with(NodeId(5), told.clone());
    told.peers[0].net.two_primaries = true;
    told.handlers.push((handler.name().into(), "true".into()));
    bench.command(Command::Configure(Box::new(told)));
    let own = bench.relink().expect("a greeting").incarnation;
    bench.link_down(LinkLoss::Closed);
    let returns = |bench: &mut Bench| {
        bench.meet(|hello| {
            hello.tentative = false;
            hello.role = Role::Primary;
            hello.seen_incarnation = own;
            hello.volumes[0].dirty_blocks = 3;
        });
    };
    returns(&mut bench);
    assert!(!bench.greeting().tentative, "it was not to be expected");
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(bench.handler(), None);
    returns(&mut bench);
    assert!(bench.greeting().tentative);
    assert_eq!(bench.handler().map(|run| run.1), Some(handler));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

/// Clients of the peer may have seen it.
#[test]
fn a_size_taken_from_a_peer_that_is_fenced_then_is_shown() {
    let mut bench = Bench::alone(fenced(Fencing::ResourceAndStonith), roomy());
    bench.meet(grown);
    bench.close_dropped();
    bench.meet(|hello| hello.seen_incarnation = 0);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    bench.link_down(LinkLoss::Timeout);
    bench.command(Command::Promote { force: false });
    bench.write_metadata();
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    assert_eq!(size(&bench), LARGE);
}
