//! What happens between the loss of a peer and the verdict on it, step by step.

use alloc::string::String;

use rbd_protocol::control::{Fencing, ResourceConfig};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, config};
use crate::{
    Action, Command, DiskError, DiskRequest, Event, Handler, HandlerResult, LinkLoss, OperationId,
    RequestError, RequestKind,
};

pub(super) fn fenced(policy: Fencing) -> ResourceConfig {
    let mut config = config();
    config.peers[0].net.fencing = policy;
    config.handlers = [Handler::FencePeer, Handler::UnfencePeer]
        .map(|handler| (String::from(handler.name()), String::from("true")))
        .into();
    config
}

pub(super) fn stonith() -> Bench {
    Bench::primary_as(fenced(Fencing::ResourceAndStonith))
}

impl Bench {
    /// The handler that has been asked for, if one has.
    pub(super) fn handler(&mut self) -> Option<(OperationId, Handler)> {
        let is_run = |action: &Action<u32>| matches!(action, Action::RunHandler { .. });
        let at = self.asked.iter().position(is_run)?;
        match self.asked.remove(at) {
            Action::RunHandler { id, handler, .. } => Some((id, handler)),
            _ => None,
        }
    }

    pub(super) fn fence_starts(&mut self) -> OperationId {
        self.write_metadata();
        let (id, handler) = self.handler().expect("a handler is run");
        assert_eq!(handler, Handler::FencePeer);
        id
    }

    pub(super) fn handler_ends(&mut self, id: OperationId, result: HandlerResult) {
        self.tell(Event::HandlerDone { id, result });
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.engine.status(self.now).suspended.fencing
    }

    pub(super) fn peer_disk(&self) -> DiskState {
        let status = self.engine.status(self.now);
        status.connections[0].peer_devices[0].peer_disk_state
    }

    pub(crate) fn generation(&self) -> rbd_protocol::ids::GenerationId {
        self.engine.status(self.now).devices[0].current_generation
    }
}

#[test]
fn a_write_in_flight_is_answered_only_when_verdict_and_generation_are_durable() {
    let mut bench = stonith();
    let before = bench.generation();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    let fence = bench.fence_starts();
    assert_eq!(bench.generation(), before, "none begins before the verdict");
    assert_eq!(bench.answer(write), None);
    bench.handler_ends(fence, HandlerResult::Exited(7));
    assert!(bench.is_frozen(), "the verdict is not durable");
    assert_eq!(bench.answer(write), None);
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_ne!(bench.generation(), before);
    assert_eq!(bench.peer_disk(), DiskState::Outdated);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_read_that_was_under_way_is_not_answered_either() {
    let mut bench = stonith();
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.link_down(LinkLoss::Timeout);
    bench.disk(DiskRequest::Read, Ok(()));
    let later = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    let flush = bench.flush();
    assert_eq!(bench.on_disk(DiskRequest::Read), 0);
    for request in [read, later, flush] {
        assert_eq!(bench.answer(request), None);
    }
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    bench.disk(DiskRequest::Read, Ok(()));
    bench.disk(DiskRequest::Flush, Ok(()));
    for request in [read, later, flush] {
        assert_eq!(bench.answer(request), Some(Ok(())));
    }
}

#[test]
fn what_is_not_a_verdict_changes_nothing() {
    let unclear = (0..=u8::MAX).filter(|code| ![3, 4, 5, 7].contains(code));
    let results = unclear
        .map(HandlerResult::Exited)
        .chain([HandlerResult::Failed]);
    for result in results {
        let mut bench = stonith();
        bench.link_down(LinkLoss::Timeout);
        let fence = bench.fence_starts();
        bench.handler_ends(fence, result);
        bench.write_metadata();
        assert!(bench.is_frozen(), "{result:?}");
        assert_eq!(bench.peer_disk(), DiskState::DUnknown, "{result:?}");
        // It is asked again, but not at once.
        assert_eq!(bench.handler(), None);
        bench.wait_ms(40_000);
        bench.fence_starts();
    }
}

#[test]
fn a_verdict_that_comes_after_the_peer_does_not_count() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.tell(Event::LinkUp {
        peer: super::PEER,
        link: crate::LinkId(2),
    });
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert!(bench.is_frozen(), "the handshake is not over");
    assert_eq!(bench.peer_disk(), DiskState::DUnknown);
}

#[test]
fn a_command_ends_the_wait_without_a_verdict() {
    let mut bench = stonith();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.command(Command::ResumeIo);
    assert_eq!(bench.answer(write), None, "the peer is not durably behind");
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
    bench.handler_ends(fence, HandlerResult::Exited(1));
    assert!(!bench.is_frozen());
}

#[test]
fn a_closed_link_is_given_a_moment_to_come_back() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert!(bench.is_frozen());
    assert_eq!(bench.handler(), None);
    bench.wait_ms(1_000);
    bench.fence_starts();
}

#[test]
fn resource_only_does_not_freeze() {
    let mut bench = Bench::primary_as(fenced(Fencing::ResourceOnly));
    bench.link_down(LinkLoss::Timeout);
    assert!(!bench.is_frozen());
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(
        bench.handler().map(|(_, handler)| handler),
        Some(Handler::FencePeer)
    );
}

#[test]
fn without_a_handler_it_stays_frozen() {
    let mut config = fenced(Fencing::ResourceAndStonith);
    config.handlers.clear();
    let mut bench = Bench::primary_as(config);
    bench.link_down(LinkLoss::Timeout);
    bench.write_metadata();
    assert!(bench.is_frozen());
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_peer_known_to_be_outdated_is_not_fenced() {
    let mut bench = stonith();
    bench.packet(Packet::State {
        tenure: 7,
        role: Role::Secondary,
        disks: alloc::vec![(super::VOLUME, DiskState::Outdated)],
    });
    bench.link_down(LinkLoss::Goodbye);
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_promotion_without_the_peer_waits_for_the_verdict() {
    for (code, done) in [(7, true), (4, true), (5, true), (3, true), (1, false)] {
        let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
        bench.link_down(LinkLoss::Timeout);
        let call = bench.command(Command::Promote { force: false });
        let fence = bench.fence_starts();
        // Longer than a promotion may take for anything else.
        bench.wait_ms(60_000);
        assert_eq!(bench.reply(call), None);
        bench.handler_ends(fence, HandlerResult::Exited(code));
        bench.write_metadata();
        assert_eq!(bench.reply(call), Some(done), "exit code {code}");
        assert_eq!(bench.engine.role() == Role::Primary, done);
        assert!(!bench.is_frozen());
    }
}

#[test]
fn a_secondary_told_that_the_peer_is_primary_becomes_outdated() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    let call = bench.command(Command::Promote { force: false });
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(6));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(false));
    assert_eq!(bench.disk_state(), DiskState::Outdated);
}

#[test]
fn a_forced_demotion_fails_what_is_frozen() {
    let mut bench = stonith();
    let before = bench.generation();
    let read = bench.request(RequestKind::Read, ByteRange::new(1 << 20, 4096));
    let sent = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.link_down(LinkLoss::Timeout);
    let waiting = bench.write(4096);
    let call = bench.command(Command::Demote { force: false });
    assert_eq!(bench.answer(read), None);
    assert_eq!(bench.reply(call), Some(false), "there is I/O that waits");
    let call = bench.command(Command::Demote { force: true });
    bench.disk(DiskRequest::Read, Ok(()));
    bench.write_metadata();
    while bench.disk(DiskRequest::Flush, Ok(())) {}
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    for request in [read, sent, waiting] {
        assert_eq!(bench.answer(request), Some(Err(RequestError::NotPrimary)));
    }
    assert_eq!(bench.generation(), before, "nobody was promised anything");
}

#[test]
fn a_flush_that_waits_frozen_keeps_the_node_primary() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    bench.fence_starts();
    let flush = bench.flush();
    assert_eq!(bench.answer(flush), None);
    let call = bench.command(Command::Demote { force: false });
    assert_eq!(bench.reply(call), Some(false));
    assert_eq!(bench.engine.role(), Role::Primary);
    assert_eq!(bench.answer(flush), None);
}

#[test]
fn outdate_is_answered_when_it_is_durable() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Outdate);
    assert_eq!(bench.reply(call), Some(false), "it is connected");
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Outdate);
    assert_eq!(bench.reply(call), None);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::Outdated);
}

#[test]
fn force_goes_on_without_a_verdict_but_only_when_there_is_none() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    let call = bench.command(Command::Promote { force: true });
    let fence = bench.fence_starts();
    assert_eq!(bench.reply(call), None, "the handler is asked all the same");
    bench.handler_ends(fence, HandlerResult::Exited(1));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert!(!bench.is_frozen(), "whoever forced it answers for it");
    let said = "forced: promoted although the peer has not been fenced";
    assert!(bench.reports().contains(&said));
}

#[test]
fn what_is_read_for_the_peer_keeps_nobody_from_meeting_it_again() {
    for result in [Ok(()), Err(DiskError::Io)] {
        let mut bench = stonith();
        let (id, volume, range) = (7, super::VOLUME, ByteRange::new(0, 4096));
        bench.packet(Packet::RemoteRead { id, volume, range });
        bench.link_down(LinkLoss::Timeout);
        bench.write_metadata();
        assert!(bench.is_frozen());
        bench.disk(DiskRequest::Read, result);
        bench.sent();
        bench.tell(Event::LinkUp {
            peer: super::PEER,
            link: crate::LinkId(2),
        });
        bench.write_metadata();
        let sent = bench.sent();
        assert!(sent.iter().any(|packet| matches!(packet, Packet::Hello(_))));
        assert_eq!(sent.len(), 1, "nothing of the older link's");
    }
}

/// A Primary that has had its peer fenced, with the peer back and in sync.
pub(super) fn reunited(config: ResourceConfig) -> Bench {
    let mut bench = Bench::primary_as(config);
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    let left_behind =
        bench.engine.status(bench.now).connections[0].peer_devices[0].bitmap_generation;
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::Outdated;
        hello.volumes[0].current = left_behind;
        hello.volumes[0].bitmap = rbd_protocol::ids::GenerationId::NONE;
        hello.volumes[0].history.clear();
    });
    let generation = bench.generation();
    bench.packet(Packet::BitmapEnd {
        volume: super::VOLUME,
        generation: left_behind,
    });
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "the peer is not in sync (G6)");
    bench.packet(Packet::ResyncDone {
        volume: super::VOLUME,
        generation,
    });
    bench.write_metadata();
    bench
}

#[test]
fn what_fencing_did_is_taken_back_when_both_are_in_sync_and_again_until_it_succeeds() {
    let mut bench = reunited(fenced(Fencing::ResourceAndStonith));
    let (first, handler) = bench.handler().expect("a handler is run");
    assert_eq!(handler, Handler::UnfencePeer);
    bench.handler_ends(first, HandlerResult::Exited(1));
    bench.write_metadata();
    assert_eq!(bench.handler(), None, "not at once");
    bench.packet(Packet::Ping { id: 1 }); // it is alive all the time
    bench.wait_ms(30_000);
    let (second, handler) = bench.handler().expect("it is called again");
    assert_eq!(handler, Handler::UnfencePeer);
    bench.handler_ends(first, HandlerResult::Exited(0));
    bench.handler_ends(second, HandlerResult::Exited(0));
    bench.write_metadata();
    bench.packet(Packet::Ping { id: 2 });
    bench.wait_ms(60_000);
    assert_eq!(bench.handler(), None, "it is done");
}

#[test]
fn without_an_unfence_handler_there_is_nothing_to_take_back() {
    let mut config = fenced(Fencing::ResourceAndStonith);
    config.handlers.pop();
    let mut bench = reunited(config);
    assert_eq!(bench.handler(), None);
}
