//! Places that cannot be read: how many are borne, which of them the peer is asked for, and what of
//! a verify waits for them.

use rbd_protocol::control::VerifyOrder;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Digest, FailureCode, Packet};
use rbd_protocol::state::DiskState;

use super::verify::finds;
use super::{Bench, VOLUME, config};
use crate::{Action, Command, DiskError, DiskRequest, Event, RequestError, RequestKind};

const READ: DiskRequest = DiskRequest::Read;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const HOUR_MS: u64 = 3_600_000;

fn primary() -> Bench {
    let mut config = config();
    config.peers[0].net.verify = true;
    Bench::primary_as(config)
}

/// What the peer has been asked to read.
fn asked(bench: &mut Bench) -> Option<(u64, ByteRange)> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, range, .. } => Some((id, range)),
        _ => None,
    })
}

/// So many reads fail one after the other, and are mended with what the peer has.
fn mended(bench: &mut Bench, count: usize) {
    for _ in 0..count {
        let request = bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
        bench.disk(READ, Err(DiskError::Io));
        let (id, range) = asked(bench).expect("the peer is asked");
        let volume = VOLUME;
        bench.packet(Packet::RemoteData { id, volume, range });
        assert!(bench.disk(WRITE, Ok(())));
        assert_eq!(bench.answer(request), Some(Ok(())));
    }
}

/// One more read fails, and the disk is let go.
fn is_not_borne(bench: &mut Bench) {
    bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
    bench.disk(READ, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn with_each_hour_half_of_the_read_errors_are_forgiven() {
    for (hours, borne) in [(0, 0), (1, 10), (2, 15), (5, 20), (40, 20)] {
        let mut bench = primary();
        mended(&mut bench, 20);
        bench.now = bench.now.plus_ms(hours * HOUR_MS + u64::from(hours > 0));
        mended(&mut bench, borne);
        is_not_borne(&mut bench);
    }
}

#[test]
fn an_error_now_and_then_does_not_keep_the_others_from_being_forgiven() {
    let mut bench = primary();
    mended(&mut bench, 19);
    bench.now = bench.now.plus_ms(HOUR_MS / 3 * 2);
    mended(&mut bench, 1);
    bench.now = bench.now.plus_ms(HOUR_MS / 3 * 2);
    mended(&mut bench, 10);
    is_not_borne(&mut bench);
}

#[test]
fn part_of_a_block_that_is_known_to_differ_is_not_asked_of_the_peer() {
    let mut bench = primary();
    finds(&mut bench, 1);
    let request = bench.request(RequestKind::Read, ByteRange::new(4096 + 512, 512));
    bench.disk(READ, Err(DiskError::Io));
    assert_eq!(asked(&mut bench), None);
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    let request = bench.request(RequestKind::Read, ByteRange::new(4096 - 512, 512));
    bench.disk(READ, Err(DiskError::Io));
    assert!(asked(&mut bench).is_some(), "the block before is the same");
    assert_eq!(bench.answer(request), None);
}

#[test]
fn a_disk_that_is_gone_when_it_is_read_is_let_go_and_nothing_is_written_anew() {
    let mut bench = primary();
    let request = bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
    bench.disk(READ, Err(DiskError::Gone));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.on_disk(WRITE), 0);
    assert_eq!(bench.answer(request), None, "the peer has the data");
}

/// Digests of some blocks together are wanted of this disk for the own verify, and cannot be made.
fn cannot_compare_blocks() -> (Bench, u64, ByteRange) {
    let mut bench = primary();
    let (from, until) = (Some(0), Some(1 << 20));
    bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from,
            until,
            repair: false,
        },
    });
    loop {
        bench.now = bench.now.plus_ms(1);
        let (id, range) = piece(&mut bench).expect("a piece is compared");
        let (volume, count) = (VOLUME, usize::try_from(range.length / 4096).unwrap());
        let digests = alloc::vec![[1; 16]; count];
        bench.packet(Packet::VerifyReply {
            id,
            volume,
            digests: digests.clone(),
        });
        if count > 1 {
            made(&mut bench, Err(DiskError::Io));
            return (bench, id, range);
        }
        made(&mut bench, Ok(digests));
    }
}

fn piece(bench: &mut Bench) -> Option<(u64, ByteRange)> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::VerifyRequest { id, range, .. } => Some((id, range)),
        _ => None,
    })
}

fn made(bench: &mut Bench, result: Result<alloc::vec::Vec<Digest>, DiskError>) {
    let is_digest = |action: &Action<u32>| match action {
        Action::Disk { request, .. } => *request == DiskRequest::Digest,
        _ => false,
    };
    let at = bench.asked.iter().position(is_digest);
    let Action::Disk { id, .. } = bench.asked.remove(at.expect("digests are wanted")) else {
        unreachable!()
    };
    bench.tell(Event::Digests { id, result });
}

#[test]
fn a_range_is_compared_again_when_each_of_its_blocks_has_been_read() {
    let (mut bench, id, range) = cannot_compare_blocks();
    let blocks = usize::try_from(range.length / 4096).unwrap();
    assert_eq!(bench.on_disk(READ), blocks, "one by one");
    let again = |bench: &mut Bench| {
        let mut asked = bench.sent().into_iter().filter_map(|packet| match packet {
            Packet::VerifyRequest { id, range, .. } => Some((id, range)),
            _ => None,
        });
        asked.rfind(|(other, _)| *other == id)
    };
    for _ in 1..blocks {
        assert!(bench.disk(READ, Ok(())));
        assert_eq!(again(&mut bench), None);
    }
    assert!(bench.disk(READ, Ok(())));
    assert_eq!(again(&mut bench), Some((id, range)));
}

#[test]
fn people_are_told_of_a_place_that_neither_node_can_read() {
    let mut bench = primary();
    bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
    bench.disk(READ, Err(DiskError::Io));
    let (id, _) = asked(&mut bench).expect("the peer is asked");
    let (volume, code) = (VOLUME, FailureCode::Io);
    bench.packet(Packet::RemoteFailed { id, volume, code });
    let text = "neither node's disk can be read at 4096";
    assert!(bench.reports().contains(&text));
}
