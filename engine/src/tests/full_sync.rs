//! Everything is to be copied: that outlives whatever interrupts it, until it is done.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::ids::GenerationId;
use rbd_protocol::state::{DiskState, ReplicationState};

use super::resync::{NEWER, asked_for, end, replication};
use super::{Bench, GENERATION, SIZE, config, image};
use crate::DiskRequest;

/// A node whose peer has newer data, and no record of what has changed since the node's.
fn target() -> Bench {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| {
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = NEWER;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history = vec![GENERATION];
        hello.volumes[0].dirty_blocks = 0;
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench
}

fn is_recorded(bench: &Bench) -> bool {
    let superblock = bench.superblock.as_ref().expect("it was written");
    superblock.peers[0].flags.full_sync
}

#[test]
fn all_is_asked_for_though_no_bitmap_lists_it() {
    let mut bench = target();
    bench.packet(end(NEWER));
    assert_eq!(bench.out_of_sync_bytes(), SIZE);
    let asked = asked_for(&mut bench);
    let first: Vec<u64> = asked
        .iter()
        .take(2)
        .map(|(_, range)| range.offset)
        .collect();
    assert_eq!(first.first(), Some(&0), "{first:?}");
}

#[test]
fn it_is_recorded_before_the_target_has_anything_of_it() {
    assert!(is_recorded(&target()));
}

#[test]
fn it_stays_recorded_while_the_bitmap_on_disk_does_not_say_so() {
    let mut bench = target();
    bench.packet(end(NEWER));
    for _ in 0..3 {
        bench.wait_ms(5_000);
        bench.packet(rbd_protocol::peer::Packet::PingAck { id: 0 });
        bench.disk(DiskRequest::Flush, Ok(()));
        bench.peer_acks();
        bench.write_metadata();
    }
    assert_eq!(replication(&bench), ReplicationState::SyncTarget);
    assert!(is_recorded(&bench), "a target does not save its bitmap");
}

#[test]
fn a_disk_of_which_it_is_recorded_lacks_everything_whatever_its_bitmap_says() {
    let mut image = image();
    image.superblock.peers[0].flags.full_sync = true;
    let bench = Bench::alone(config(), image);
    assert_eq!(bench.out_of_sync_bytes(), SIZE);
}
