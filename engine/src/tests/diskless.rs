//! A Primary whose disk is gone, and the peer that serves its clients.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode};
use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::{FailureCode, Hello, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::fencing::fenced;
use super::{Bench, PEER, VOLUME};
use crate::{Action, Command, DiskError, DiskRequest, Event, LinkLoss, RequestError, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// The generation both nodes have at first.
pub(super) const SHARED: GenerationId = GenerationId(0x1000);

/// The peer's greeting: it has everything.
pub(super) fn whole(own: &Hello) -> Hello {
    let mut hello = own.clone();
    hello.role = Role::Secondary;
    hello.incarnation = 99;
    let volume = &mut hello.volumes[0];
    volume.disk = DiskState::UpToDate;
    volume.size_bytes = super::SIZE;
    volume.block_bytes = 512;
    volume.current = SHARED;
    volume.dirty_blocks = 0;
    hello
}

/// A Primary whose disk has failed under a write, and the write.
pub(super) fn failed() -> (Bench, crate::RequestId) {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    (bench, write)
}

pub(super) fn served() -> Bench {
    let (mut bench, _) = failed();
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let id = remote_write(&mut bench);
    done(&mut bench, id, SHARED);
    bench.asked.clear();
    bench
}

pub(super) fn remote_write(bench: &mut Bench) -> u64 {
    let found = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::RemoteWrite { id, .. } => Some(id),
        _ => None,
    });
    found.expect("the peer is asked to write")
}

pub(super) fn done(bench: &mut Bench, id: u64, generation: GenerationId) {
    let volume = VOLUME;
    bench.packet(Packet::RemoteDone {
        id,
        volume,
        generation,
    });
}

fn read(bench: &mut Bench) -> crate::RequestId {
    bench.request(RequestKind::Read, ByteRange::new(4096, 4096))
}

#[test]
fn a_write_whose_disk_fails_is_done_by_the_peer() {
    let (mut bench, write) = failed();
    assert_eq!(
        bench.answer(write),
        None,
        "the peer is being connected anew"
    );
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].disk, DiskState::Diskless);
    assert_eq!(own.volumes[0].current, SHARED, "what clients have seen");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let id = remote_write(&mut bench);
    assert_eq!(bench.answer(write), None, "the peer has not answered");
    done(&mut bench, id, GenerationId(0x2000));
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.on_disk(WRITE), 0);
}

#[test]
fn clients_wait_only_so_long_for_a_peer_that_does_not_come_back() {
    let (mut bench, write) = failed();
    bench.wait_ms(9_000);
    assert_eq!(bench.answer(write), None);
    bench.wait_ms(1_000);
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
    let later = read(&mut bench);
    assert_eq!(bench.answer(later), Some(Err(RequestError::Io)));
}

#[test]
fn nobody_waits_when_there_was_no_peer() {
    let mut bench = Bench::primary();
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: bench.link,
        loss: LinkLoss::Closed,
    });
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::NoSpace));
    assert_eq!(bench.answer(write), Some(Err(RequestError::NoSpace)));
}

/// As long as no disk has told the size, it is not known what lies beyond the end.
#[test]
fn what_does_not_fit_is_turned_away_when_a_size_is_known() {
    let mut bench = served();
    let beyond = ByteRange::new(1 << 60, 4096);
    let write = RequestKind::Write { fua: false };
    let request = bench.request(write, beyond);
    assert_eq!(bench.answer(request), Some(Err(RequestError::Invalid)));
    let inside = bench.write(0);
    assert_eq!(bench.answer(inside), None, "the peer is asked");
}

#[test]
fn reads_and_flushes_go_to_the_peer_too() {
    let mut bench = served();
    let request = read(&mut bench);
    let flush = bench.flush();
    let sent = bench.sent();
    let asked = sent.iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, range, .. } => Some((*id, *range)),
        _ => None,
    });
    let (id, range) = asked.expect("the peer is asked to read");
    let flushed = sent.iter().find_map(|packet| match packet {
        Packet::RemoteFlush { id, .. } => Some(*id),
        _ => None,
    });
    let volume = VOLUME;
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.answer(request), Some(Ok(())));
    assert_eq!(bench.answer(flush), None);
    done(
        &mut bench,
        flushed.expect("the peer is asked to flush"),
        SHARED,
    );
    assert_eq!(bench.answer(flush), Some(Ok(())));
}

#[test]
fn what_the_peer_has_not_answered_is_asked_again_when_it_is_back() {
    let mut bench = served();
    let write = bench.write(8192);
    remote_write(&mut bench);
    let own = bench.relink().expect("a greeting");
    assert_eq!(bench.answer(write), None);
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let id = remote_write(&mut bench);
    done(&mut bench, id, SHARED);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_peer_with_other_data_than_clients_have_seen_does_not_serve_them() {
    let (mut bench, write) = failed();
    let own = bench.relink().expect("a greeting");
    let mut hello = whole(&own);
    hello.volumes[0].current = GenerationId(0x7777);
    bench.packet(Packet::Hello(Box::new(hello)));
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
}

#[test]
fn a_peer_that_began_a_generation_for_this_nodes_writes_serves_on() {
    let mut bench = served();
    let own = bench.relink().expect("a greeting");
    let mut hello = whole(&own);
    hello.volumes[0].current = GenerationId(0x7777);
    hello.volumes[0].bitmap = SHARED;
    bench.packet(Packet::Hello(Box::new(hello.clone())));
    let write = bench.write(8192);
    remote_write(&mut bench);
    assert_eq!(bench.answer(write), None);
    // But not one that has had another role in between: it may have had clients.
    bench.relink().expect("a greeting");
    hello.tenure += 1;
    hello.volumes[0].current = GenerationId(0x8888);
    hello.volumes[0].bitmap = GenerationId(0x7777);
    bench.packet(Packet::Hello(Box::new(hello)));
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
}

#[test]
fn a_peer_that_had_another_role_before_the_disk_failed_serves_all_the_same() {
    let mut bench = Bench::primary();
    let told = 0x5555;
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: told,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    let own = bench.relink().expect("a greeting");
    let mut hello = whole(&own);
    hello.tenure = told;
    hello.volumes[0].current = GenerationId(0x7777);
    hello.volumes[0].bitmap = SHARED;
    bench.packet(Packet::Hello(Box::new(hello)));
    let id = remote_write(&mut bench);
    done(&mut bench, id, GenerationId(0x7777));
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_peer_that_has_lost_its_power_serves_only_if_it_had_made_everything_durable() {
    for flushed in [false, true] {
        let mut bench = served();
        if flushed {
            bench.flush();
            let id = bench.sent().into_iter().find_map(|packet| match packet {
                Packet::RemoteFlush { id, .. } => Some(id),
                _ => None,
            });
            done(&mut bench, id.expect("it is asked to flush"), SHARED);
        }
        // However often it is met.
        for _ in 0..2 {
            let own = bench.relink().expect("a greeting");
            let mut hello = whole(&own);
            hello.boot += 1;
            bench.packet(Packet::Hello(Box::new(hello)));
            let request = read(&mut bench);
            let error = Some(Err(RequestError::Io));
            assert_eq!(bench.answer(request), error.filter(|_| !flushed));
        }
    }
}

#[test]
fn a_failure_of_the_peers_disk_too_is_told() {
    let mut bench = served();
    let write = bench.write(8192);
    let id = remote_write(&mut bench);
    let (volume, code) = (VOLUME, FailureCode::NoDisk);
    bench.packet(Packet::RemoteFailed { id, volume, code });
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)), "H4");
}

#[test]
fn a_place_that_the_peer_cannot_write_costs_only_that_write() {
    let codes = [
        (FailureCode::Io, RequestError::Io),
        (FailureCode::NoSpace, RequestError::NoSpace),
    ];
    for (code, error) in codes {
        let mut bench = served();
        let write = bench.write(8192);
        let id = remote_write(&mut bench);
        let volume = VOLUME;
        bench.packet(Packet::RemoteFailed { id, volume, code });
        assert_eq!(bench.answer(write), Some(Err(error)), "H5");
        let other = bench.write(16384);
        let id = remote_write(&mut bench);
        done(&mut bench, id, SHARED);
        assert_eq!(bench.answer(other), Some(Ok(())));
    }
}

#[test]
fn a_late_completion_of_the_old_disk_changes_nothing() {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    let other = bench.write(4096);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    assert!(bench.disk(WRITE, Ok(())), "it was still under way");
    assert_eq!((bench.answer(write), bench.answer(other)), (None, None));
}

#[test]
fn a_node_without_a_disk_is_promoted_when_the_peer_has_everything() {
    let mut bench = Bench::in_sync();
    bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert_eq!(bench.reply(call), Some(true));
    bench.write(0);
    remote_write(&mut bench);
}

#[test]
fn with_fencing_a_node_without_its_disk_is_not_promoted() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    for force in [false, true] {
        let call = bench.command(Command::Promote { force });
        assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
    }
}

#[test]
fn a_disk_that_fails_under_a_primary_is_told_that_it_is_behind() {
    for connected in [true, false] {
        let mut bench = Bench::primary();
        if !connected {
            bench.link_down(LinkLoss::Closed);
            bench.write_metadata();
        }
        bench.write(0);
        bench.write_metadata();
        bench.disk(WRITE, Err(DiskError::Io));
        let written = bench.write_metadata();
        assert_eq!(
            !written.is_empty(),
            connected,
            "the only copy is not given up"
        );
    }
}

/// A node with everything that serves a Primary without a disk.
pub(super) fn serving() -> Bench {
    let mut bench = Bench::in_sync();
    let own = bench.relink().expect("a greeting");
    let mut hello = own;
    hello.incarnation = 99;
    hello.role = Role::Primary;
    hello.volumes[0].disk = DiskState::Diskless;
    hello.volumes[0].size_bytes = 0;
    bench.packet(Packet::Hello(Box::new(hello)));
    bench.asked.clear();
    bench
}

pub(super) fn ask_write(bench: &mut Bench, id: u64) {
    bench.packet(Packet::RemoteWrite {
        id,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
    });
}

fn answers(bench: &mut Bench) -> Vec<Packet> {
    let mut sent = bench.sent();
    sent.retain(|packet| {
        matches!(
            packet,
            Packet::RemoteDone { .. } | Packet::RemoteFailed { .. } | Packet::RemoteData { .. }
        )
    });
    sent
}

#[test]
fn a_write_for_the_peer_is_done_when_it_is_durable_that_the_peer_is_behind() {
    let mut bench = serving();
    ask_write(&mut bench, 70);
    assert_eq!(
        bench.on_disk(WRITE),
        0,
        "neither marked nor told apart (C1, A2)"
    );
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    let answers = answers(&mut bench);
    let [Packet::RemoteDone { id, generation, .. }] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(*id, 70);
    assert_ne!(*generation, SHARED, "its own disk does not have it");
    assert_eq!(bench.out_of_sync_bytes(), 4096);
}

#[test]
fn a_flush_for_the_peer_waits_for_the_disk() {
    let mut bench = serving();
    ask_write(&mut bench, 70);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    let volume = VOLUME;
    bench.packet(Packet::RemoteFlush { id: 71, volume });
    bench.sent();
    bench.disk(DiskRequest::Flush, Ok(()));
    bench.write_metadata();
    assert_eq!(answers(&mut bench).len(), 1);
}

#[test]
fn a_disk_that_fails_under_the_peers_write_is_said() {
    let mut bench = serving();
    ask_write(&mut bench, 70);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::NoSpace));
    let failed = Packet::RemoteFailed {
        id: 70,
        volume: VOLUME,
        code: FailureCode::NoSpace,
    };
    assert_eq!(answers(&mut bench), [failed]);
}

#[test]
fn a_node_that_is_not_up_to_date_serves_nobody() {
    let mut bench = serving();
    bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    assert!(bench.relink().is_some());
    bench.asked.clear();
    bench.packet(Packet::Hello(Box::new(whole(&Hello {
        role: Role::Primary,
        ..serving_hello()
    }))));
    ask_write(&mut bench, 70);
    assert!(matches!(
        answers(&mut bench).as_slice(),
        [Packet::RemoteFailed { .. }]
    ));
}

fn serving_hello() -> Hello {
    let mut bench = Bench::in_sync();
    bench.relink().expect("a greeting")
}

#[test]
fn what_the_peer_had_asked_over_an_older_link_is_over_before_the_next_greeting() {
    let mut bench = serving();
    ask_write(&mut bench, 70);
    bench.write_metadata();
    ask_write(&mut bench, 71);
    assert_eq!(bench.on_disk(WRITE), 1, "the second waits for the first");
    assert!(bench.relink().is_none(), "a write is under way (A7)");
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0, "the second is forgotten");
    let greeted = bench.asked.iter().any(|action| match action {
        Action::Send { packet, .. } => matches!(packet, Packet::Hello(_)),
        _ => false,
    });
    assert!(greeted);
}

/// A Secondary in sync, connected anew to a Primary without a disk that has shown this generation.
fn meets_one_that_has_shown(generation: GenerationId) -> Bench {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        hello.role = Role::Primary;
        let volume = &mut hello.volumes[0];
        volume.disk = DiskState::Diskless;
        (volume.size_bytes, volume.current) = (0, generation);
    });
    bench
}

#[test]
fn what_a_primary_without_a_disk_has_shown_and_is_not_here_makes_this_disk_outdated() {
    let mut bench = meets_one_that_has_shown(GenerationId(0x2000));
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Promote { force: false });
    bench.write_metadata();
    assert_eq!(
        bench.reply(call),
        Some(false),
        "its clients' data is not here"
    );
    let bench = meets_one_that_has_shown(SHARED);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}
