//! What people are told of the data path, and how much more of it an export or a link may bring.

use rbd_protocol::control::{DeviceStatus, PeerDeviceStatus, ResyncProgress};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;

use super::diskless::{SHARED, done, remote_write, served};
use super::resync::{NEWER, READ, WRITE, asked_for, blocks, end, source, target};
use super::{Bench, PEER, VOLUME};
use crate::{Command, DiskRequest, PauseOrder, PausedBy, RequestKind};

fn device(bench: &Bench) -> DeviceStatus {
    bench.engine.status(bench.now).devices.remove(0)
}

fn peer(bench: &Bench) -> PeerDeviceStatus {
    bench.connection().peer_devices.remove(0)
}

fn progress(bench: &Bench) -> ResyncProgress {
    peer(bench).resync.expect("a resync")
}

fn read(bench: &mut Bench) {
    bench.request(RequestKind::Read, ByteRange::new(16384, 8192));
}

#[test]
fn what_clients_write_and_read_is_counted_where_it_went() {
    let mut bench = Bench::primary();
    for offset in [0, 4096, 8192] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
        bench.peer_acks();
    }
    for _ in 0..2 {
        read(&mut bench);
        bench.disk(DiskRequest::Read, Ok(()));
    }
    let (device, peer) = (device(&bench), peer(&bench));
    assert_eq!((device.written_bytes, device.read_bytes), (12288, 16384));
    assert_eq!((peer.sent_bytes, peer.received_bytes), (12288, 0));
    assert_eq!(device.intent_writes, 1, "one region was marked");
    assert_eq!(device.upper_pending, 0, "all of it is answered");
}

#[test]
fn what_a_peer_writes_is_counted_when_it_has_come_and_when_it_is_written() {
    let mut bench = Bench::in_sync();
    for id in 1..=3 {
        bench.packet(Packet::Write {
            id,
            volume: VOLUME,
            range: ByteRange::new(id * 4096, 4096),
            fua: false,
            place: Default::default(),
        });
    }
    assert_eq!(peer(&bench).received_bytes, 12288);
    assert_eq!(device(&bench).written_bytes, 0);
    for _ in 0..3 {
        bench.disk(WRITE, Ok(()));
    }
    assert_eq!(device(&bench).written_bytes, 12288);
    assert_eq!(peer(&bench).sent_bytes, 0);
}

#[test]
fn what_the_peer_does_for_clients_without_a_disk_is_counted() {
    let mut bench = served();
    let before = (device(&bench), peer(&bench));
    for offset in [0, 1 << 20] {
        bench.write(offset);
        let id = remote_write(&mut bench);
        done(&mut bench, id, SHARED);
        read(&mut bench);
        let asked = bench.sent().into_iter().find_map(|packet| match packet {
            Packet::RemoteRead { id, range, .. } => Some((id, range)),
            _ => None,
        });
        let ((id, range), volume) = (asked.expect("the peer is asked"), VOLUME);
        bench.packet(Packet::RemoteData { id, volume, range });
    }
    let after = (device(&bench), peer(&bench));
    assert_eq!(after.0.written_bytes - before.0.written_bytes, 8192);
    assert_eq!(after.0.read_bytes - before.0.read_bytes, 16384);
    assert_eq!(after.1.sent_bytes - before.1.sent_bytes, 8192);
    assert_eq!(after.1.received_bytes - before.1.received_bytes, 16384);
}

#[test]
fn a_source_tells_how_much_it_has_sent_and_how_much_were_zeroes() {
    let mut bench = source();
    let before = peer(&bench).sent_bytes;
    assert_eq!(progress(&bench).total_bytes, 8192);
    for id in 1..=4 {
        let range = ByteRange::new((id % 2) << 20, 4096);
        bench.packet(Packet::ResyncRequest {
            id,
            volume: VOLUME,
            range,
        });
        if id > 2 {
            bench.disk_zero();
        } else {
            bench.disk(READ, Ok(()));
        }
    }
    assert_eq!(peer(&bench).sent_bytes - before, 8192);
    assert_eq!(progress(&bench).zero_bytes, 8192);
    assert_eq!(progress(&bench).remaining_bytes, 8192);
    bench.packet(Packet::ResyncAck {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert_eq!(progress(&bench).remaining_bytes, 4096);
}

#[test]
fn a_target_tells_how_much_has_come_and_how_much_did_not_have_to() {
    let mut bench = target();
    bench.packet(blocks(&[0, 10, 20, 30]));
    bench.packet(end(NEWER));
    assert_eq!(progress(&bench).total_bytes, 16384);
    let volume = VOLUME;
    for (id, range) in asked_for(&mut bench) {
        if range.offset < 20 * 4096 {
            bench.packet(Packet::ResyncData { id, volume, range });
        } else {
            bench.packet(Packet::ResyncZero { id, volume, range });
        }
    }
    assert_eq!(peer(&bench).received_bytes, 8192);
    assert_eq!(progress(&bench).zero_bytes, 8192);
    assert_eq!(progress(&bench).same_bytes, 0);
}

#[test]
fn an_export_has_room_again_when_its_clients_have_their_answers() {
    let mut bench = Bench::primary();
    let room = bench.engine.room();
    bench.write(0);
    bench.write(4096);
    read(&mut bench);
    read(&mut bench);
    let taken = bench.engine.room();
    assert_eq!(room.requests - taken.requests, 4);
    assert_eq!(room.bytes - taken.bytes, 24576);
    bench.write_metadata();
    while bench.disk(WRITE, Ok(())) || bench.disk(DiskRequest::Read, Ok(())) {}
    bench.peer_acks();
    assert_eq!(bench.engine.room(), room);
}

#[test]
fn a_link_has_room_again_when_what_has_come_over_it_is_written() {
    let mut bench = Bench::in_sync();
    let room = bench.engine.link_room(PEER);
    bench.packet(Packet::Write {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    let taken = bench.engine.link_room(PEER);
    assert_eq!(room.requests - taken.requests, 1);
    assert_eq!(room.bytes - taken.bytes, 4096);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.engine.link_room(PEER), room);
}

#[test]
fn what_clients_wait_for_is_counted() {
    let mut bench = Bench::primary();
    bench.command(Command::SuspendIo);
    bench.write(0);
    read(&mut bench);
    bench.flush();
    assert_eq!(device(&bench).upper_pending, 3);
}

#[test]
fn people_are_told_what_becomes_of_a_disk_and_of_a_resync() {
    let mut bench = target();
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    for paused in [true, true, false] {
        let (volume, peer, by) = (VOLUME, Some(PEER), PausedBy::User);
        bench.command(Command::PauseSync(PauseOrder {
            volume,
            peer,
            by,
            paused,
        }));
    }
    let told = [
        "disk Consistent -> Inconsistent",
        "resync begins: 4096 bytes to receive",
        "resync paused",
        "resync goes on",
    ];
    let reports = bench.reports();
    for text in told {
        let times = reports.iter().filter(|report| **report == text).count();
        assert_eq!(times, 1, "{text}: {reports:?}");
    }
}
