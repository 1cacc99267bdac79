//! Reads that the disk cannot do, and the peer that is in sync.

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, VOLUME};
use crate::{DiskError, DiskRequest, LinkLoss, RequestError, RequestId, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const RANGE: ByteRange = ByteRange {
    offset: 4096,
    length: 4096,
};

fn read(bench: &mut Bench) -> RequestId {
    bench.request(RequestKind::Read, RANGE)
}

/// The peer has been asked to read.
fn asked(bench: &mut Bench) -> Option<u64> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, range, .. } if range == RANGE => Some(id),
        _ => None,
    })
}

/// The peer's answer.
fn found(bench: &mut Bench, id: u64) {
    let (volume, range) = (VOLUME, RANGE);
    bench.packet(Packet::RemoteData { id, volume, range });
}

/// A Primary that could not do a read, the read, and what the peer knows it as.
fn unread() -> (Bench, RequestId, u64) {
    let mut bench = Bench::primary();
    let request = read(&mut bench);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    let id = asked(&mut bench).expect("the peer is asked");
    (bench, request, id)
}

#[test]
fn what_cannot_be_read_comes_from_the_peer_and_is_written_anew() {
    let (mut bench, request, id) = unread();
    found(&mut bench, id);
    assert_eq!(bench.answer(request), None, "it is not written yet");
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.answer(request), Some(Ok(())));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_disk_that_does_not_take_it_either_has_failed() {
    let (mut bench, request, id) = unread();
    found(&mut bench, id);
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(
        bench.answer(request),
        None,
        "the peer is being connected anew"
    );
}

#[test]
fn others_wait_for_the_place() {
    let (mut bench, request, id) = unread();
    let other = read(&mut bench);
    let write = bench.write(RANGE.offset);
    found(&mut bench, id);
    assert_eq!(bench.on_disk(DiskRequest::Read), 0);
    assert_eq!(bench.on_disk(WRITE), 1, "only what is mended");
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.answer(request), Some(Ok(())));
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(other), Some(Ok(())));
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    assert_eq!(bench.answer(write), None);
}

#[test]
fn what_neither_can_read_is_an_error_and_no_disk_is_lost_for_it() {
    let (mut bench, request, id) = unread();
    let (volume, code) = (VOLUME, FailureCode::Io);
    bench.packet(Packet::RemoteFailed { id, volume, code });
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let peer = bench.connection().peer_devices.remove(0);
    assert_eq!(peer.peer_disk_state, DiskState::UpToDate);
}

#[test]
fn the_peer_keeps_its_disk_too() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.sent();
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::RemoteRead { id, volume, range });
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    let failed = Packet::RemoteFailed {
        id,
        volume,
        code: FailureCode::Io,
    };
    assert!(bench.sent().contains(&failed));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn without_a_peer_it_is_an_error_and_the_only_disk_stays() {
    let (mut bench, request, _) = unread();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert!(bench.disk(DiskRequest::Read, Err(DiskError::Io)), "again");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    let request = read(&mut bench);
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn what_is_known_to_differ_is_not_asked_of_the_peer() {
    let mut config = super::config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::primary_as(config);
    super::verify::finds(&mut bench, 1);
    let request = read(&mut bench);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    assert!(asked(&mut bench).is_none());
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn what_differs_beside_a_place_does_not_matter() {
    let mut config = super::config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::primary_as(config);
    super::verify::finds(&mut bench, 2);
    let request = read(&mut bench);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    let id = asked(&mut bench).expect("the peer has what is before the marked block");
    found(&mut bench, id);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn a_peer_without_all_of_the_data_is_not_asked() {
    for disk in [DiskState::Inconsistent, DiskState::Outdated] {
        let mut bench = Bench::primary();
        bench.packet(Packet::State {
            role: Role::Secondary,
            tenure: 7,
            disks: alloc::vec![(VOLUME, disk)],
        });
        bench.write_metadata();
        let request = read(&mut bench);
        bench.disk(DiskRequest::Read, Err(DiskError::Io));
        assert!(asked(&mut bench).is_none(), "{disk}");
        assert_eq!(bench.answer(request), Some(Err(RequestError::Io)), "{disk}");
    }
}

#[test]
fn a_node_that_serves_another_one_keeps_the_only_disk_there_is() {
    let mut bench = super::diskless::serving();
    let (id, volume, range) = (7, VOLUME, RANGE);
    bench.packet(Packet::RemoteRead { id, volume, range });
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    let code = FailureCode::Io;
    let failed = Packet::RemoteFailed { id, volume, code };
    assert!(bench.sent().contains(&failed));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn what_the_serving_peer_cannot_read_is_one_error() {
    let mut bench = super::diskless::served();
    let request = read(&mut bench);
    let id = asked(&mut bench).expect("the peer is asked");
    let (volume, code) = (VOLUME, FailureCode::Io);
    bench.packet(Packet::RemoteFailed { id, volume, code });
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    read(&mut bench);
    assert!(asked(&mut bench).is_some(), "it is asked for more");
}

#[test]
fn a_disk_with_ever_more_such_places_has_failed() {
    let mut bench = Bench::primary();
    for _ in 0..20 {
        let request = read(&mut bench);
        bench.disk(DiskRequest::Read, Err(DiskError::Io));
        let id = asked(&mut bench).expect("the peer is asked");
        found(&mut bench, id);
        bench.disk(WRITE, Ok(()));
        assert_eq!(bench.answer(request), Some(Ok(())));
    }
    read(&mut bench);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn nothing_is_written_while_clients_are_to_wait() {
    let (mut bench, request, id) = unread();
    bench.command(crate::Command::SuspendIo);
    found(&mut bench, id);
    assert_eq!(bench.on_disk(WRITE), 0);
    bench.command(crate::Command::ResumeIo);
    assert!(bench.disk(DiskRequest::Read, Err(DiskError::Io)), "again");
    let id = asked(&mut bench).expect("the peer is asked again");
    found(&mut bench, id);
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.answer(request), Some(Ok(())));
}
