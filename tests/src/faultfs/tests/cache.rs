//! What is read, what lasts, and what a power cut leaves.

use std::collections::BTreeSet;

use super::super::cache::Cache;
use super::{lasting, medium};
use crate::check::SECTOR;
use crate::process::Chance;

#[test]
fn a_write_is_read_at_once_and_lasts_only_when_flushed() {
    let medium = medium(4);
    let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
    cache.write(512, &[9; 1024], || true).unwrap();
    assert_eq!(cache.read(512, 1024).unwrap(), [9; 1024]);
    assert_eq!(cache.read(0, SECTOR).unwrap(), [0; SECTOR]);
    assert_eq!((lasting(&medium, 1), lasting(&medium, 2)), (1, 2));
    cache.flush(cache.now()).unwrap();
    assert_eq!((lasting(&medium, 1), lasting(&medium, 2)), (9, 9));
    assert_eq!(cache.dirty(), 0);
}

#[test]
fn a_flush_covers_what_had_completed_when_it_arrived_and_nothing_later() {
    let medium = medium(4);
    let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
    cache.write(0, &[8; SECTOR], || true).unwrap();
    let arrived = cache.now();
    cache.write(0, &[9; SECTOR], || true).unwrap();
    cache.write(512, &[9; SECTOR], || true).unwrap();
    cache.flush(arrived).unwrap();
    assert_eq!((lasting(&medium, 0), lasting(&medium, 1)), (8, 1));
    assert_eq!(cache.read(0, SECTOR).unwrap(), [9; SECTOR]);
}

#[test]
fn a_durable_write_lasts_and_says_nothing_of_others() {
    let medium = medium(4);
    let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
    cache.write(0, &[8; 1024], || true).unwrap();
    cache.write_through(512, &[9; SECTOR]).unwrap();
    assert_eq!((lasting(&medium, 0), lasting(&medium, 1)), (0, 9));
    // The older value of the second sector must not come back.
    cache.flush(cache.now()).unwrap();
    assert_eq!((lasting(&medium, 0), lasting(&medium, 1)), (8, 9));
}

#[test]
fn parts_of_sectors_leave_the_rest_alone() {
    let medium = medium(4);
    let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
    cache.write(1000, &[9; 100], || true).unwrap();
    let mut expected = [vec![1; 512], vec![2; 512]].concat();
    expected[488..588].fill(9);
    assert_eq!(cache.read(512, 1024).unwrap(), expected);
    assert_eq!(cache.read(1000, 100).unwrap(), [9; 100]);
    assert_eq!(cache.read(2000, 1000).unwrap(), [3; 48], "the disk ends");
}

#[test]
fn after_a_failed_flush_no_later_one_makes_it_good() {
    let medium = medium(4);
    let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
    cache.write(0, &[9; SECTOR], || true).unwrap();
    cache.fail_flush(cache.now());
    cache.write(512, &[9; SECTOR], || true).unwrap();
    cache.flush(cache.now()).unwrap();
    assert_eq!(cache.read(0, SECTOR).unwrap(), [9; SECTOR]);
    assert_eq!((lasting(&medium, 0), lasting(&medium, 1)), (0, 9));
}

#[test]
fn a_power_cut_leaves_any_mix_and_never_touches_what_was_flushed() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let medium = medium(4);
        let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
        cache.write(0, &[7; 512], || true).unwrap();
        cache.flush(cache.now()).unwrap();
        cache.write(512, &[8; 1024], || true).unwrap();
        cache.write(512, &[9; 512], || true).unwrap();
        cache.cut(&mut Chance::new(seed)).unwrap();
        assert_eq!((lasting(&medium, 0), lasting(&medium, 3)), (7, 3));
        assert_eq!(cache.dirty(), 0);
        outcomes.insert((lasting(&medium, 1), lasting(&medium, 2)));
    }
    let all = [1, 8, 9].into_iter().flat_map(|a| [(a, 2), (a, 8)]);
    assert_eq!(outcomes, all.collect());
}

#[test]
fn a_power_cut_is_the_same_for_the_same_seed() {
    let image = |seed| {
        let medium = medium(64);
        let mut cache = Cache::new(medium.try_clone().unwrap()).unwrap();
        cache.write(0, &[200; 64 * SECTOR], || true).unwrap();
        cache.cut(&mut Chance::new(seed)).unwrap();
        (0..64).map(|at| lasting(&medium, at)).collect::<Vec<u8>>()
    };
    let images: BTreeSet<Vec<u8>> = (0..20).map(image).collect();
    assert!(images.len() > 5, "{} different", images.len());
    assert!((0..20).all(|seed| image(seed) == image(seed)));
}

#[test]
fn a_full_cache_writes_back_the_oldest() {
    let medium = medium(8);
    let mut cache = Cache::limited(medium.try_clone().unwrap(), 4).unwrap();
    cache.write(0, &[9; 6 * SECTOR], || true).unwrap();
    let last: Vec<u8> = (0..8).map(|sector| lasting(&medium, sector)).collect();
    assert_eq!(last, [9, 9, 2, 3, 4, 5, 6, 7]);
    assert_eq!(cache.read(0, 6 * SECTOR).unwrap(), [9; 6 * SECTOR]);
}
