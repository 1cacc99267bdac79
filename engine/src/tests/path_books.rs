//! The books two Primaries keep of each other's writes: what the other's disk may lack, and what
//! may be shown to clients meanwhile.

use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Packet, Place};
use rbd_protocol::state::{DiskState, Role};

use super::attach::filling_as;
use super::diskless::ask_write;
use super::fencing::stonith;
use super::two_primaries::{BEFORE, higher, lower, peer_writes};
use super::{Bench, VOLUME, config};
use crate::{Command, DiskRequest, LinkLoss, RequestId, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn sent_writes(bench: &mut Bench) -> Vec<(u64, Place)> {
    let writes = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::Write { id, place, .. } => Some((id, place)),
        _ => None,
    });
    writes.collect()
}

fn behinds(bench: &mut Bench) -> Vec<u16> {
    let places = sent_writes(bench).into_iter();
    places.map(|(_, place)| place.behind).collect()
}

/// The peer writes the block at `offset`; its disk may lack this one and those before it.
fn peer_tells(bench: &mut Bench, id: u64, offset: u64, behind: u16) {
    let seen = BEFORE;
    bench.packet(Packet::Write {
        id,
        volume: VOLUME,
        range: ByteRange::new(offset, 4096),
        fua: false,
        place: Place { seen, behind },
    });
    bench.disk(WRITE, Ok(()));
}

/// A read of the first block, which this node's disk has done.
fn read(bench: &mut Bench) -> RequestId {
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    read
}

#[test]
fn each_write_tells_since_which_one_the_own_disk_may_lack_some() {
    let mut bench = lower();
    for offset in [0, 8192, 16384] {
        bench.write(offset);
    }
    assert_eq!(behinds(&mut bench), [1, 2, 3]);
    bench.disk(WRITE, Ok(()));
    bench.write(32768);
    assert_eq!(behinds(&mut bench), [3], "the first of four is on the disk");
    while bench.disk(WRITE, Ok(())) {}
    bench.write(65536);
    assert_eq!(behinds(&mut bench), [1]);
}

#[test]
fn a_primary_that_is_alone_keeps_no_books() {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    assert_eq!(behinds(&mut bench), [u16::MAX]);
}

#[test]
fn a_read_waits_for_as_many_of_the_peers_writes_as_its_disk_may_lack() {
    for (behind, is_shown) in [(1, true), (2, false), (9, false), (u16::MAX, false)] {
        let mut bench = higher();
        peer_tells(&mut bench, 70, 0, 1);
        peer_tells(&mut bench, 71, 8192, behind);
        let read = read(&mut bench);
        assert_eq!(bench.answer(read).is_some(), is_shown, "{behind}");
    }
}

#[test]
fn what_crossed_an_own_write_is_not_on_the_peers_disk_before_it_says_so() {
    let mut bench = higher();
    bench.write(0);
    let own = sent_writes(&mut bench)[0].0;
    bench.disk(WRITE, Ok(()));
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    let volume = VOLUME;
    bench.packet(Packet::WriteAck { id: own, volume });
    peer_tells(&mut bench, 71, 8192, 1);
    let read = read(&mut bench);
    assert_eq!(bench.answer(read), None, "the peer writes it once more");
    bench.packet(Packet::Settled { id: 2, volume });
    assert_eq!(bench.answer(read), Some(Ok(())));
}

#[test]
fn a_question_about_writes_that_were_never_sent_costs_the_link() {
    for (id, is_good) in [(BEFORE, true), (BEFORE + 1, false)] {
        let mut bench = lower();
        let (id, volume) = (u64::from(id), VOLUME);
        bench.packet(Packet::Settle { id, volume });
        let loss = bench.close_dropped();
        assert_eq!(loss, (!is_good).then_some(LinkLoss::Protocol));
    }
}

/// Its sender tells clients that it is durable.
#[test]
fn what_is_to_be_durable_at_once_is_written_even_where_an_own_write_covers_it() {
    let (fua, discard) = (true, false);
    let range = ByteRange::new(0, 4096);
    let (seen, behind) = (BEFORE, 1);
    let place = Place { seen, behind };
    let (id, volume) = (70, VOLUME);
    let write = Packet::Write {
        id,
        volume,
        range,
        fua,
        place,
    };
    let zero = Packet::Zero {
        id,
        volume,
        range,
        fua,
        discard,
        place,
    };
    let requests = [
        DiskRequest::Write { fua },
        DiskRequest::Zero { fua, discard },
    ];
    for (packet, request) in [write, zero].into_iter().zip(requests) {
        let mut bench = lower();
        bench.write(0);
        bench.disk(WRITE, Ok(()));
        bench.sent();
        bench.packet(packet);
        let ack = Packet::WriteAck { id, volume };
        assert!(!bench.sent_so_far().any(|sent| *sent == ack));
        assert!(bench.disk(request, Ok(())));
        assert!(bench.sent().contains(&ack));
        assert_eq!(bench.on_disk(WRITE), 1, "its own is the later one");
    }
}

#[test]
fn a_write_that_has_not_been_sent_is_in_no_books() {
    let mut bench = stonith();
    bench.write(0);
    assert_eq!(behinds(&mut bench), [], "its region is not marked");
    bench.packet(Packet::PromoteRequest {
        id: 70,
        migration_ms: 60_000,
    });
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    bench.write(4096);
    assert_eq!(behinds(&mut bench), [1], "the first is on the disk");
}

fn acks(bench: &mut Bench) -> Vec<u64> {
    let acks = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::WriteAck { id, .. } => Some(id),
        _ => None,
    });
    acks.collect()
}

#[test]
fn what_crossed_several_own_writes_is_acknowledged_once_when_all_of_them_have_been() {
    let mut bench = higher();
    for offset in [0, 4096, 8192] {
        bench.write(offset);
    }
    let own = sent_writes(&mut bench);
    while bench.disk(WRITE, Ok(())) {}
    peer_writes(&mut bench, 70, (0, 2), BEFORE);
    bench.disk(WRITE, Ok(()));
    let volume = VOLUME;
    for (own, acked) in own.into_iter().zip([&[][..], &[70], &[]]) {
        bench.packet(Packet::WriteAck { id: own.0, volume });
        assert_eq!(acks(&mut bench), acked);
    }
}

/// Else a peer that writes on and on would keep a client waiting for ever.
#[test]
fn a_write_that_waits_for_the_peers_does_not_wait_for_later_ones_beside_them() {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    let range = ByteRange::new(0, 8192);
    bench.request(RequestKind::Write { fua: false }, range);
    peer_writes(&mut bench, 71, (4096, 1), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 1, "the later one lets it go first");
    assert_eq!(sent_writes(&mut bench), []);
    bench.disk(WRITE, Ok(()));
    assert_eq!(sent_writes(&mut bench).len(), 1);
}

/// The other Primary is back, with a disk that is to be filled.
fn meets_unfilled(bench: &mut Bench, restarts: u64) {
    let mut hello = bench.relink().expect("a greeting");
    hello.incarnation = 99 + restarts;
    hello.tenure += restarts;
    hello.role = Role::Primary;
    hello.volumes[0].disk = DiskState::Outdated;
    bench.packet(Packet::Hello(hello.into()));
    bench.write_metadata();
    bench.asked.clear();
}

/// It counts its writes from the beginning.
#[test]
fn what_was_done_for_a_peer_is_not_taken_for_what_it_asks_after_a_restart() {
    for (restarts, is_new) in [(0, false), (1, true)] {
        let mut config = config();
        config.peers[0].net.two_primaries = true;
        let mut bench = filling_as(config);
        meets_unfilled(&mut bench, restarts);
        ask_write(&mut bench, 70);
        bench.write_metadata();
        assert_eq!(bench.disk(WRITE, Ok(())), is_new, "{restarts} (F7)");
    }
}

#[test]
fn a_disk_is_detached_when_what_the_peer_had_begun_to_write_has_ended() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    let (volume, force) = (VOLUME, false);
    let call = bench.command(Command::Detach { volume, force });
    peer_writes(&mut bench, 71, (8192, 1), BEFORE);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1, "the other is kept back");
    assert_eq!(bench.on_disk(DiskRequest::Flush), 0, "it is being written");
    bench.disk(WRITE, Ok(()));
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
}
