//! Two Primaries, one of which loses its disk, and what is in flight just then.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::fenced_return::without_disk;
use super::fencing::{fenced, stonith};
use super::two_primaries::{BEFORE, higher, lower, peer_writes, with};
use super::{Bench, SIZE, VOLUME, config, sizes};
use crate::{Command, DiskError, DiskRequest, HandlerResult, LinkLoss, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// The peer, which is Primary, says that its disk is of no use any more.
fn peer_loses_its_disk(bench: &mut Bench) {
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::Failed)],
    });
}

fn read(bench: &mut Bench) -> crate::RequestId {
    bench.request(RequestKind::Read, ByteRange::new(0, 4096))
}

#[test]
fn what_the_peer_had_written_here_ends_before_what_overlaps_it_begins() {
    for mut bench in [lower(), higher()] {
        peer_writes(&mut bench, 70, (0, 1), BEFORE);
        bench.write(0);
        assert_eq!(bench.on_disk(WRITE), 1, "the peer's");
        peer_loses_its_disk(&mut bench);
        bench.write(0);
        bench.write_metadata();
        assert_eq!(bench.on_disk(WRITE), 1, "still the peer's alone (A6)");
        bench.disk(WRITE, Ok(()));
        bench.write_metadata();
        assert_eq!(bench.on_disk(WRITE), 1, "the first own one");
    }
}

#[test]
fn a_read_beside_a_write_of_the_peer_that_fails_is_not_answered_from_that_disk() {
    let mut bench = higher();
    let read = read(&mut bench);
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.answer(read), None);
    let volume = VOLUME;
    bench.packet(Packet::Settled { id: 1, volume });
    assert_eq!(bench.answer(read), None, "it may be on the own disk or not");
    bench.disk(WRITE, Err(DiskError::NoSpace));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.answer(read), None, "the peer is asked");
}

/// It may show what no other disk has, and there was no verdict on the peer.
#[test]
fn what_was_read_and_kept_back_is_not_shown_when_the_disk_is_lost() {
    let two = || with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    for mut bench in [stonith(), two()] {
        let read = read(&mut bench);
        bench.link_down(LinkLoss::Timeout);
        assert!(bench.is_frozen());
        bench.disk(DiskRequest::Read, Ok(()));
        assert_eq!(bench.answer(read), None, "it is kept back (G4)");
        let (volume, force) = (VOLUME, true);
        bench.command(Command::Detach { volume, force });
        assert_ne!(bench.answer(read), Some(Ok(())), "(B8)");
    }
}

/// By an answer about one write it is known before the peer tells so itself.
#[test]
fn a_peer_whose_disk_fails_under_a_write_is_fenced_before_anything_is_made_of_that() {
    let two = || with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    for mut bench in [stonith(), two()] {
        let generation = bench.generation();
        let write = bench.write(0);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
        let sent = bench.sent().into_iter().find_map(|packet| match packet {
            Packet::Write { id, .. } => Some(id),
            _ => None,
        });
        bench.packet(Packet::NegativeAck {
            id: sent.expect("it is mirrored"),
            volume: VOLUME,
            code: FailureCode::Io,
        });
        assert!(bench.is_frozen());
        bench.write_metadata();
        assert_eq!(bench.generation(), generation, "there is no verdict");
        assert_eq!(bench.answer(write), None);
    }
}

/// The other Primary has lost its disk, and has been kept from it.
fn serving() -> Bench {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        without_disk(hello);
        hello.role = Role::Primary;
    });
    bench
}

fn fence(bench: &mut Bench) {
    bench.wait_ms(1_000);
    let handler = bench.fence_starts();
    bench.handler_ends(handler, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen());
    bench.sent();
}

fn is_asked_to_write(bench: &mut Bench, id: u64) {
    bench.packet(Packet::RemoteWrite {
        id,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
    });
}

/// What of the peer's requests has been answered, and how.
fn answers(bench: &mut Bench) -> Vec<(u64, bool)> {
    let packets = bench.sent().into_iter();
    let answers = packets.filter_map(|packet| match packet {
        Packet::RemoteDone { id, .. } | Packet::RemoteData { id, .. } => Some((id, true)),
        Packet::RemoteFailed { id, .. } => Some((id, false)),
        _ => None,
    });
    answers.collect()
}

/// Lets the disk do everything. How the peer's requests were answered.
fn finish(bench: &mut Bench) -> Vec<(u64, bool)> {
    let mut all = Vec::new();
    for _ in 0..6 {
        bench.disk(WRITE, Ok(()));
        bench.disk(DiskRequest::Read, Ok(()));
        bench.disk(DiskRequest::Flush, Ok(()));
        bench.write_metadata();
        all.extend(answers(bench));
    }
    all
}

#[test]
fn a_demotion_costs_the_clients_it_serves_for_the_other_nothing() {
    let (volume, force) = (VOLUME, false);
    let range = ByteRange::new(8192, 4096);
    let mut bench = serving();
    assert!(bench.is_frozen());
    let call = bench.command(Command::Demote { force });
    is_asked_to_write(&mut bench, 80);
    bench.packet(Packet::RemoteRead {
        id: 81,
        volume,
        range,
    });
    bench.packet(Packet::RemoteFlush { id: 82, volume });
    let mut answers = finish(&mut bench);
    assert_eq!(bench.reply(call), Some(true));
    answers.sort_unstable();
    assert_eq!(answers, [(80, true), (81, true), (82, true)]);
}

#[test]
fn nor_does_it_turn_away_what_waits_for_a_client_of_its_own() {
    let mut bench = serving();
    fence(&mut bench);
    let own = bench.write(0);
    is_asked_to_write(&mut bench, 80);
    assert_eq!(bench.on_disk(WRITE), 1, "the other waits");
    let call = bench.command(Command::Demote { force: false });
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(own), Some(Ok(())));
    assert_eq!(finish(&mut bench), [(80, true)]);
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_demotion_does_not_wait_for_the_clients_of_the_other() {
    let mut bench = serving();
    fence(&mut bench);
    is_asked_to_write(&mut bench, 80);
    assert_eq!(bench.on_disk(WRITE), 1);
    let call = bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.on_disk(WRITE), 1, "it is still under way");
    assert_eq!(bench.reply(call), Some(true));
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(answers(&mut bench), [(80, true)]);
}

#[test]
fn of_two_that_grow_the_target_shows_it_when_the_source_does() {
    let mut config = config();
    config.node_id = NodeId(5);
    config.peers[0].net.two_primaries = true;
    let mut bench = Bench::alone(config, sizes::roomy());
    bench.meet(|_| {});
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.command(sizes::RESIZE);
    let found = sizes::external(sizes::LARGE, sizes::LARGE);
    sizes::measure(&mut bench, Ok(found));
    let (request, _) = sizes::asked_of_peer(&mut bench).expect("the peer is asked");
    sizes::peer_answers(&mut bench, request, sizes::LARGE, true);
    bench.write_metadata();
    let mut theirs = bench.relink().expect("a greeting");
    theirs.incarnation = 99;
    let generation = theirs.volumes[0].current;
    bench.packet(Packet::Hello(theirs.into()));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent, "the target");
    assert_eq!(sizes::size(&bench), SIZE);
    bench.write_metadata();
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    });
    assert_eq!(sizes::size(&bench), sizes::LARGE);
}
