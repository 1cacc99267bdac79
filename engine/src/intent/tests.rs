//! The write-intent log, step by step. Regions have 4 MiB.
use alloc::vec;
use alloc::vec::Vec;

use super::{IntentLog, MARK_AHEAD};
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
