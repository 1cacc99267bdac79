//! When what cannot be read is asked for again, and how much of it at once.

use super::*;

fn block(number: u64) -> ByteRange {
    ByteRange::new(number * u64::from(BLOCK_SIZE), BLOCK_SIZE)
}

fn missing(count: u64) -> Bitmap {
    let mut bitmap = Bitmap::new(1 << 29);
    for number in 0..count {
        bitmap.set_touched(block(number));
    }
    bitmap
}

/// So many blocks are missing and could not be read.
fn left(count: u64) -> LeftOut {
    let bitmap = missing(count);
    let mut left = LeftOut::default();
    for number in 0..count {
        left.add(block(number), &bitmap, Time(0));
    }
    assert_eq!(left.blocks.len() as u64, count);
    left
}

#[test]
fn somebody_is_to_wake_up_for_what_could_not_be_read() {
    let mut left = left(1);
    let due = Time(0).plus_ms(RETRY_MS);
    assert_eq!(left.due(), Some(due));
    let mut cursor = 4096;
    left.try_again(&mut cursor, due);
    assert_eq!(cursor, 0, "it is asked for again");
    assert_eq!(left.due(), None, "nothing is left out now");
}

#[test]
fn a_source_that_can_read_again_is_asked_for_more_and_more_without_a_wait() {
    let mut left = left(200);
    let due = Time(0).plus_ms(RETRY_MS);
    let mut cursor = 0;
    left.try_again(&mut cursor, due);
    assert_eq!(left.blocks.len(), 200 - PROBES);
    left.try_again(&mut cursor, due);
    assert_eq!(
        left.blocks.len(),
        200 - PROBES,
        "none of them has been read"
    );
    left.note_read(u64::from(BLOCK_SIZE));
    left.try_again(&mut cursor, due);
    assert_eq!(left.blocks.len(), 200 - 3 * PROBES);
}

#[test]
fn each_time_others_are_asked_for() {
    let mut left = left(100);
    let bitmap = missing(100);
    let mut cursor = 0;
    let first = Time(0).plus_ms(RETRY_MS);
    left.try_again(&mut cursor, first);
    for number in 0..PROBES as u64 {
        left.add(block(number), &bitmap, first);
    }
    left.try_again(&mut cursor, first.plus_ms(2 * RETRY_MS));
    let offset = |number: usize| block(number as u64).offset;
    assert!(left.blocks.contains(&offset(PROBES - 1)));
    assert!(!left.blocks.contains(&offset(PROBES)));
    assert!(!left.blocks.contains(&offset(2 * PROBES - 1)));
    assert!(left.blocks.contains(&offset(2 * PROBES)));
}

#[test]
fn over_a_new_link_what_is_still_missing_stays_left_out_for_as_long() {
    let mut left = left(3);
    left.patience_ms = Some(4 * RETRY_MS);
    left.careful.push_back(block(7));
    left.probing = Some((8, 0));
    let mut bitmap = missing(3);
    bitmap.clear_covered(block(1));
    left.resume(&bitmap);
    let blocks: Vec<u64> = left.blocks.iter().copied().collect();
    assert_eq!(blocks, [block(0).offset, block(2).offset]);
    assert!(
        left.careful.is_empty(),
        "it was under way over the old link"
    );
    assert_eq!(left.due(), Some(Time(0).plus_ms(RETRY_MS)));
    assert_eq!(left.wait_ms(), 4 * RETRY_MS);
    assert_eq!(left.probing, Some((8, 0)));
    left.resume(&Bitmap::new(1 << 24));
    assert_eq!(left.due(), None);
}

#[test]
fn behind_a_part_that_cannot_be_read_the_rest_is_tried_when_it_is_time() {
    let mut left = left(MOST as u64);
    let bitmap = missing(MOST as u64 + 1);
    let (mut cursor, all) = (0, (1 << 20, 1 << 29));
    assert_eq!(
        left.next_run(&bitmap, &mut cursor, all),
        None,
        "enough has failed"
    );
    left.try_again(&mut cursor, Time(0).plus_ms(RETRY_MS));
    let run = left.next_run(&bitmap, &mut cursor, all);
    assert_eq!(run, Some(block(MOST as u64)));
    assert_eq!(left.wait_ms(), 2 * RETRY_MS, "it is still a bad disk");
}
