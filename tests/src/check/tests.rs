//! The checkers, each seen to accept what is right and to refuse what is wrong.
use super::*;

#[test]
fn a_read_may_return_any_write_between_the_acknowledged_and_the_issued() {
    let mut registers = Registers::default();
    for _ in 0..3 {
        registers.write_invoked(7, false);
    }
    registers.write_acknowledged(7, 1, false);
    assert!(registers.read_returned(7, 1, stamp(7, 3)).is_ok());
}

#[test]
fn a_value_once_read_never_reverts() {
    let mut registers = Registers::default();
    let first = registers.write_invoked(7, false);
    registers.write_acknowledged(7, first, false);
    registers.write_invoked(7, false);
    assert!(registers.read_returned(7, 1, stamp(7, 2)).is_ok());
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, stamp(7, 1)).is_err());
}

#[test]
fn an_acknowledged_write_that_is_lost_is_noticed() {
    let mut registers = Registers::default();
    let index = registers.write_invoked(7, false);
    registers.write_acknowledged(7, index, false);
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, 0).is_err());
    assert!(registers.is_current(|_| 0).is_err());
    registers.caches_lost();
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, 0).is_ok());
}

#[test]
fn what_was_flushed_survives_the_loss_of_every_cache() {
    let mut registers = Registers::default();
    let index = registers.write_invoked(7, false);
    registers.write_acknowledged(7, index, false);
    let covered = registers.flush_invoked();
    registers.flush_acknowledged(&covered);
    registers.caches_lost();
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, 0).is_err());
}

#[test]
fn writes_in_flight_at_once_may_end_in_either_order() {
    let mut registers = Registers::default();
    let (first, second) = (
        registers.write_invoked(7, false),
        registers.write_invoked(7, false),
    );
    registers.write_acknowledged(7, second, false);
    registers.write_acknowledged(7, first, false);
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, stamp(7, first)).is_ok());
}

#[test]
fn zeroes_are_explained_by_a_zeroing_only() {
    let mut registers = Registers::default();
    let write = registers.write_invoked(7, false);
    registers.write_acknowledged(7, write, false);
    let oldest = registers.read_invoked(7);
    assert!(registers.clone().read_returned(7, oldest, 0).is_err());
    let zero = registers.write_invoked(7, true);
    registers.write_acknowledged(7, zero, false);
    let oldest = registers.read_invoked(7);
    assert!(registers.read_returned(7, oldest, 0).is_ok());
}

#[test]
fn what_nobody_has_written_may_be_anything_but_stays_that() {
    let mut registers = Registers::default();
    let [one, other] = [garbage(3, 0), garbage(3, 1)];
    assert!(registers.read_returned(3, 0, one).is_ok());
    assert!(registers.read_returned(3, 0, one).is_ok());
    assert!(registers.read_returned(3, 0, other).is_err());
    assert!(registers.read_returned(3, 0, 0).is_err());
    registers.begin_anew(|_| other);
    assert!(registers.read_returned(3, 0, other).is_ok());
}

#[test]
fn data_of_another_sector_is_noticed() {
    let mut registers = Registers::default();
    assert!(registers.read_returned(7, 0, stamp(8, 1)).is_err());
}

struct Fixed(Vec<Vec<u64>>);

impl Possible for Fixed {
    fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64)) {
        let at = usize::try_from(sector).expect("small");
        for value in self.0.get(at).into_iter().flatten() {
            visit(*value);
        }
    }
}

fn disk(special: &[u64]) -> Fixed {
    let mut sectors = vec![vec![0]; 16];
    sectors[9] = special.to_vec();
    Fixed(sectors)
}

#[test]
fn a_block_that_may_differ_must_be_marked_on_one_side() {
    let blocks = [0, 1];
    let mut check = PairCheck::new(2);
    check.blocks_changed(blocks, [&disk(&[0, 5]), &disk(&[5])]);
    assert_eq!(check.differing(), 1);
    assert!(check.verify().is_err());
    check.marks_changed(1, vec![false, true]);
    assert!(check.verify().is_ok());
    check.marks_changed(1, vec![true, false]);
    assert!(check.verify().is_err());
    check.blocks_changed(blocks, [&disk(&[5]), &disk(&[5])]);
    assert!(check.verify().is_ok());
}

#[test]
fn data_of_another_volume_is_not_taken_for_the_own() {
    let (mut one, mut other) = (Registers::of_volume(0), Registers::of_volume(1));
    let (index, same) = (one.write_invoked(7, false), other.write_invoked(7, false));
    assert_eq!(index, same);
    assert!(one.read_returned(7, 0, one.stamp(7, index)).is_ok());
    assert!(other.read_returned(7, 0, one.stamp(7, index)).is_err());
    assert!(other.read_returned(7, 0, other.stamp(7, index)).is_ok());
}
