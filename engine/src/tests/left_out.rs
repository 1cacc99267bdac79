//! A resync whose source cannot read some places.

use alloc::vec::Vec;

use rbd_protocol::control::ResyncOptions;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::DiskState;

use super::fixtures::image_of;
use super::resync::{NEWER, WRITE, asked_for, blocks, end, meet_source, target, target_with};
use super::{Bench, PEER, VOLUME, config, image};
use crate::LinkLoss;

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
fn of_many_places_that_cannot_be_read_people_are_told_once() {
    let mut bench = lacking(&[3, 4, 5, 6, 9]);
    answer(&mut bench, &[4, 5, 9]);
    let told = |text: &&str| text.contains("cannot read");
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
    for _ in 0..20 {
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
    for seconds in [10, 20, 40, 40] {
        assert_eq!(wait(seconds, &[4, 5]), 2);
    }
    assert_eq!(wait(40, &[4]), 2);
    assert_eq!(wait(40, &[4]), 1, "block 5 could be read");
    assert_eq!(wait(10, &[4]), 1);
}

/// The source is left in peace for so long, then answers.
fn answer_after(bench: &mut Bench, milliseconds: u64, bad: &[u64]) -> Vec<ByteRange> {
    bench.flush_all();
    bench.wait_ms(milliseconds);
    bench.packet(Packet::Ping { id: 1 });
    answer(bench, bad)
}

/// All of the blocks that are missing cannot be read, but for these.
fn lacking_all(but: &[u64]) -> (Bench, Vec<u64>) {
    let all: Vec<usize> = (0..4_000).collect();
    let bad = (0..4_000).filter(|block| !but.contains(block)).collect();
    (lacking(&all), bad)
}

#[test]
fn a_source_that_can_read_nothing_is_asked_little_and_each_time_for_other_blocks() {
    let (mut bench, bad) = lacking_all(&[]);
    let asked = answer(&mut bench, &bad);
    let singles = asked.iter().filter(|range| range.length == 4096);
    // More are under way when enough have failed.
    assert!((64..700).contains(&singles.count()));
    let mut blocks = alloc::collections::BTreeSet::new();
    for _ in 0..100 {
        let asked = answer_after(&mut bench, 40_000, &bad);
        assert!((1..100).contains(&asked.len()), "{}", asked.len());
        blocks.extend(asked.iter().map(|range| range.offset / BLOCK));
    }
    assert!(blocks.len() > 3_000, "{}", blocks.len());
    assert_eq!(bench.out_of_sync_bytes(), 4_000 * BLOCK);
}

#[test]
fn what_can_be_read_amid_a_large_part_that_cannot_is_found_in_the_end() {
    let (mut bench, bad) = lacking_all(&[1_500]);
    answer(&mut bench, &bad);
    let mut attempts = 0;
    while bench.out_of_sync_bytes() == 4_000 * BLOCK {
        answer_after(&mut bench, 40_000, &bad);
        attempts += 1;
        assert!(attempts < 60);
    }
    assert_eq!(bench.out_of_sync_bytes(), 3_999 * BLOCK);
}

#[test]
fn what_comes_behind_very_much_that_cannot_be_read_is_copied_at_the_next_attempt() {
    let mut narrow = config();
    let options = ResyncOptions {
        fill_bytes: Some(1 << 20),
        ..ResyncOptions::default()
    };
    narrow.volumes[0].resync = alloc::vec![(PEER, options)];
    let mut bench = target_with(narrow, image_of(1 << 30));
    for block in 0..4 {
        let (volume, words) = (VOLUME, alloc::boxed::Box::new([u64::MAX; 504]));
        bench.packet(Packet::Bitmap {
            volume,
            block,
            words,
        });
    }
    bench.packet(end(NEWER));
    let bad: Vec<u64> = (0..100_000).collect();
    let missing = bench.out_of_sync_bytes();
    answer(&mut bench, &bad);
    assert_eq!(
        bench.out_of_sync_bytes(),
        missing,
        "such a source has failed"
    );
    answer_after(&mut bench, 10_000, &bad);
    assert!(bench.out_of_sync_bytes() < 100_300 * BLOCK);
}

#[test]
fn a_slow_resync_copies_what_can_be_read_before_it_asks_again() {
    let mut limited = config();
    let options = ResyncOptions {
        max_rate: Some(512), // 8 s for each block
        ..ResyncOptions::default()
    };
    limited.volumes[0].resync = alloc::vec![(PEER, options)];
    let mut bench = target_with(limited, image());
    bench.packet(blocks(&[3, 4, 5, 6, 7, 8, 9]));
    bench.packet(end(NEWER));
    let mut asked = answer(&mut bench, &[4]);
    for _ in 0..90 {
        asked.extend(answer_after(&mut bench, 1_000, &[4]));
    }
    let numbers: Vec<u64> = asked.iter().map(|range| range.offset / BLOCK).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7, 8, 9, 4, 4]);
}

#[test]
fn when_it_can_be_read_again_all_of_it_is_copied_at_once() {
    let (mut bench, bad) = lacking_all(&[]);
    answer(&mut bench, &bad);
    answer_after(&mut bench, 40_000, &bad);
    let asked = answer_after(&mut bench, 40_000, &[]);
    assert!(
        asked
            .iter()
            .any(|range| u64::from(range.length) > 32 * BLOCK)
    );
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_lost_link_is_no_reason_to_ask_a_failing_disk_for_all_of_it_again() {
    let mut bench = lacking(&[3, 4, 5, 6]);
    answer(&mut bench, &[4, 5]);
    bench.flush_all();
    bench.link_down(LinkLoss::Closed);
    meet_source(&mut bench);
    bench.packet(blocks(&[4, 9]));
    bench.packet(end(NEWER));
    let seen = |asked: Vec<ByteRange>| asked.iter().any(|range| range.offset == 4 * BLOCK);
    let asked = answer(&mut bench, &[4]);
    assert!(!asked.is_empty() && !seen(asked));
    assert!(seen(answer_after(&mut bench, 10_000, &[4])));
}

#[test]
fn that_something_is_refused_which_was_not_asked_for_costs_the_link() {
    let mut bench = lacking(&[3]);
    let (id, range) = asked_for(&mut bench)[0];
    let (volume, range) = (VOLUME, ByteRange::new(range.offset + BLOCK, range.length));
    bench.packet(Packet::ResyncNegativeAck { id, volume, range });
    assert!(bench.close_dropped().is_some());
}
