//! Every fault happens when it is due, and is counted.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::io::Errno;

use super::super::disks::{Answer, Request};
use super::super::fault::{Effect, Fault, On};
use super::{ask, disks, lasting, read, start, write, writing};
use crate::check::SECTOR;

#[test]
fn an_error_happens_once_or_for_ever_and_only_where_it_should() {
    let (disks, _) = disks(8);
    let once = Fault::new(On::Read, Effect::Error(Errno::IO)).within(512..1024);
    let once = disks.set(once.once().after(1));
    assert_eq!(read(&disks, 0), Ok(0), "elsewhere");
    assert_eq!(read(&disks, 1), Ok(1), "let pass");
    assert_eq!(read(&disks, 1), Err(Errno::IO));
    assert_eq!(read(&disks, 1), Ok(1), "it was only once");
    assert_eq!(disks.hits(once), 1);
    let other = Fault::new(On::Any, Effect::Error(Errno::IO)).in_file("other");
    disks.set(other);
    let sticky = disks.set(Fault::new(On::Write, Effect::Error(Errno::NOSPC)));
    for _ in 0..3 {
        assert_eq!(write(&disks, 1, 9), Err(Errno::NOSPC));
    }
    assert_eq!(read(&disks, 2), Ok(2));
    assert_eq!((disks.hits(sticky), disks.all_hits()), (3, 4));
    disks.clear();
    assert_eq!(write(&disks, 1, 9), Ok(Answer::Done(SECTOR)));
}

#[test]
fn a_write_that_fails_has_changed_nobody_knows_what() {
    let (disks, _) = disks(8);
    disks.set(Fault::new(On::Write, Effect::Error(Errno::IO)));
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        assert_eq!(ask(&disks, writing(0, 9, 2)), Err(Errno::IO));
        seen.insert((read(&disks, 0).unwrap(), read(&disks, 1).unwrap()));
    }
    assert!(seen.len() >= 2, "{seen:?}");
}

#[test]
fn a_flush_that_fails_loses_what_it_should_have_kept() {
    let (disks, medium) = disks(8);
    write(&disks, 1, 9).unwrap();
    let fault = Fault::new(On::Flush, Effect::Error(Errno::IO)).once();
    disks.set(fault);
    assert_eq!(ask(&disks, Request::Flush), Err(Errno::IO));
    assert_eq!(ask(&disks, Request::Flush), Ok(Answer::Done(0)));
    assert_eq!((read(&disks, 1), lasting(&medium, 1)), (Ok(9), 1));
}

#[test]
fn short_means_half_and_says_so() {
    let (disks, _) = disks(8);
    let fault = disks.set(Fault::new(On::Any, Effect::Short));
    assert_eq!(ask(&disks, writing(0, 9, 5)), Ok(Answer::Done(2 * SECTOR)));
    assert_eq!(write(&disks, 7, 9), Ok(Answer::Done(SECTOR)), "indivisible");
    assert_eq!((read(&disks, 1), read(&disks, 2)), (Ok(9), Ok(2)));
    let request = Request::Read {
        offset: 0,
        length: 4 * SECTOR,
    };
    assert_eq!(ask(&disks, request), Ok(Answer::Data(vec![9; 2 * SECTOR])));
    assert_eq!(disks.hits(fault), 2);
}

#[test]
fn a_flipped_bit_is_one_bit_of_what_is_read_and_none_of_what_is_stored() {
    let (disks, _) = disks(8);
    let fault = disks.set(Fault::new(On::Any, Effect::FlipBit).once());
    write(&disks, 0, 0).unwrap();
    let request = || Request::Read {
        offset: 0,
        length: SECTOR,
    };
    let Ok(Answer::Data(data)) = ask(&disks, request()) else {
        panic!("a read brings data");
    };
    let ones: u32 = data.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!((ones, disks.hits(fault)), (1, 1));
    assert_eq!(ask(&disks, request()), Ok(Answer::Data(vec![0; SECTOR])));
}

#[test]
fn what_hangs_is_done_when_it_is_released_and_not_before() {
    let (disks, medium) = disks(8);
    disks.set(Fault::new(On::Any, Effect::Hang).after(1));
    write(&disks, 0, 9).unwrap();
    let hanging = start(&disks, writing(1, 9, 1));
    let flush = start(&disks, Request::Flush);
    let waited = hanging.recv_timeout(Duration::from_millis(20));
    assert!(waited.is_err(), "it was answered");
    assert_eq!(disks.under_way(), 2);
    disks.release();
    assert_eq!(hanging.recv(), Ok(Ok(Answer::Done(SECTOR))));
    assert_eq!(flush.recv(), Ok(Ok(Answer::Done(0))));
    // The flush arrived before the write had completed, so it does not cover it.
    assert_eq!((lasting(&medium, 0), lasting(&medium, 1)), (9, 1));
    assert_eq!(read(&disks, 1), Ok(9), "nothing hangs any more");
}

#[test]
fn a_delay_is_a_delay() {
    let (disks, _) = disks(8);
    let slow = Effect::Delay(Duration::from_millis(5));
    let fault = disks.set(Fault::new(On::Write, slow));
    assert_eq!(write(&disks, 1, 9), Ok(Answer::Done(SECTOR)));
    assert_eq!((read(&disks, 1), disks.hits(fault)), (Ok(9), 1));
    disks.clear();
    disks.set_latency(Duration::from_millis(5));
    assert_eq!(write(&disks, 2, 9), Ok(Answer::Done(SECTOR)));
    assert_eq!(ask(&disks, Request::Flush), Ok(Answer::Done(0)));
}

#[test]
fn without_power_everything_fails_and_what_was_under_way_may_be_half_done() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (disks, medium) = disks(8);
        write(&disks, 0, 9).unwrap();
        ask(&disks, Request::Flush).unwrap();
        disks.set(Fault::new(On::Write, Effect::Hang));
        let under_way = start(&disks, writing(1, 9, 2));
        disks.power_cut(seed);
        assert_eq!(under_way.recv(), Ok(Err(Errno::IO)));
        assert_eq!(read(&disks, 0), Err(Errno::IO));
        assert_eq!(write(&disks, 0, 8), Err(Errno::IO));
        assert_eq!(ask(&disks, Request::Flush), Err(Errno::IO));
        disks.power_on();
        assert_eq!(read(&disks, 0), Ok(9));
        seen.insert((lasting(&medium, 1), lasting(&medium, 2)));
    }
    assert_eq!(seen, BTreeSet::from([(1, 2), (1, 9), (9, 2), (9, 9)]));
}

#[test]
fn beyond_its_end_a_disk_takes_nothing() {
    let (disks, _) = disks(8);
    assert_eq!(ask(&disks, writing(7, 9, 2)), Err(Errno::NOSPC));
    assert_eq!(read(&disks, 7), Ok(7));
}
