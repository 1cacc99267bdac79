//! The checkers themselves must notice what they are there to notice.

use super::{Found, Kind, Ledger, SECTOR, fill, look_at};

fn sector(run: u64, number: u64, version: u32) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    fill(run, number, version, &mut bytes);
    bytes
}

#[test]
fn a_stamp_is_recognised_and_every_flipped_byte_is_noticed() {
    let good = sector(7, 99, 3);
    assert_eq!(look_at(7, 99, &good), Found::Version(3));
    for at in 0..SECTOR {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(matches!(look_at(7, 99, &bad), Found::Wrong(_)), "byte {at}");
    }
}

#[test]
fn a_stamp_elsewhere_or_of_another_run_is_wrong() {
    let good = sector(7, 99, 3);
    assert!(matches!(look_at(7, 98, &good), Found::Wrong(_)));
    assert!(matches!(look_at(8, 99, &good), Found::Wrong(_)));
    assert_eq!(look_at(7, 99, &[0; SECTOR]), Found::Zero);
}

#[test]
fn an_acknowledged_write_may_not_be_lost_but_an_unanswered_one_may() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    let first = shard.issue(2, 1, Kind::Data);
    shard.acknowledge(2, 1, Kind::Data);
    let second = shard.issue(2, 1, Kind::Data);
    assert!(shard.check(2, &sector(7, 2, 0)).is_err(), "lost");
    assert!(
        shard.check(2, &first).is_ok(),
        "the second was not answered"
    );
    assert!(shard.check(2, &second).is_ok(), "and may have happened");
    assert!(shard.check(2, &first).is_err(), "once seen it stays");
}

#[test]
fn what_was_not_seen_once_nothing_is_outstanding_may_not_appear_later() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    let late = shard.issue(0, 1, Kind::Data);
    assert!(shard.settle(0, &sector(7, 0, 0)).is_ok());
    assert!(shard.check(0, &late).is_err());
}

#[test]
fn zeroes_are_right_only_where_zeroes_were_written() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    assert!(shard.check(5, &[0; SECTOR]).is_err());
    shard.issue(5, 1, Kind::Zero);
    shard.acknowledge(5, 1, Kind::Zero);
    assert!(shard.check(5, &[0; SECTOR]).is_ok());
    assert!(shard.check(5, &sector(7, 5, 0)).is_err());
    shard.issue(5, 1, Kind::Data);
    shard.acknowledge(5, 1, Kind::Data);
    assert!(shard.check(5, &[0; SECTOR]).is_err());
}

#[test]
fn a_trimmed_sector_may_be_zero_or_what_it_was() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    shard.issue(1, 1, Kind::Trim);
    shard.acknowledge(1, 1, Kind::Trim);
    assert!(shard.check(1, &sector(7, 1, 0)).is_ok());
    assert!(shard.check(1, &[0; SECTOR]).is_ok());
}

#[test]
fn only_what_was_flushed_survives_the_power_of_all() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    let first = shard.issue(2, 1, Kind::Data);
    shard.acknowledge(2, 1, Kind::Data);
    let covered = shard.answered();
    let second = shard.issue(2, 1, Kind::Data);
    shard.acknowledge(2, 1, Kind::Data);
    // The flush was sent before the second write was answered.
    shard.flushed(covered);
    assert!(shard.check(2, &first).is_err(), "an answered write is lost");
    ledger.power_lost();
    let shard = &mut ledger.shards_mut()[0];
    assert!(shard.check(2, &sector(7, 2, 0)).is_err(), "a flushed one");
    assert!(shard.check(2, &first).is_ok());
    assert!(shard.check(2, &second).is_ok());
    assert!(shard.check(2, &first).is_err(), "what was read went back");
}

#[test]
fn a_durable_write_survives_the_power_of_all_and_zeroes_are_not_forgotten() {
    let mut ledger = Ledger::new(7, 8, 1);
    let shard = &mut ledger.shards_mut()[0];
    let first = shard.issue(2, 1, Kind::Data);
    shard.acknowledge_durable(2, 1, Kind::Data);
    let _zeroes = shard.issue(2, 1, Kind::Zero);
    shard.acknowledge(2, 1, Kind::Zero);
    let third = shard.issue(2, 1, Kind::Data);
    shard.acknowledge(2, 1, Kind::Data);
    assert!(shard.settle(2, &third).is_ok());
    for content in [&first, &vec![0; SECTOR], &third] {
        ledger.power_lost();
        assert!(ledger.shards_mut()[0].check(2, content).is_ok());
    }
    ledger.power_lost();
    let lost = ledger.shards_mut()[0].check(2, &sector(7, 2, 0));
    assert!(lost.is_err(), "a durable write is lost");
}
