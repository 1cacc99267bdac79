//! Writes and flushes at their edges: where they may go, what their failure leaves behind, and
//! what the loss of the peer has them wait for.

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::resync::{behind, replication, source, source_of};
use super::{Bench, SIZE, VOLUME, config, image};
use crate::{Command, DiskError, DiskRequest, LinkLoss, RequestError, RequestId, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

fn resync_ack(bench: &mut Bench, offset: u64) {
    bench.packet(Packet::ResyncAck {
        id: offset,
        volume: VOLUME,
        range: ByteRange::new(offset, 4096),
    });
}

fn resync_done(bench: &mut Bench) {
    let (volume, generation) = (VOLUME, bench.generation());
    bench.packet(Packet::ResyncDone { volume, generation });
}

/// A write that both disks have, and nobody has flushed.
fn written(bench: &mut Bench, offset: u64) -> RequestId {
    let write = bench.write(offset);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Ok(())));
    write
}

#[test]
fn what_clients_ask_for_must_lie_within_the_volume_and_on_its_blocks() {
    let (fua, discard) = (false, true);
    let kinds = [
        RequestKind::Read,
        RequestKind::Write { fua },
        RequestKind::Zero { fua, discard },
    ];
    let places = [
        ByteRange::new(SIZE, 512),
        ByteRange::new(SIZE - 512, 1024),
        ByteRange::new(256, 512),
        ByteRange::new(0, 256),
        ByteRange::new(0, 0),
        ByteRange::new(u64::MAX - 511, 512),
    ];
    for kind in kinds {
        let mut bench = Bench::primary();
        for range in places {
            let request = bench.request(kind, range);
            let error = Some(Err(RequestError::Invalid));
            assert_eq!(bench.answer(request), error, "{kind:?} {range:?}");
        }
        let last = bench.request(kind, ByteRange::new(SIZE - 512, 512));
        bench.write_metadata();
        assert_eq!(bench.answer(last), None, "the disk is at work on it");
    }
}

#[test]
fn a_failed_write_that_ends_while_its_target_is_filled_is_left_for_another_resync() {
    let mut bench = behind();
    let write = bench.write(2 << 20);
    bench.command(Command::SuspendIo);
    bench.disk(WRITE, Err(DiskError::NoSpace));
    let mut bench = source_of(bench);
    for offset in [0, 1 << 20, 2 << 20] {
        resync_ack(&mut bench, offset);
    }
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(bench.answer(write), None);
    bench.command(Command::ResumeIo);
    let error = Some(Err(RequestError::NoSpace));
    assert_eq!(bench.answer(write), error);
    assert_eq!(
        bench.out_of_sync_bytes(),
        4096,
        "nobody knows what is there"
    );
    assert_eq!(bench.close_dropped(), None, "it ends first");
    resync_done(&mut bench);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

#[test]
fn a_failed_write_that_ends_when_the_resync_has_ended_has_both_decide_anew() {
    let mut bench = source();
    let write = bench.write(2 << 20);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::NoSpace));
    for offset in [0, 1 << 20] {
        resync_ack(&mut bench, offset);
    }
    resync_done(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Established);
    assert_eq!(bench.close_dropped(), None);
    bench.peer_acks();
    let error = Some(Err(RequestError::NoSpace));
    assert_eq!(bench.answer(write), error);
    assert_eq!(bench.out_of_sync_bytes(), 4096);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

#[test]
fn a_flush_the_peer_has_made_waits_for_nothing_when_the_peer_is_lost() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    let generation = bench.generation();
    let flush = bench.flush();
    assert_eq!(bench.peer_acks(), 1);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.answer(flush), None);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bench.answer(flush), Some(Ok(())));
    assert_eq!(bench.generation(), generation, "both have everything");
}

#[test]
fn a_flush_the_lost_peer_has_not_made_waits_until_its_loss_is_recorded() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    let generation = bench.generation();
    let flush = bench.flush();
    bench.link_down(LinkLoss::Closed);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bench.answer(flush), None, "a fail-over would lose it (A2)");
    bench.write_metadata();
    assert_eq!(bench.answer(flush), Some(Ok(())));
    assert_ne!(bench.generation(), generation);
}

#[test]
fn a_write_waits_for_the_record_of_a_peers_loss_whichever_disk_is_done_first() {
    for is_local_first in [true, false] {
        let mut bench = Bench::primary();
        written(&mut bench, 0);
        let write = bench.write(4096);
        if is_local_first {
            bench.disk(WRITE, Ok(()));
        }
        bench.link_down(LinkLoss::Closed);
        if !is_local_first {
            bench.disk(WRITE, Ok(()));
        }
        assert_eq!(bench.answer(write), None, "(A2)");
        bench.write_metadata();
        assert_eq!(bench.answer(write), Some(Ok(())));
        assert_eq!(bench.out_of_sync_bytes(), 8192);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
    }
}

/// Until then it might come back as one that has everything.
#[test]
fn a_flush_without_the_peer_waits_until_its_data_is_told_from_the_own() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.asked.clear();
    let flush = bench.flush();
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bench.answer(flush), None, "(B1)");
    bench.write_metadata();
    assert_eq!(bench.answer(flush), Some(Ok(())));
}

#[test]
fn no_generation_begins_while_a_greeting_is_on_its_way() {
    let mut bench = Bench::primary();
    let generation = bench.generation();
    bench.link_down(LinkLoss::Closed);
    bench.link_up();
    bench.write_metadata();
    let mut hello = bench.greeting();
    assert_eq!(hello.volumes[0].current, generation);
    let write = bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0);
    assert_eq!(bench.generation(), generation, "it has said so (D5)");
    hello.incarnation = 99;
    hello.role = Role::Secondary;
    bench.packet(Packet::Hello(hello.into()));
    bench.write_metadata();
    assert_eq!(bench.generation(), generation, "nothing was written alone");
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Ok(())));
}

fn peer_writes(bench: &mut Bench, id: u64) {
    bench.packet(Packet::Write {
        id,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
}

#[test]
fn a_peers_write_is_acknowledged_when_this_disk_is_known_not_to_have_lost_its_power() {
    let mut bench = Bench::just_in_sync();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    for id in [1, 2] {
        peer_writes(&mut bench, id);
        bench.disk(WRITE, Ok(()));
    }
    let is_ack = |packet: &Packet| matches!(packet, Packet::WriteAck { .. });
    assert!(
        !bench.sent().iter().any(is_ack),
        "its death would be taken for a loss (B7)"
    );
    bench.write_metadata();
    assert_eq!(
        bench.superblock.as_ref().map(|block| block.boot_id),
        Some(7)
    );
    assert_eq!(
        bench.sent().iter().filter(|packet| is_ack(packet)).count(),
        2
    );
}

#[test]
fn a_primary_that_is_in_sync_for_the_first_time_since_boot_records_that_before_it_goes_on() {
    let mut bench = Bench::alone(config(), image());
    bench.write_metadata();
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    for offset in [0, 1 << 20] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
    }
    let mut bench = source_of(bench);
    for offset in [0, 1 << 20] {
        resync_ack(&mut bench, offset);
    }
    resync_done(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Established);
    bench.write(2 << 20);
    let is_write = |packet: &Packet| matches!(packet, Packet::Write { .. });
    assert!(
        !bench.sent().iter().any(is_write),
        "beside a second Primary it would count (B7)"
    );
    bench.write_metadata();
    assert_eq!(
        bench.superblock.as_ref().map(|block| block.boot_id),
        Some(7)
    );
    assert!(bench.sent().iter().any(is_write));
}

#[test]
fn what_a_peer_writes_to_one_place_is_written_one_after_the_other() {
    let mut bench = Bench::in_sync();
    for id in [1, 2, 3] {
        peer_writes(&mut bench, id);
    }
    for id in [1, 2, 3] {
        assert_eq!(bench.on_disk(WRITE), 1, "{id} (A6)");
        bench.disk(WRITE, Ok(()));
        let ack = Packet::WriteAck { id, volume: VOLUME };
        assert!(bench.sent().contains(&ack));
    }
    assert_eq!(bench.on_disk(WRITE), 0);
}
