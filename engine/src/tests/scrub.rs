//! A verify on disks that cannot read everything.

use alloc::vec::Vec;

use rbd_protocol::control::VerifyOrder;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, VOLUME, config};
use crate::{Action, Command, DiskError, DiskRequest, Event};

const RANGE: ByteRange = ByteRange {
    offset: 0,
    length: 4096,
};
const READ: DiskRequest = DiskRequest::Read;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn primary() -> Bench {
    let mut config = config();
    config.peers[0].net.verify = true;
    Bench::primary_as(config)
}

/// Begins a verify of the first block.
fn verify(bench: &mut Bench) -> u64 {
    bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from: Some(RANGE.offset),
            until: Some(RANGE.end()),
            repair: false,
        },
    });
    asked(bench).expect("the peer is asked")
}

fn asked(bench: &mut Bench) -> Option<u64> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::VerifyRequest { id, range, .. } if range == RANGE => Some(id),
        _ => None,
    })
}

fn peer_replies(bench: &mut Bench, id: u64, can_read: bool) {
    let (volume, count) = (VOLUME, usize::from(can_read));
    let digests = alloc::vec![[1; 16]; count];
    bench.packet(Packet::VerifyReply {
        id,
        volume,
        digests,
    });
}

/// The own disk cannot make the digests asked for.
fn cannot_read(bench: &mut Bench) {
    let is_digest = |action: &Action<u32>| match action {
        Action::Disk { request, .. } => *request == DiskRequest::Digest,
        _ => false,
    };
    let at = bench.asked.iter().position(is_digest);
    let Action::Disk { id, .. } = bench.asked.remove(at.expect("digests are wanted")) else {
        unreachable!()
    };
    let result = Err(DiskError::Io);
    bench.tell(Event::Digests { id, result });
}

/// The peer is asked for the place, and its answer is written there.
fn mends(bench: &mut Bench, sent: &[Packet]) {
    let id = sent.iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, range, .. } if *range == RANGE => Some(*id),
        _ => None,
    });
    let (id, volume, range) = (id.expect("the peer is asked"), VOLUME, RANGE);
    bench.packet(Packet::RemoteData { id, volume, range });
    assert!(bench.disk(WRITE, Ok(())));
}

fn has_let_go(sent: &[Packet], piece: u64) -> bool {
    let is_release =
        |packet: &Packet| matches!(packet, Packet::VerifyRelease { id, .. } if *id == piece);
    sent.iter().any(is_release)
}

#[test]
fn what_the_own_disk_cannot_read_is_mended_and_compared_again() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    peer_replies(&mut bench, piece, true);
    cannot_read(&mut bench);
    assert!(bench.disk(READ, Err(DiskError::Io)));
    let sent = bench.sent();
    assert!(has_let_go(&sent, piece));
    mends(&mut bench, &sent);
    assert_eq!(asked(&mut bench), Some(piece), "once more");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn clients_may_write_what_is_being_mended() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    peer_replies(&mut bench, piece, true);
    bench.write(0);
    assert_eq!(bench.on_disk(WRITE), 0, "it is being compared");
    cannot_read(&mut bench);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    assert_eq!(asked(&mut bench), None);
    bench.peer_acks();
}

#[test]
fn what_cannot_be_mended_is_reported_and_the_verify_goes_on() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    for _ in 0..2 {
        peer_replies(&mut bench, piece, true);
        cannot_read(&mut bench);
        if bench.disk(READ, Ok(())) {
            assert_eq!(asked(&mut bench), Some(piece));
        }
    }
    let text = "0+4096 cannot be compared: this node's disk cannot read it";
    assert!(bench.reports().contains(&text));
    let text = "verify done: 0 bytes, 0 blocks out of sync, 4096 bytes cannot be read";
    assert!(bench.reports().contains(&text));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_peer_that_cannot_read_is_given_time_once() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    peer_replies(&mut bench, piece, false);
    assert!(has_let_go(&bench.sent(), piece));
    assert_eq!(bench.on_disk(DiskRequest::Digest), 0);
    bench.wait_ms(999);
    assert_eq!(asked(&mut bench), None);
    bench.wait_ms(1);
    assert_eq!(asked(&mut bench), Some(piece));
    peer_replies(&mut bench, piece, false);
    let text = "0+4096 cannot be compared: the peer's disk cannot read it";
    assert!(bench.reports().contains(&text));
}

#[test]
fn the_peer_of_a_verify_says_that_it_cannot_read_and_mends_it() {
    let mut bench = primary();
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::VerifyRequest { id, volume, range });
    cannot_read(&mut bench);
    bench.disk(READ, Err(DiskError::Io));
    let sent = bench.sent();
    let nothing = Packet::VerifyReply {
        id,
        volume,
        digests: alloc::vec![],
    };
    assert!(sent.contains(&nothing));
    mends(&mut bench, &sent);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_verify_that_is_stopped_meanwhile_stays_stopped() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    peer_replies(&mut bench, piece, true);
    cannot_read(&mut bench);
    bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Stop,
    });
    assert!(bench.disk(READ, Ok(())));
    assert_eq!(asked(&mut bench), None);
}

/// The peer has become Primary, this node is in sync with it, and it asks for digests of a place
/// that cannot be read here. Returns the name of the read the peer is asked for.
fn secondary_with_a_bad_place() -> (Bench, u64) {
    let mut bench = primary();
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.sent();
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::VerifyRequest { id, volume, range });
    cannot_read(&mut bench);
    bench.disk(READ, Err(DiskError::Io));
    let read = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, .. } => Some(id),
        _ => None,
    });
    (bench, read.expect("the peer is asked"))
}

fn peer_writes(bench: &mut Bench, id: u64, offset: u64) {
    let (volume, fua) = (VOLUME, false);
    let range = ByteRange::new(offset, 512);
    bench.packet(Packet::Write {
        id,
        volume,
        range,
        fua,
        place: Default::default(),
    });
}

#[test]
fn what_the_primary_writes_after_its_answer_waits_for_that_to_be_written() {
    let (mut bench, id) = secondary_with_a_bad_place();
    // What it wrote before the answer is in it, and is not held back: the answer waits for it.
    peer_writes(&mut bench, 10, 512);
    assert!(bench.disk(WRITE, Ok(())));
    let (volume, range) = (VOLUME, RANGE);
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.on_disk(WRITE), 1);
    peer_writes(&mut bench, 11, 1024);
    assert_eq!(bench.on_disk(WRITE), 1, "the place first");
    peer_writes(&mut bench, 12, 8192);
    assert_eq!(bench.on_disk(WRITE), 2, "others do not wait");
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.on_disk(WRITE), 2, "and now it");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_primary_reads_what_its_peer_is_to_write_anew_between_its_own_writes() {
    let mut bench = primary();
    bench.write(0);
    bench.write_metadata();
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::RemoteRead { id, volume, range });
    assert_eq!(bench.on_disk(READ), 0, "the other node may not have it yet");
    assert!(bench.disk(WRITE, Ok(())));
    bench.peer_acks();
    bench.write(0);
    assert_eq!(bench.on_disk(WRITE), 0, "the answer has to go first");
    bench.sent();
    assert!(bench.disk(READ, Ok(())));
    let of_place = |packet: Packet| match packet {
        Packet::RemoteData { .. } => Some(true),
        Packet::Write { .. } => Some(false),
        _ => None,
    };
    let order: Vec<bool> = bench.sent().into_iter().filter_map(of_place).collect();
    assert_eq!(order, [true, false]);
}

#[test]
fn the_peer_is_given_more_time_while_what_it_has_asked_for_is_not_read() {
    let mut bench = primary();
    let piece = verify(&mut bench);
    peer_replies(&mut bench, piece, false);
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::RemoteRead { id, volume, range });
    bench.wait_ms(1_000);
    assert_eq!(asked(&mut bench), None);
    assert!(bench.disk(READ, Ok(())));
    bench.wait_ms(1_000);
    assert_eq!(asked(&mut bench), Some(piece));
}
