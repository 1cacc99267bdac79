//! The write-intent log, step by step. Regions have 4 MiB.
use alloc::vec;
use alloc::vec::Vec;

use super::{IntentLog, MARK_AHEAD};
use crate::bitmap::BITS_PER_PAGE;
use crate::contract::Time;
use rbd_protocol::ids::{ByteRange, REGION_SIZE};

const SIZE: u64 = 64 * REGION_SIZE;

fn empty() -> IntentLog {
    IntentLog::new(SIZE, core::iter::empty(), Time(0))
}

/// A block of a region, or the last and the first of two.
fn of(region: u64) -> ByteRange {
    ByteRange::new(region * REGION_SIZE + 4096, 4096)
}

fn across(region: u64) -> ByteRange {
    ByteRange::new((region + 1) * REGION_SIZE - 4096, 8192)
}

/// The regions marked in the next write of the log, if there is one.
fn written(log: &mut IntentLog) -> Option<Vec<u64>> {
    let (block, words) = log.next_write()?;
    assert_eq!(block, 0);
    Some((0..64).filter(|bit| words[0] >> bit & 1 == 1).collect())
}

/// A log in which these regions have become hot at time 0.
fn hot(regions: &[u64]) -> IntentLog {
    let mut log = empty();
    for region in regions {
        log.admit(of(*region), Time(0));
    }
    assert!(written(&mut log).is_some());
    log.written(0);
    log
}

#[test]
fn a_write_is_admitted_only_when_the_mark_of_every_region_is_durable() {
    let mut log = empty();
    assert!(!log.admit(across(3), Time(1)));
    assert_eq!(written(&mut log), Some(vec![3, 4]));
    assert!(!log.admit(across(3), Time(1)));
    log.written(0);
    assert!(log.admit(across(3), Time(1)));
    assert!(!log.admit(across(4), Time(1)), "region 5 is not marked");
}

#[test]
fn marks_that_wait_together_share_one_write_and_later_ones_the_next() {
    let mut log = empty();
    log.admit(of(3), Time(1));
    log.admit(of(10), Time(1));
    assert_eq!(written(&mut log), Some(vec![3, 10]));
    log.admit(of(20), Time(1));
    assert_eq!(written(&mut log), None, "the block is being written");
    log.written(0);
    assert!(!log.admit(of(20), Time(1)), "it was not part of that write");
    assert_eq!(written(&mut log), Some(vec![3, 10, 20]));
    log.written(0);
    assert!(log.admit(of(20), Time(1)));
    assert!(!log.is_busy());
}

#[test]
#[should_panic(expected = "C1")]
fn a_write_to_a_region_without_a_durable_mark_is_a_broken_promise() {
    let mut log = empty();
    log.admit(of(3), Time(1));
    assert_eq!(written(&mut log), Some(vec![3]));
    log.enter(of(3));
}

#[test]
fn a_region_with_a_write_in_flight_keeps_its_mark() {
    let mut log = hot(&[3, 4]);
    log.enter(of(3));
    assert_eq!(log.idle(Time(u64::MAX), 0), [4]);
    log.cool(&[3, 4], Time(u64::MAX));
    assert_eq!(written(&mut log), Some(vec![3]));
    log.written(0);
    assert_eq!(log.hot_count(), 1);
}

#[test]
fn a_region_used_since_the_checkpoint_began_keeps_its_mark() {
    let mut log = hot(&[3, 4]);
    let idle = log.idle(Time(u64::MAX), 0);
    assert_eq!(idle, [3, 4]);
    // The barrier began at 50; a write came and went at 60.
    assert!(log.admit(of(3), Time(60)));
    log.enter(of(3));
    log.leave(of(3), Time(60));
    log.cool(&idle, Time(50));
    assert_eq!(written(&mut log), Some(vec![3]));
}

#[test]
fn a_write_that_finds_its_region_cooling_waits_and_marks_it_anew() {
    let mut log = hot(&[3]);
    log.cool(&[3], Time(50));
    assert!(!log.admit(of(3), Time(51)), "its removal is wanted");
    assert_eq!(written(&mut log), Some(vec![]), "and under way");
    assert!(!log.admit(of(3), Time(52)));
    assert_eq!(written(&mut log), None);
    log.written(0);
    assert!(!log.admit(of(3), Time(53)));
    assert_eq!(written(&mut log), Some(vec![3]));
    log.written(0);
    assert!(log.admit(of(3), Time(54)));
}

#[test]
fn a_block_being_written_keeps_its_marks_until_the_next_time() {
    let mut log = hot(&[3]);
    log.admit(of(9), Time(1));
    assert_eq!(written(&mut log), Some(vec![3, 9]));
    log.cool(&[3], Time(50));
    log.written(0);
    assert_eq!(written(&mut log), None);
    assert!(log.admit(of(3), Time(51)));
}

#[test]
fn what_an_attach_finds_marked_is_hot_and_written_again() {
    let mut log = IntentLog::new(SIZE, [5, 64, 70].into_iter(), Time(0));
    assert!(log.admit(of(5), Time(1)));
    assert_eq!(log.hot_count(), 1, "regions beyond the end do not exist");
    log.rewrite_all();
    assert_eq!(written(&mut log), Some(vec![5]));
}

#[test]
fn beyond_the_limit_the_longest_unused_regions_are_idle() {
    let mut log = hot(&[3, 5, 7]);
    for (region, time) in [(3, 30), (5, 10), (7, 20)] {
        assert!(log.admit(of(region), Time(time)));
    }
    assert_eq!(log.idle(Time(0), 1), [5, 7]);
    assert_eq!(log.idle(Time(15), 3), [5]);
    assert!(log.idle(Time(0), 3).is_empty());
}

#[test]
fn a_stream_marks_ahead_and_not_past_the_end() {
    let mut log = hot(&[60]);
    assert!(!log.admit(of(61), Time(1)));
    assert_eq!(written(&mut log), Some(vec![60, 61, 62, 63]));
    let mut log = hot(&[3]);
    log.admit(of(4), Time(1));
    let marked = written(&mut log).map_or(0, |regions| regions.len());
    assert_eq!(marked, 2 + usize::try_from(MARK_AHEAD).unwrap_or(0));
}

#[test]
fn a_write_in_the_midst_of_a_region_marks_nothing_ahead() {
    let mut log = hot(&[3]);
    log.admit(ByteRange::new(5 * REGION_SIZE - 4096, 4096), Time(1));
    assert_eq!(written(&mut log), Some(vec![3, 4]));
    // One that ends in the next region is a stream again.
    log.written(0);
    log.admit(across(4), Time(2));
    let marked = written(&mut log).map_or(0, |regions| regions.len());
    assert_eq!(marked, 3 + usize::try_from(MARK_AHEAD).unwrap_or(0));
}

/// The block and the regions marked in the next write of a log of several blocks.
fn next(log: &mut IntentLog) -> Option<(u32, Vec<u64>)> {
    let (block, words) = log.next_write()?;
    let is_set = |bit: &u64| words[usize::try_from(bit / 64).unwrap()] >> (bit % 64) & 1 == 1;
    let first = u64::from(block) * BITS_PER_PAGE;
    let bits = (0..BITS_PER_PAGE).filter(is_set);
    Some((block, bits.map(|bit| first + bit).collect()))
}

#[test]
fn each_region_of_a_large_volume_is_marked_in_its_own_block() {
    let mut log = IntentLog::new(
        (2 * BITS_PER_PAGE + 1) * REGION_SIZE,
        core::iter::empty(),
        Time(0),
    );
    assert_eq!(log.block_count(), 3);
    let last = BITS_PER_PAGE - 1;
    for region in [70, last, 2 * BITS_PER_PAGE] {
        assert!(!log.admit(across(region - 1), Time(1)));
    }
    assert!(!log.admit(across(last), Time(1)));
    assert_eq!(next(&mut log), Some((0, vec![69, 70, last - 1, last])));
    assert_eq!(next(&mut log), Some((1, vec![last + 1, 2 * last + 1])));
    assert_eq!(next(&mut log), Some((2, vec![2 * last + 2])));
    assert_eq!(next(&mut log), None);
    log.written(0);
    assert!(log.admit(of(70), Time(2)));
    assert!(!log.admit(across(last), Time(2)), "half of it is marked");
    assert!(!log.admit(of(2 * BITS_PER_PAGE), Time(2)));
    log.written(1);
    assert!(log.admit(across(last), Time(2)));
    assert!(log.is_writing(), "the third block");
    log.written(2);
    assert!(log.admit(of(2 * BITS_PER_PAGE), Time(2)));
    assert!(!log.is_writing());
}

#[test]
fn a_mark_that_leaves_one_block_leaves_the_others_alone() {
    let marked = [3, BITS_PER_PAGE + 3];
    let hot = marked.map(|region| u32::try_from(region).unwrap());
    let size = 2 * BITS_PER_PAGE * REGION_SIZE;
    let mut log = IntentLog::new(size, hot.into_iter(), Time(0));
    log.cool(&hot[1..], Time(50));
    assert_eq!(next(&mut log), Some((1, vec![])));
    assert_eq!(next(&mut log), None);
    assert!(log.admit(of(3), Time(60)));
    log.written(1);
    assert_eq!(log.hot_count(), 1);
    assert!(log.admit(of(3), Time(60)));
    assert!(!log.admit(of(BITS_PER_PAGE + 3), Time(60)));
}

#[test]
fn what_a_volume_grows_by_is_marked_before_it_counts() {
    let mut log = IntentLog::new(3 * REGION_SIZE, [1].into_iter(), Time(0));
    let blocks = log.resize(3 * REGION_SIZE, 5 * REGION_SIZE, Time(1));
    assert_eq!(blocks, 0..1);
    assert_eq!(next(&mut log), Some((0, vec![1, 3, 4])));
    log.written(0);
    // The region the old size ended in is part of what is new.
    let (before, after) = (5 * REGION_SIZE + 4096, 6 * REGION_SIZE);
    assert_eq!(log.resize(5 * REGION_SIZE, before, Time(2)), 0..1);
    assert_eq!(next(&mut log), Some((0, vec![1, 3, 4, 5])));
    log.written(0);
    log.cool(&[5], Time(50));
    assert_eq!(next(&mut log), Some((0, vec![1, 3, 4])));
    log.written(0);
    assert_eq!(log.resize(before, after, Time(60)), 0..1);
    assert_eq!(next(&mut log), Some((0, vec![1, 3, 4, 5])));
}

#[test]
fn a_volume_that_grows_beyond_a_block_of_the_log_has_the_new_blocks_written() {
    let before = (BITS_PER_PAGE + 2) * REGION_SIZE;
    let mut log = IntentLog::new(before, core::iter::empty(), Time(0));
    let blocks = log.resize(before, before + BITS_PER_PAGE * REGION_SIZE, Time(1));
    assert_eq!(blocks, 1..3);
    let (block, marked) = next(&mut log).unwrap();
    assert_eq!((block, marked.first()), (1, Some(&(BITS_PER_PAGE + 2))));
    let (block, marked) = next(&mut log).unwrap();
    assert_eq!((block, marked.len()), (2, 2));
    assert_eq!(next(&mut log), None, "the first is as it was");
}

#[test]
fn a_volume_that_shrinks_forgets_marks_beyond_its_end() {
    let size = (BITS_PER_PAGE + 2) * REGION_SIZE;
    let hot = [1, 2, u32::try_from(BITS_PER_PAGE).unwrap()];
    let mut log = IntentLog::new(size, hot.into_iter(), Time(0));
    log.rewrite_all();
    assert_eq!(log.resize(size, 2 * REGION_SIZE, Time(1)), 0..0);
    assert_eq!(log.hot_count(), 1);
    assert_eq!(next(&mut log), Some((0, vec![1])));
    assert_eq!(next(&mut log), None, "the second block is none any more");
}

#[test]
fn a_region_last_used_as_the_checkpoint_began_keeps_its_mark() {
    let mut log = hot(&[3]);
    assert!(log.admit(of(3), Time(50)));
    assert!(log.idle(Time(50), u32::MAX).is_empty());
    log.cool(&[3], Time(50));
    assert!(log.admit(of(3), Time(51)), "it is hot as before");
    assert!(!log.is_busy());
}

#[test]
fn a_block_is_written_once_more_when_that_is_asked_for() {
    let mut log = hot(&[3]);
    assert!(!log.is_busy());
    log.rewrite(0);
    assert!(log.is_busy() && !log.is_writing());
    assert_eq!(next(&mut log), Some((0, vec![3])));
    assert!(log.is_busy() && log.is_writing());
}

#[test]
fn a_region_with_two_writes_in_flight_is_free_when_both_have_ended() {
    let mut log = hot(&[3]);
    log.enter(of(3));
    log.enter(of(3));
    log.leave(of(3), Time(5));
    assert!(log.idle(Time(u64::MAX), 0).is_empty());
    log.cool(&[3], Time(50));
    assert!(log.admit(of(3), Time(6)));
    log.leave(of(3), Time(7));
    assert_eq!(log.idle(Time(u64::MAX), 0), [3]);
}

#[test]
fn nothing_is_marked_beyond_the_end_of_the_data() {
    let mut log = hot(&[60]);
    log.admit(of(61), Time(1));
    assert_eq!(log.hot_count(), 4, "the last is 63");
}
