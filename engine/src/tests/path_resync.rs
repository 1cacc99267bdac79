//! A resync at its edges: what has to be durable before anything is told, ranges of any size, and
//! parts of answers.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::{BULK_LIMIT, Digest, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::resync::{
    NEWER, READ, WRITE, answer, asked_for, behind, blocks, end, replication, source, target,
};
use super::split_brain::{changed, unchanged};
use super::{Bench, GENERATION, VOLUME, config, image};
use crate::{Action, Command, DiskRequest, Event, LinkLoss, RequestKind};

/// Whether it has said all of its bitmap, and what it has asked for, since this was last asked.
fn told_and_asked(bench: &mut Bench) -> (bool, usize) {
    let sent = bench.sent();
    let is_end = |packet: &Packet| matches!(packet, Packet::BitmapEnd { .. });
    let asks = |packet: &&Packet| matches!(packet, Packet::ResyncRequest { .. });
    (sent.iter().any(is_end), sent.iter().filter(asks).count())
}

fn request(bench: &mut Bench, id: u64, range: ByteRange) {
    bench.packet(Packet::ResyncRequest {
        id,
        volume: VOLUME,
        range,
    });
}

/// The ranges being read for the target.
fn reads(bench: &Bench) -> Vec<ByteRange> {
    let reads = bench.asked.iter().filter_map(|action| match action {
        Action::Disk { request, range, .. } if *request == READ => Some(*range),
        _ => None,
    });
    reads.collect()
}

/// The disk has made the digests it was asked for.
fn digests(bench: &mut Bench, digests: &[Digest]) {
    let is_one = |action: &Action<u32>| match action {
        Action::Disk { request, .. } => *request == DiskRequest::Digest,
        _ => false,
    };
    let at = bench.asked.iter().position(is_one);
    let Action::Disk { id, .. } = bench.asked.remove(at.expect("they were asked for")) else {
        return;
    };
    let result = Ok(digests.to_vec());
    bench.tell(Event::Digests { id, result });
}

#[test]
fn a_target_tells_and_asks_nothing_before_it_is_durably_inconsistent() {
    let mut bench = Bench::alone(config(), image());
    bench.write_metadata();
    bench.asked.clear();
    bench.greeted(|hello| {
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = NEWER;
        hello.volumes[0].bitmap = GENERATION;
        hello.volumes[0].dirty_blocks = 2;
    });
    bench.packet(blocks(&[3, 400]));
    bench.packet(end(NEWER));
    assert!(bench.is_writing_metadata());
    assert_eq!(told_and_asked(&mut bench), (false, 0), "(E1)");
    bench.write_metadata();
    assert_eq!(told_and_asked(&mut bench), (true, 2));
}

#[test]
fn a_source_tells_what_it_has_marked_when_it_is_durable_what_that_counts_from() {
    let mut bench = changed(config());
    bench.meet(unchanged);
    bench.sent();
    bench.packet(end(GENERATION));
    assert!(bench.is_writing_metadata());
    assert_eq!(told_and_asked(&mut bench), (false, 0), "(D5)");
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    bench.write_metadata();
    assert_eq!(told_and_asked(&mut bench), (true, 0));
    assert_eq!(replication(&bench), ReplicationState::SyncSource);
}

#[test]
fn clients_that_wait_do_not_hold_up_a_resync_of_the_same_blocks() {
    let mut bench = source();
    bench.asked.clear();
    bench.command(Command::SuspendIo);
    let write = bench.write(0);
    request(&mut bench, 1, ByteRange::new(0, 4096));
    assert_eq!(bench.on_disk(READ), 1);
    bench.disk(READ, Ok(()));
    bench.command(Command::ResumeIo);
    bench.write_metadata();
    assert!(bench.disk(WRITE, Ok(())));
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_target_may_ask_for_as_much_at_once_as_a_packet_holds() {
    let mut bench = source();
    bench.asked.clear();
    request(&mut bench, 1, ByteRange::new(0, BULK_LIMIT));
    assert_eq!(bench.on_disk(READ), 1);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn what_a_source_refuses_makes_room_for_what_is_still_to_be_asked_for() {
    let mut bench = target();
    let separate: Vec<usize> = (0..64).map(|block| block * 2).collect();
    bench.packet(blocks(&separate));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    assert!(asked.len() < separate.len(), "the window is full");
    let ((id, range), volume) = (asked[0], VOLUME);
    bench.packet(Packet::ResyncNegativeAck { id, volume, range });
    assert_ne!(asked_for(&mut bench), []);
}

#[test]
fn what_was_asked_for_once_comes_once() {
    let mut bench = target();
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    let ((id, range), volume) = (asked_for(&mut bench)[0], VOLUME);
    bench.packet(Packet::ResyncData { id, volume, range });
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.packet(Packet::ResyncData { id, volume, range });
    assert_eq!(bench.on_disk(WRITE), 1);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

#[test]
fn what_ends_within_a_block_is_compared_and_sent_as_far_as_it_was_asked_for() {
    let (like, unlike) = ([1; 16], [2; 16]);
    let mut bench = source();
    bench.asked.clear();
    let (id, volume) = (7, VOLUME);
    bench.packet(Packet::ResyncCompare {
        id,
        volume,
        range: ByteRange::new(0, 4096 + 512),
        digests: vec![like, like],
    });
    digests(&mut bench, &[like, unlike]);
    let (first, last) = (ByteRange::new(0, 4096), ByteRange::new(4096, 512));
    assert_eq!(reads(&bench), [last]);
    let range = first;
    let same = Packet::ResyncSame { id, volume, range };
    assert!(bench.sent().contains(&same));
    bench.write(4096);
    assert_eq!(bench.on_disk(WRITE), 0, "it is being read (E2)");
    bench.disk(READ, Ok(()));
    let range = last;
    let data = Packet::ResyncData { id, volume, range };
    assert!(bench.sent().contains(&data));
    assert_eq!(bench.on_disk(WRITE), 1, "nothing is any more");
}

/// Were both machines to fail now, the target's data could be taken for as good as the own.
#[test]
fn clients_are_shown_nothing_before_it_is_durable_that_a_target_lacks_it() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.greeted(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::Inconsistent;
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    assert!(bench.is_writing_metadata());
    let range = ByteRange::new(8192, 4096);
    let read = bench.request(RequestKind::Read, range);
    let flush = bench.flush();
    assert_eq!(bench.on_disk(DiskRequest::Read), 0, "(B8)");
    assert_eq!(bench.on_disk(DiskRequest::Flush), 0, "(B1)");
    bench.write_metadata();
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(read), Some(Ok(())));
    assert!(bench.disk(DiskRequest::Flush, Ok(())));
    bench.peer_acks();
    assert_eq!(bench.answer(flush), Some(Ok(())));
}

#[test]
fn blocks_that_are_alike_are_told_together_and_others_are_sent_together() {
    let (like, unlike) = ([1; 16], [2; 16]);
    let mut bench = source();
    bench.asked.clear();
    let (id, volume) = (7, VOLUME);
    bench.packet(Packet::ResyncCompare {
        id,
        volume,
        range: ByteRange::new(0, 5 * 4096),
        digests: vec![like; 5],
    });
    digests(&mut bench, &[like, like, unlike, unlike, unlike]);
    assert_eq!(reads(&bench), [ByteRange::new(8192, 3 * 4096)]);
    let range = ByteRange::new(0, 8192);
    let same = Packet::ResyncSame { id, volume, range };
    assert_eq!(bench.sent(), [same]);
    let progress = bench.connection().peer_devices.remove(0).resync;
    assert_eq!(progress.expect("a resync").same_bytes, 8192);
    bench.disk(READ, Ok(()));
    bench.write(0);
    bench.write(16384);
    assert_eq!(bench.on_disk(WRITE), 2, "nothing is being read any more");
}

/// A target that has asked for as much as it may of many blocks, none beside another.
fn asking() -> (Bench, Vec<(u64, ByteRange)>) {
    let mut bench = target();
    let separate: Vec<usize> = (0..64).map(|block| block * 2).collect();
    bench.packet(blocks(&separate));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    assert!(asked.len() < separate.len(), "the window is full");
    (bench, asked)
}

#[test]
fn a_resync_makes_room_for_a_client_of_the_source() {
    for is_busy in [false, true] {
        let (mut bench, asked) = asking();
        if is_busy {
            bench.packet(Packet::Write {
                id: 9,
                volume: VOLUME,
                range: ByteRange::new(32 << 20, 4096),
                fua: false,
                place: Default::default(),
            });
            assert!(bench.disk(WRITE, Ok(())));
        }
        answer(&mut bench, &asked[..4]);
        assert_eq!(asked_for(&mut bench).is_empty(), is_busy);
    }
}

/// It has been told from the own data before, but is under the generation of it now.
#[test]
fn a_target_under_the_own_generation_is_told_from_it_by_another() {
    let mut bench = behind();
    let generation = bench.generation();
    bench.greeted(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::Inconsistent;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history.clear();
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    assert_ne!(bench.generation(), generation);
}
