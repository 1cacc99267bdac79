//! Housekeeping: when marks leave the write-intent log, and bits the bitmap on disk.

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::DiskState;

use super::resync::{behind, source, target};
use super::{Bench, VOLUME};
use crate::{Action, Command, DiskError, DiskRequest, LinkLoss};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

fn hot_regions(bench: &Bench) -> u64 {
    bench.engine.status(bench.now).devices[0].hot_regions
}

fn bitmap_writes(bench: &Bench) -> u64 {
    bench.engine.status(bench.now).devices[0].bitmap_writes
}

/// A Primary with one write that both disks have and nobody has flushed.
fn written() -> Bench {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    assert_eq!(hot_regions(&bench), 1);
    bench.asked.clear();
    bench
}

#[test]
fn a_second_after_a_write_both_disks_are_flushed() {
    let mut bench = written();
    bench.wait_ms(1_000);
    assert_eq!(bench.on_disk(FLUSH), 1);
    assert_eq!(bench.peer_acks(), 1);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(hot_regions(&bench), 1, "the region stays warm");
    assert!(!bench.is_writing_metadata());
    // What is stable on both sides is not flushed again.
    bench.wait_ms(1_000);
    assert_eq!(bench.on_disk(FLUSH), 0);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.out_of_sync_bytes(), 0);
}

/// Lets a checkpoint of everything go as far as its barrier.
fn cool(bench: &mut Bench) {
    bench.wait_ms(1_000);
    bench.peer_acks();
    bench.disk(FLUSH, Ok(()));
    bench.asked.clear();
    bench.wait_ms(40_000);
    assert_eq!(bench.on_disk(FLUSH), 1);
}

#[test]
fn a_mark_leaves_only_after_a_flush_of_both_disks() {
    let mut bench = written();
    cool(&mut bench);
    bench.disk(FLUSH, Ok(()));
    assert!(
        !bench.is_writing_metadata(),
        "the peer has not flushed (B9)"
    );
    assert_eq!(bench.peer_acks(), 1);
    assert!(bench.is_writing_metadata());
    bench.write_metadata();
    assert_eq!(hot_regions(&bench), 0);
}

#[test]
fn a_mark_stays_when_the_region_is_written_to_while_it_is_to_leave() {
    let mut bench = written();
    cool(&mut bench);
    let late = bench.write(4096);
    assert_eq!(bench.on_disk(WRITE), 1, "the region is still marked");
    bench.disk(FLUSH, Ok(()));
    bench.peer_acks();
    bench.write_metadata();
    assert_eq!(
        hot_regions(&bench),
        1,
        "{late:?} began after the flush (C1)"
    );
}

#[test]
fn a_mark_stays_when_the_flush_fails() {
    let mut bench = written();
    cool(&mut bench);
    bench.disk(FLUSH, Err(DiskError::Io));
    bench.peer_acks();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(
        bench.write_metadata().len(),
        1,
        "nothing is written to that disk any more but that it failed (B4)"
    );
    assert_eq!(bench.superblock.expect("written").boot_id, 0);
}

#[test]
fn what_a_peer_lacks_is_on_disk_before_its_marks_leave() {
    let mut bench = behind();
    assert_eq!(hot_regions(&bench), 1);
    bench.asked.clear();
    bench.wait_ms(40_000);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bitmap_writes(&bench), 1);
    assert_eq!(hot_regions(&bench), 1, "the page is not durable (B9)");
    bench.write_metadata();
    assert_eq!(hot_regions(&bench), 0);
    assert_eq!(bench.out_of_sync_bytes(), 8192);
}

#[test]
fn a_page_that_cannot_be_written_fails_the_disk() {
    let mut bench = behind();
    bench.asked.clear();
    bench.wait_ms(40_000);
    bench.disk(FLUSH, Ok(()));
    bench.fail_metadata();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(
        bench.out_of_sync_bytes(),
        8192,
        "what the peer lacks is not forgotten"
    );
}

#[test]
fn a_clean_bit_reaches_the_disk_only_when_the_target_has_flushed() {
    let mut bench = source();
    bench.write_metadata();
    bench.asked.clear();
    // One of the two blocks is on the target, not flushed.
    bench.packet(Packet::ResyncAck {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    bench.wait_ms(40_000);
    bench.disk(FLUSH, Ok(()));
    assert!(!bench.is_writing_metadata(), "the target has not (B10)");
    bench.peer_acks();
    let marks = bench.asked.iter().find_map(|action| match action {
        // The words of a page follow 64 bytes of header. These are those of the two blocks.
        Action::Meta { block, .. } => Some((block[64], block[64 + 32])),
        _ => None,
    });
    assert_eq!(marks, Some((0, 1)));
    assert_eq!(bitmap_writes(&bench), 1);
}

#[test]
fn a_target_keeps_its_bits_on_disk_until_the_end() {
    let mut bench = target();
    bench.asked.clear();
    bench.wait_ms(1_000);
    bench.wait_ms(40_000);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(bitmap_writes(&bench), 0);
}

#[test]
fn a_stop_clears_every_mark_and_says_so_last() {
    let mut bench = written();
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    let released = |action: &Action<u32>| matches!(action, Action::ReleaseDisk { .. });
    let call = bench.command(Command::Stop);
    bench.close_dropped();
    assert!(hot_regions(&bench) > 0);
    assert_eq!(bench.reply(call), None);
    assert!(!bench.asked.iter().any(released));
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
    assert!(bench.engine.is_stopped());
    assert!(bench.asked.iter().any(released));
}

/// Nothing else wakes a node without a peer: what is marked would be copied after a crash.
#[test]
fn marks_leave_when_nothing_else_goes_on() {
    let mut bench = behind();
    bench.asked.clear();
    assert!(hot_regions(&bench) > 0);
    for _ in 0..8 {
        bench.wait_ms(40_000);
        bench.flush_all();
    }
    assert_eq!(hot_regions(&bench), 0);
}
