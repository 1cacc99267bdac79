//! What is left of a link that is lost: what the peer may lack, and nothing to wait for.

use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::DiskState;

use super::resync::{READ, WRITE, meet_source, source, source_of};
use super::{Bench, VOLUME, config, image};
use crate::{Command, DiskRequest, LinkLoss};

/// Starts and ends a write on the own disk; whether it has been answered.
fn is_written(bench: &mut Bench) -> bool {
    let id = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    bench.answer(id) == Some(Ok(()))
}

/// A Primary whose peer has a write and may lose it, and its generation.
fn written_by_both() -> (Bench, GenerationId) {
    let mut bench = Bench::primary();
    let before = bench.generation();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    (bench, before)
}

#[test]
fn what_a_peer_has_and_may_lose_begins_a_generation_when_it_goes() {
    let (mut bench, before) = written_by_both();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_ne!(bench.generation(), before);
    let durable = bench.superblock.as_ref().map(|block| block.generation);
    assert_eq!(durable, Some(bench.generation()));
}

#[test]
fn what_a_peer_has_made_durable_begins_none() {
    let (mut bench, before) = written_by_both();
    bench.flush();
    bench.disk(DiskRequest::Flush, Ok(()));
    bench.peer_acks();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(bench.generation(), before);
}

#[test]
fn a_greeting_that_was_not_answered_is_waited_for_no_longer() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.link_up();
    bench.write_metadata();
    bench.greeting();
    bench.link_down(LinkLoss::Closed);
    assert!(is_written(&mut bench));
}

#[test]
fn a_peer_that_never_greets_is_left_though_it_is_alive() {
    let mut bench = Bench::alone(config(), image());
    bench.link_up();
    bench.write_metadata();
    bench.greeting();
    for _ in 0..10 {
        assert_eq!(bench.close_dropped(), None);
        bench.packet(Packet::Ping { id: 1 });
        bench.packet(Packet::PingAck { id: 1 });
        bench.wait_ms(1_000);
    }
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
}

#[test]
fn nobody_is_promoted_between_the_greeting_and_the_answer() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.link_up();
    bench.write_metadata();
    bench.greeting();
    let call = bench.command(Command::Promote { force: true });
    assert!(!bench.is_writing_metadata(), "it has said it is Secondary");
    assert_eq!(bench.reply(call), None);
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn what_a_lost_target_had_asked_for_is_not_in_the_way_of_clients() {
    let mut bench = source();
    bench.packet(Packet::ResyncRequest {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert_eq!(bench.on_disk(READ), 1);
    bench.link_down(LinkLoss::Closed);
    bench.disk(READ, Ok(()));
    assert!(is_written(&mut bench));
}

#[test]
fn a_target_no_longer_says_that_it_has_been_in_sync_with_its_source() {
    let mut bench = Bench::in_sync();
    let seen = |hello: rbd_protocol::peer::Hello| hello.seen_incarnation;
    assert_eq!(bench.relink().map(seen), Some(99));
    bench.link_down(LinkLoss::Closed);
    meet_source(&mut bench);
    assert_eq!(bench.relink().map(seen), Some(0), "it may lack writes (B7)");
}

#[test]
fn only_who_is_in_sync_says_that_it_has_been() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| {
        let volume = &mut hello.volumes[0];
        volume.disk = DiskState::Inconsistent;
        volume.was_resync_target = true;
        volume.dirty_blocks = 1;
    });
    let seen = |hello: rbd_protocol::peer::Hello| hello.seen_incarnation;
    assert_eq!(
        bench.relink().map(seen),
        Some(0),
        "the peer is being filled"
    );
}

#[test]
fn what_a_target_has_written_clears_no_block_beside_it() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    for offset in [0, 4096] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
    }
    let mut bench = source_of(bench);
    bench.packet(Packet::ResyncAck {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert_eq!(bench.out_of_sync_bytes(), 4096);
}
