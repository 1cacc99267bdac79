//! The books two Primaries keep of each other's writes: what the other's disk may lack, and what
//! may be shown to clients meanwhile.

use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Packet, Place};

use super::two_primaries::{BEFORE, higher, lower, peer_writes};
use super::{Bench, VOLUME};
use crate::{DiskRequest, LinkLoss, RequestId, RequestKind};

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
