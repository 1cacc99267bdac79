//! Checkpoints at their edges: how many at a time, how much of them, and when what they clear may
//! be cleared.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::Image;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::ReplicationState;

use super::fixtures::image_of;
use super::resync::{NEWER, behind, end, replication, target_with};
use super::{Bench, VOLUME, config, image};
use crate::{Action, Command, DiskRequest, LinkLoss};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

/// What one page of the bitmap lists.
const PAGE_BYTES: u64 = 504 * 64 * 4096;

fn hot_regions(bench: &Bench) -> u64 {
    bench.engine.status(bench.now).devices[0].hot_regions
}

/// A Primary with one write that both disks have and nobody has flushed.
fn written() -> Bench {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    bench.asked.clear();
    bench
}

/// Where metadata is being written.
fn under_way(bench: &Bench) -> Vec<u64> {
    let writes = bench.asked.iter().filter_map(|action| match action {
        Action::Meta { offset, .. } => Some(*offset),
        _ => None,
    });
    writes.collect()
}

#[test]
fn a_disk_that_takes_long_to_flush_is_asked_once() {
    let mut bench = written();
    for _ in 0..20 {
        bench.wait_ms(1_000);
        assert_eq!(bench.on_disk(FLUSH), 1);
    }
    let flushes = |packet: &&Packet| matches!(packet, Packet::Flush { .. });
    assert_eq!(bench.sent_so_far().filter(flushes).count(), 1);
}

#[test]
fn a_region_stays_warm_for_half_a_minute_and_no_longer() {
    let mut bench = written();
    for second in 1..=50 {
        bench.wait_ms(1_000);
        bench.flush_all();
        assert!(hot_regions(&bench) == 1 || second > 30, "{second}");
    }
    assert_eq!(hot_regions(&bench), 0);
}

#[test]
fn no_more_than_a_thousand_writes_are_on_the_way_to_the_peer() {
    let mut bench = written();
    for block in 1..1_024 {
        bench.write(block * 4096);
    }
    let writes = |packet: &&Packet| matches!(packet, Packet::Write { .. });
    let sent = bench.sent_so_far().filter(writes).count();
    assert!(
        (900..1_000).contains(&sent),
        "{sent} and one that may be lost"
    );
}

/// A Primary without its peer that has written to so many pages of its bitmap.
fn with_dirty_pages(count: u64) -> Bench {
    let mut bench = Bench::alone(config(), image_of(16 << 30));
    bench.meet(|_| {});
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    bench.link_down(LinkLoss::Closed);
    for page in 0..count {
        bench.write(page * PAGE_BYTES);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
    }
    bench.write_metadata();
    bench.asked.clear();
    bench
}

#[test]
fn many_pages_are_saved_a_few_at_a_time_and_none_twice_at_once() {
    let mut bench = with_dirty_pages(70);
    bench.wait_ms(5_000);
    bench.disk(FLUSH, Ok(()));
    let mut pages: BTreeSet<u64> = BTreeSet::new();
    pages.extend(under_way(&bench));
    assert_eq!((under_way(&bench).len(), pages.len()), (64, 64));
    // The last of them becomes dirty again: what is being written does not say so.
    let again = 63 * PAGE_BYTES + 4096;
    bench.write(again);
    bench.disk(WRITE, Ok(()));
    while bench.is_writing_metadata() {
        let now = under_way(&bench);
        let different: BTreeSet<u64> = now.iter().copied().collect();
        assert_eq!(different.len(), now.len(), "the older one might be last");
        assert!(now.len() <= 64);
        pages.extend(now);
        bench.next_metadata_ends();
    }
    assert!(pages.len() >= 70, "{} pages", pages.len());
}

impl Bench {
    /// The oldest metadata write ends.
    fn next_metadata_ends(&mut self) {
        let is_write = |action: &Action<u32>| matches!(action, Action::Meta { .. });
        let at = self.asked.iter().position(is_write);
        if let Action::Meta { id, .. } = self.asked.remove(at.expect("one is under way")) {
            self.tell(crate::Event::MetaDone { id, result: Ok(()) });
        }
    }
}

/// The disk of a node that was Primary when it crashed.
fn crashed() -> Image {
    let mut image = image();
    image.hot_regions.push(0..1);
    image
}

/// So many seconds pass, the peer is there, and nothing fails.
fn pass(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        bench.wait_ms(1_000);
        bench.packet(Packet::Ping { id: 1 });
        bench.flush_all();
    }
}

/// What it asks for of a resync. The peer flushes as soon as it is asked to.
fn requests(bench: &mut Bench) -> Vec<(u64, ByteRange)> {
    let mut requests = Vec::new();
    for packet in bench.sent() {
        match packet {
            Packet::ResyncRequest { id, range, .. } => requests.push((id, range)),
            Packet::Flush { id, volume } => bench.packet(Packet::FlushAck { id, volume }),
            _ => {}
        }
    }
    requests
}

/// What its marks stand for is in no page on the disk, and a target saves none.
#[test]
fn a_target_keeps_the_marks_of_an_earlier_crash_until_it_has_everything() {
    let mut bench = target_with(config(), crashed());
    bench.packet(end(NEWER));
    assert_eq!(replication(&bench), ReplicationState::SyncTarget);
    let mut asked = requests(&mut bench);
    pass(&mut bench, 100);
    assert_eq!(hot_regions(&bench), 1);
    while !asked.is_empty() {
        for (id, range) in asked {
            let volume = VOLUME;
            bench.packet(Packet::ResyncData { id, volume, range });
            bench.disk(WRITE, Ok(()));
        }
        asked = requests(&mut bench);
    }
    pass(&mut bench, 100);
    assert_eq!(replication(&bench), ReplicationState::Established);
    assert_eq!(hot_regions(&bench), 0);
}

fn is_full_sync_recorded(bench: &Bench) -> bool {
    let superblock = bench.superblock.as_ref().expect("it was written");
    superblock.peers[0].flags.full_sync
}

/// Until the bitmap says it, nothing else does.
#[test]
fn that_all_is_to_be_copied_is_forgotten_when_all_pages_say_so() {
    let mut image = image();
    image.superblock.peers[0].flags.full_sync = true;
    let mut bench = Bench::alone(config(), image);
    bench.write_metadata();
    bench.asked.clear();
    assert!(is_full_sync_recorded(&bench));
    bench.wait_ms(40_000);
    bench.disk(FLUSH, Ok(()));
    assert!(bench.is_writing_metadata(), "the page");
    assert!(is_full_sync_recorded(&bench));
    bench.write_metadata();
    assert!(!is_full_sync_recorded(&bench));
}

/// Nothing but housekeeping wakes it.
#[test]
fn a_node_without_its_peer_is_woken_until_nothing_is_marked_and_then_no_more() {
    let mut bench = behind();
    let mut woken = 0;
    for second in 1..=100 {
        let is_due = bench
            .wake
            .is_some_and(|wake| wake <= bench.now.plus_ms(1_000));
        woken += u32::from(is_due && second > 50);
        bench.wait_ms(1_000);
        bench.flush_all();
        assert!(hot_regions(&bench) == 1 || second > 30, "{second}");
    }
    assert_eq!(hot_regions(&bench), 0);
    assert!(woken < 10, "{woken} times for nothing");
}

#[test]
fn within_a_second_a_node_wakes_to_have_the_peer_flush() {
    let bench = written();
    let soon = bench.now.plus_ms(1_000);
    assert!(bench.wake.is_some_and(|wake| wake <= soon));
}
