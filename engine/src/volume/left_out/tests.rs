//! When what cannot be read is asked for again, and how much of it at once.

use super::*;

/// So many blocks are missing and could not be read.
fn left(count: u64) -> LeftOut {
    let mut bitmap = Bitmap::new(1 << 24);
    let mut left = LeftOut::default();
    for number in 0..count {
        let range = ByteRange::new(number * u64::from(BLOCK_SIZE), BLOCK_SIZE);
        bitmap.set_touched(range);
        left.add(range, &bitmap, Time(0));
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
