//! A resync whose source cannot read some places.

use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::DiskState;

use super::resync::{NEWER, WRITE, asked_for, blocks, end, target};
use super::{Bench, VOLUME};

const BLOCK: u64 = 4096;

fn lacking(numbers: &[usize]) -> Bench {
    let mut bench = target();
    bench.packet(blocks(numbers));
    bench.packet(end(NEWER));
    bench
}

/// The source answers each request, but for these blocks; returns what was asked for.
fn answer(bench: &mut Bench, bad: &[u64]) -> Vec<ByteRange> {
    let mut asked = Vec::new();
    loop {
        let is_request = |packet: &Packet| matches!(packet, Packet::ResyncRequest { .. });
        if !bench.sent_so_far().any(is_request) {
            return asked;
        }
        for (id, range) in asked_for(bench) {
            asked.push(range);
            let mut blocks = range.offset / BLOCK..range.end().div_ceil(BLOCK);
            let volume = VOLUME;
            if blocks.any(|block| bad.contains(&block)) {
                bench.packet(Packet::ResyncNegativeAck { id, volume, range });
            } else {
                bench.packet(Packet::ResyncData { id, volume, range });
                assert!(bench.disk(WRITE, Ok(())));
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_left_out_block_by_block_and_everything_else_is_copied() {
    let mut bench = lacking(&[3, 4, 5, 6, 9]);
    let asked = answer(&mut bench, &[5]);
    assert!(asked.len() < 20, "{asked:?}");
    assert_eq!(bench.out_of_sync_bytes(), BLOCK);
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::Inconsistent, "it has a hole");
    let told = |text: &&str| text.contains("cannot read 20480");
    assert_eq!(bench.reports().into_iter().filter(told).count(), 1);
}

#[test]
fn it_is_asked_for_again_after_a_while_and_then_the_resync_ends() {
    let mut bench = lacking(&[3, 4, 5]);
    answer(&mut bench, &[4]);
    for _ in 0..9 {
        bench.wait_ms(1_000);
        bench.packet(Packet::Ping { id: 1 });
    }
    assert_eq!(answer(&mut bench, &[4]), [], "not at once");
    bench.wait_ms(1_000);
    let asked = answer(&mut bench, &[4]);
    assert_eq!(asked, [ByteRange::new(4 * BLOCK, 4096)]);
    for _ in 0..10 {
        bench.wait_ms(1_000);
        bench.packet(Packet::Ping { id: 1 });
    }
    assert_eq!(answer(&mut bench, &[]), asked);
    bench.flush_all();
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn what_cannot_be_read_time_and_again_is_asked_for_ever_more_seldom() {
    let mut bench = lacking(&[3, 4, 5]);
    answer(&mut bench, &[4, 5]);
    let mut wait = |seconds: u64, bad: &[u64]| {
        for _ in 0..seconds {
            assert_eq!(answer(&mut bench, bad), [], "too early");
            bench.flush_all();
            bench.wait_ms(1_000);
            bench.packet(Packet::Ping { id: 1 });
        }
        answer(&mut bench, bad).len()
    };
    for seconds in [10, 10, 20, 40, 40, 40] {
        assert_eq!(wait(seconds, &[4, 5]), 2);
    }
    assert_eq!(wait(40, &[4]), 2);
    assert_eq!(wait(40, &[4]), 1, "block 5 could be read");
    assert_eq!(wait(10, &[4]), 1);
}

#[test]
fn a_source_that_can_read_nothing_is_asked_for_few_single_blocks_and_each_time_for_more() {
    let all: Vec<usize> = (0..4_000).collect();
    let bad: Vec<u64> = (0..4_000).collect();
    let mut bench = lacking(&all);
    let mut wait_ms = 0;
    for single in [64, 128, 192, 256, 320, 384, 448, 512, 576, 640] {
        bench.wait_ms(wait_ms);
        bench.packet(Packet::Ping { id: 1 });
        wait_ms = (2 * wait_ms).clamp(10_000, 40_000);
        let asked = answer(&mut bench, &bad);
        bench.flush_all();
        let singles = asked.iter().filter(|range| range.length == 4096).count();
        // More are under way when enough have failed.
        assert!((single..single + 600).contains(&singles), "{singles}");
        assert!(asked.len() < singles + 200, "{}", asked.len());
    }
    assert_eq!(bench.out_of_sync_bytes(), 4_000 * BLOCK);
}

#[test]
fn what_can_be_read_amid_a_large_part_that_cannot_is_found_in_the_end() {
    let all: Vec<usize> = (0..4_000).collect();
    let bad: Vec<u64> = (0..4_000).filter(|block| *block != 1_500).collect();
    let mut bench = lacking(&all);
    let mut attempts = 0;
    while bench.out_of_sync_bytes() == 4_000 * BLOCK {
        answer(&mut bench, &bad);
        bench.flush_all();
        bench.wait_ms(40_000);
        bench.packet(Packet::Ping { id: 1 });
        attempts += 1;
        assert!(attempts < 100);
    }
}

#[test]
fn that_something_is_refused_which_was_not_asked_for_costs_the_link() {
    let mut bench = lacking(&[3]);
    let (id, range) = asked_for(&mut bench)[0];
    let (volume, range) = (VOLUME, ByteRange::new(range.offset + BLOCK, range.length));
    bench.packet(Packet::ResyncNegativeAck { id, volume, range });
    assert!(bench.close_dropped().is_some());
}
