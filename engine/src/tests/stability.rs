//! What is acknowledged, what is durable, and what is marked in between.
use super::{Bench, LINK, PEER, VOLUME, config, image};
use crate::{
    Action, AttachedDisk, Command, DiskError, DiskNote, DiskRequest, Event, LinkLoss, RequestError,
    RequestId,
};
use alloc::vec::Vec;
use rbd_protocol::control::WriteCache;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::DiskState;

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

fn flush_sent(bench: &mut Bench) -> u64 {
    let id = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Flush { id, .. } => Some(id),
        _ => None,
    });
    id.expect("the peer is asked to flush")
}

fn ack_flush(bench: &mut Bench, id: u64) {
    bench.packet(Packet::FlushAck { id, volume: VOLUME });
}

fn fail_flush(bench: &mut Bench, id: u64) {
    bench.packet(Packet::NegativeAck {
        id,
        volume: VOLUME,
        code: FailureCode::Io,
    });
}

/// The peer has every write sent so far.
fn ack_writes(bench: &mut Bench) -> usize {
    let mut count = 0;
    for packet in bench.sent() {
        if let Packet::Write { id, .. } = packet {
            count += 1;
            bench.packet(Packet::WriteAck { id, volume: VOLUME });
        }
    }
    count
}

/// A write that both disks have.
fn written(bench: &mut Bench, offset: u64) -> RequestId {
    let request = bench.write(offset);
    bench.write_metadata();
    assert!(bench.disk(WRITE, Ok(())));
    ack_writes(bench);
    assert_eq!(bench.answer(request), Some(Ok(())));
    request
}

#[test]
fn a_write_goes_out_only_when_its_region_is_durably_marked() {
    let mut bench = Bench::primary();
    let request = bench.write(0);
    assert!(bench.is_writing_metadata());
    assert_eq!((bench.on_disk(WRITE), bench.sent().len()), (0, 0));
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    assert_eq!(bench.answer(request), None);
    let warm = bench.write(8192);
    assert!(!bench.is_writing_metadata(), "the region is marked already");
    assert_eq!(bench.on_disk(WRITE), 2);
    bench.disk(WRITE, Ok(()));
    bench.disk(WRITE, Ok(()));
    assert_eq!((bench.answer(request), bench.answer(warm)), (None, None));
    assert_eq!(ack_writes(&mut bench), 2);
    assert_eq!(bench.answer(warm), Some(Ok(())));
}

#[test]
fn a_flush_is_answered_when_both_disks_are_flushed() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    let request = bench.flush();
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bench.answer(request), None, "the peer has not flushed (B1)");
    ack_flush(&mut bench, id);
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn a_failed_local_flush_takes_the_disk_out_of_service_for_good() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    let request = bench.flush();
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Err(DiskError::Io));
    ack_flush(&mut bench, id);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    // The peer is asked as soon as it is back; it does not come back.
    assert_eq!(bench.answer(request), None);
    bench.wait_ms(10_000);
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    // A later flush does not heal it (B4).
    let later = bench.flush();
    assert_eq!(bench.answer(later), Some(Err(RequestError::Io)));
    assert_eq!(bench.on_disk(FLUSH), 0);
}

#[test]
fn a_flush_the_peer_failed_is_answered_only_when_what_it_may_lack_is_durably_told() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    written(&mut bench, 1 << 20);
    let request = bench.flush();
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bench.out_of_sync_bytes(), 0);
    fail_flush(&mut bench, id);
    assert_eq!(bench.out_of_sync_bytes(), 8192, "both are marked (B4, B5)");
    assert_eq!(
        bench.answer(request),
        None,
        "the new generation is not durable (A2)"
    );
    bench.write_metadata();
    assert_eq!(bench.answer(request), Some(Ok(())));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    // And nothing is sent to that disk any more.
    bench.write(8192);
    bench.write_metadata();
    assert_eq!(ack_writes(&mut bench), 0);
    assert_eq!(bench.out_of_sync_bytes(), 12_288);
}

#[test]
fn a_flush_made_for_the_peer_that_fails_is_said_and_takes_the_disk_out_of_service() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Flush {
        id: 70,
        volume: VOLUME,
    });
    bench.disk(FLUSH, Err(DiskError::Io));
    let told = bench.sent().into_iter().any(|packet| {
        matches!(
            packet,
            Packet::NegativeAck {
                id: 70,
                code: FailureCode::Io,
                ..
            }
        )
    });
    assert!(told);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.on_disk(FLUSH), 0);
}

#[test]
fn what_the_peer_may_lose_is_marked_when_the_link_is_lost_and_what_it_flushed_is_not() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    let request = bench.flush();
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Ok(()));
    written(&mut bench, 1 << 20); // after the flush was asked for: not covered by it
    ack_flush(&mut bench, id);
    assert_eq!(bench.answer(request), Some(Ok(())));
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: LINK,
        loss: LinkLoss::Closed,
    });
    assert_eq!(bench.out_of_sync_bytes(), 4096);
}

/// Writes until writes wait, with a peer that acknowledges them and never a flush. The number of
/// those that are not durable on it, and the first that waits.
fn write_until_full(bench: &mut Bench) -> (usize, RequestId) {
    written(bench, 0);
    bench.asked.clear();
    let mut acknowledged = 1;
    loop {
        let last = bench.write(4096);
        while bench.disk(WRITE, Ok(())) {}
        let before = acknowledged;
        let flushes = bench
            .asked
            .iter()
            .filter(|action| is_flush(action))
            .cloned();
        let flushes: Vec<_> = flushes.collect();
        acknowledged += ack_writes(bench);
        bench.asked.extend(flushes);
        if acknowledged == before {
            return (acknowledged, last);
        }
        assert!(acknowledged <= 1_000, "{acknowledged} writes may be lost");
    }
}

#[test]
fn no_more_than_a_thousand_writes_are_acknowledged_and_not_durable_on_the_peer() {
    let mut bench = Bench::primary();
    let (acknowledged, waiting) = write_until_full(&mut bench);
    assert!(acknowledged > 900, "only {acknowledged} until writes wait");
    assert_eq!(bench.answer(waiting), None);
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Ok(()));
    ack_flush(&mut bench, id);
    assert!(bench.disk(WRITE, Ok(())), "a barrier makes room");
    ack_writes(&mut bench);
    assert_eq!(bench.answer(waiting), Some(Ok(())));
}

#[test]
fn no_barrier_is_made_on_a_disk_that_has_failed_however_much_is_not_durable() {
    let mut bench = Bench::primary();
    write_until_full(&mut bench);
    assert!(bench.disk(FLUSH, Err(DiskError::Io)));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.on_disk(FLUSH), 0, "it has been let go of");
}

fn is_flush(action: &Action<u32>) -> bool {
    let flush = |packet: &Packet| matches!(packet, Packet::Flush { .. });
    matches!(action, Action::Send { packet, .. } if flush(packet))
}

#[test]
fn a_barrier_is_made_within_a_second_of_an_acknowledgement() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    bench.asked.clear();
    bench.wait_ms(1_000);
    let id = flush_sent(&mut bench);
    bench.disk(FLUSH, Ok(()));
    ack_flush(&mut bench, id);
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: LINK,
        loss: LinkLoss::Closed,
    });
    assert_eq!(bench.out_of_sync_bytes(), 0, "all of it is durable on both");
}

#[test]
fn a_mark_leaves_the_log_only_after_both_disks_have_been_flushed() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    bench.asked.clear();
    bench.wait_ms(40_000); // long enough to be idle
    let id = flush_sent(&mut bench);
    assert!(!bench.is_writing_metadata());
    bench.disk(FLUSH, Ok(()));
    assert!(
        !bench.is_writing_metadata(),
        "the peer has not flushed (B9)"
    );
    ack_flush(&mut bench, id);
    let written = bench.write_metadata();
    assert_eq!(written.len(), 1, "the log without the region: {written:?}");
    let status = bench.engine.status(bench.now);
    assert_eq!(status.devices[0].hot_regions, 0);
}

#[test]
fn a_mark_whose_region_was_written_during_the_checkpoint_stays() {
    let mut bench = Bench::primary();
    written(&mut bench, 0);
    bench.asked.clear();
    bench.wait_ms(40_000);
    let id = flush_sent(&mut bench);
    bench.now = bench.now.plus_ms(1);
    written(&mut bench, 8192);
    bench.disk(FLUSH, Ok(()));
    ack_flush(&mut bench, id);
    assert_eq!(bench.write_metadata(), []);
    assert_eq!(bench.engine.status(bench.now).devices[0].hot_regions, 1);
}

#[test]
fn a_read_waits_for_an_overlapping_write_until_both_disks_have_it() {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    bench.write_metadata();
    let overlapping = bench.request(crate::RequestKind::Read, ByteRange::new(512, 512));
    let beside = bench.request(crate::RequestKind::Read, ByteRange::new(4096, 512));
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(beside), Some(Ok(())));
    bench.disk(WRITE, Ok(()));
    assert_eq!(
        bench.on_disk(DiskRequest::Read),
        0,
        "the peer does not have it yet (B8)"
    );
    ack_writes(&mut bench);
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(overlapping), Some(Ok(())));
}

/// A Secondary that has been asked for this of its disk.
fn asked_of_the_disk(wanted: &[DiskRequest]) -> Bench {
    let mut bench = Bench::in_sync();
    for (id, kind) in (50..).zip(wanted) {
        bench.packet(match kind {
            DiskRequest::Flush => Packet::Flush { id, volume: VOLUME },
            _ => Packet::Write {
                id,
                volume: VOLUME,
                range: ByteRange::new(id * 4096, 4096),
                fua: false,
                place: Default::default(),
            },
        });
    }
    bench
}

/// Attaches the disk again in the same process: whether it greets as one that holds what it had.
fn trusted_again(bench: &mut Bench) -> bool {
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.write_metadata();
    let mut image = image();
    image.superblock.boot_id = 7;
    bench.attach(image);
    let hello = bench.relink().expect("a greeting");
    let trusted = hello.volumes[0].kept_power;
    bench.packet(Packet::Hello(hello.into()));
    trusted
}

/// A Secondary whose disk has failed so, attached again by the same process: what it greets with.
fn attached_again_after(failed: DiskRequest) -> (Bench, bool) {
    let mut bench = asked_of_the_disk(&[WRITE]);
    if failed == FLUSH {
        bench.disk(WRITE, Ok(()));
        bench.packet(Packet::Flush {
            id: 51,
            volume: VOLUME,
        });
    }
    bench.disk(failed, Err(DiskError::Io));
    let trusted = trusted_again(&mut bench);
    (bench, trusted)
}

#[test]
fn a_flush_that_fails_when_its_disk_has_been_let_go_is_held_against_the_disk() {
    for (late, trusted) in [(Ok(()), true), (Err(DiskError::Io), false)] {
        let mut bench = asked_of_the_disk(&[WRITE, FLUSH]);
        bench.disk(WRITE, Err(DiskError::Io));
        assert_eq!(bench.disk_state(), DiskState::Diskless);
        assert!(bench.disk(FLUSH, late));
        assert_eq!(trusted_again(&mut bench), trusted, "{late:?} (B4)");
    }
}

#[test]
fn metadata_that_cannot_be_written_is_held_against_the_disk_like_a_flush() {
    for let_go_before in [false, true] {
        let mut bench = asked_of_the_disk(&[WRITE]);
        bench.link_down(LinkLoss::Closed);
        bench.write_metadata();
        bench.command(Command::Outdate);
        assert!(bench.is_writing_metadata());
        if let_go_before {
            bench.disk(WRITE, Err(DiskError::Io));
        }
        bench.fail_metadata();
        bench.disk(WRITE, Ok(()));
        assert!(
            !trusted_again(&mut bench),
            "let go before: {let_go_before} (B4)"
        );
    }
}

#[test]
fn a_disk_that_failed_a_flush_comes_back_as_one_that_has_lost_its_power() {
    let (_, trusted) = attached_again_after(WRITE);
    assert!(trusted, "what it had acknowledged it has");
    let (mut bench, trusted) = attached_again_after(FLUSH);
    assert!(!trusted, "(B4)");
    bench.write_metadata();
    let hello = bench.relink().expect("a greeting");
    assert!(hello.volumes[0].kept_power, "it was in sync since");
}

#[test]
fn a_disk_that_fails_a_flush_says_so_to_whatever_process_attaches_it_next() {
    let mut bench = Bench::primary();
    assert_eq!(bench.superblock.clone().expect("written").boot_id, 7);
    bench.flush();
    bench.disk(FLUSH, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.write_metadata();
    assert_eq!(bench.superblock.expect("written").boot_id, 0);
}

/// What has last been noted of the disk's cache, and not been looked at.
fn noted(bench: &mut Bench) -> Option<bool> {
    let mut last = None;
    bench.asked.retain(|action| match action {
        Action::NoteOfDisk {
            note: DiskNote::LostCache,
            holds,
            ..
        } => {
            last = Some(*holds);
            false
        }
        _ => true,
    });
    last
}

#[test]
fn whatever_fails_to_make_data_durable_is_noted_elsewhere_than_on_the_disk() {
    let mut bench = asked_of_the_disk(&[FLUSH]);
    assert_eq!(noted(&mut bench), None);
    bench.disk(FLUSH, Err(DiskError::Io));
    assert_eq!(noted(&mut bench), Some(true), "a flush");

    let mut bench = asked_of_the_disk(&[WRITE, FLUSH]);
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(noted(&mut bench), None, "only data that is not there");
    bench.disk(FLUSH, Err(DiskError::Io));
    assert_eq!(noted(&mut bench), Some(true), "a flush that is late");

    let mut bench = asked_of_the_disk(&[]);
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    bench.command(Command::Outdate);
    bench.fail_metadata();
    assert_eq!(noted(&mut bench), Some(true), "metadata");
}

#[test]
fn the_next_process_holds_a_noted_flush_against_the_disk_until_it_is_in_sync() {
    for lost_cache in [false, true] {
        let mut image = image();
        image.superblock.boot_id = 7;
        let mut bench = Bench::bare(config());
        let disk = AttachedDisk {
            lost_cache,
            ..AttachedDisk::new(image.into(), 512, WriteCache::Volatile)
        };
        let volume = VOLUME;
        bench.command(Command::Attach { volume, disk });
        bench.connect();
        let hello = bench.relink().expect("a greeting");
        assert_eq!(hello.volumes[0].kept_power, !lost_cache, "(B4)");
        assert_eq!(noted(&mut bench), None);
        bench.packet(Packet::Hello(hello.into()));
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        assert_eq!(noted(&mut bench), lost_cache.then_some(false));
    }
}
