//! Speeds and limits, by the clock of the test.

use rbd_protocol::state::ResyncLimit;

use super::*;

const MS: u64 = 1_000_000;

fn at(milliseconds: u64) -> Time {
    Time(milliseconds * MS)
}

#[test]
fn a_resync_that_has_just_begun_has_no_speed_yet() {
    let mut pace = Pace::default();
    assert_eq!(pace.rate(at(50_000)), None);
    pace.begin(at(0));
    pace.done(1 << 20, at(500));
    assert_eq!(pace.rate(at(999)), None);
    assert_eq!(pace.rate(at(1_000)), Some(1 << 20));
}

#[test]
fn its_speed_is_that_of_the_last_quarter_of_a_minute() {
    let mut pace = Pace::default();
    pace.begin(at(0));
    for second in 1..=100 {
        pace.done(1_000_000, at(second * 1_000));
    }
    assert_eq!(pace.rate(at(100_000)), Some(1_000_000));
    for second in 101..=120 {
        pace.done(10_000, at(second * 1_000));
    }
    assert_eq!(pace.rate(at(120_000)), Some(10_000));
}

#[test]
fn one_that_has_come_to_a_stop_becomes_slower_and_slower() {
    let mut pace = Pace::default();
    pace.begin(at(0));
    pace.done(1_000_000, at(1_000));
    assert_eq!(pace.rate(at(10_000)), Some(100_000));
    assert_eq!(pace.rate(at(100_000)), Some(10_000));
}

#[test]
fn a_pause_does_not_count_as_slow() {
    let mut pace = Pace::default();
    pace.begin(at(0));
    pace.done(1_000_000, at(1_000));
    pace.begin(at(1_000_000));
    assert_eq!(pace.rate(at(1_000_500)), None);
    pace.done(1_000_000, at(1_001_000));
    assert_eq!(pace.rate(at(1_001_000)), Some(1_000_000));
}

#[test]
fn the_limit_is_where_requests_spend_most_of_their_time() {
    let mut pace = Pace::default();
    assert_eq!(pace.slowest(5_000_000), None, "nothing is known yet");
    pace.disk_took(at(0), at(1));
    pace.hear(None, 500);
    assert_eq!(pace.slowest(5_000_000), Some(ResyncLimit::Link));
    assert_eq!(pace.slowest(1_600_000), Some(ResyncLimit::DiskHere));
    pace.hear(None, 4_000);
    assert_eq!(pace.slowest(5_000_000), Some(ResyncLimit::DiskOfPeer));
    pace.forget_told();
    assert_eq!(pace.slowest(5_000_000), None);
}

#[test]
fn what_the_peer_tells_is_seen_from_here() {
    let mut pace = Pace::default();
    pace.hear(Some(ResyncLimit::DiskHere), 0);
    assert_eq!(pace.told_limit(), Some(ResyncLimit::DiskOfPeer));
    pace.hear(Some(ResyncLimit::Clients), 0);
    assert_eq!(pace.told_limit(), Some(ResyncLimit::Clients));
}

#[test]
fn what_a_disk_takes_is_the_average_of_the_last_requests() {
    let mut pace = Pace::default();
    for _ in 0..3 {
        pace.disk_took(at(0), at(8));
    }
    assert_eq!(pace.own_disk_us(), 8_000);
    pace.disk_took(at(0), at(16));
    assert_eq!(pace.own_disk_us(), 9_000);
}

#[test]
fn what_was_done_sixteen_seconds_ago_does_not_count_and_what_was_done_fifteen_ago_does() {
    let mut pace = Pace::default();
    pace.begin(at(0));
    for second in 1..=20 {
        let bytes = if second == 6 { 16_000 } else { 1_000 };
        pace.done(bytes, at(second * 1_000));
    }
    assert_eq!(pace.rate(at(20_000)), Some(2_000));
    pace.done(1_000, at(21_000));
    assert_eq!(pace.rate(at(21_000)), Some(1_000));
}
