//! The intent log between two attaches: which epoch's blocks count.

use super::damage::{INTENT, marked};
use super::superblocks::keep_sectors;
use super::*;

#[test]
fn intent_blocks_of_an_earlier_attach_do_not_count_as_marks_or_as_clean() {
    let mut volume = marked();
    volume.superblock.attach_epoch = 2;
    volume.write_superblock();
    let image = volume.open().unwrap();
    assert_eq!(image.hot_regions, [0..volume.layout.regions()]);
    assert_eq!(image.intent_sequences, [3]);
    volume.write_intent(0, &page(&[2]), 2, 4);
    assert_eq!(volume.open().unwrap().hot_regions, [2..3]);
}

#[test]
fn a_crash_at_any_step_of_the_attach_keeps_every_mark() {
    let mut volume = marked();
    let hot = [0..1, 3..4];
    // The rewrite under the next epoch, before the superblock names it.
    for sequence in [4, 5] {
        volume.write_intent(0, &page(&[0, 3]), 2, sequence);
        assert_eq!(volume.open().unwrap().hot_regions, hot);
    }
    // A second attempt after a crash starts over.
    volume.write_intent(0, &page(&[0, 3]), 2, 6);
    assert_eq!(volume.open().unwrap().hot_regions, hot);
    volume.superblock.attach_epoch = 2;
    volume.write_superblock();
    assert_eq!(volume.open().unwrap().hot_regions, hot);
    // From here on only the new epoch's blocks and their successors count.
    volume.write_intent(0, &page(&[0, 3, 4]), 2, 7);
    assert_eq!(volume.open().unwrap().hot_regions, [0..1, 3..5]);
}

#[test]
fn a_write_torn_in_a_second_attempt_at_an_attach_is_known_never_to_have_completed() {
    let mut volume = marked();
    for sequence in [4, 5] {
        volume.write_intent(0, &page(&[0, 3]), 2, sequence);
    }
    // The next one reaches the disk without its first sector: the header is that of 4.
    let before = volume.device.block(volume.offset(INTENT[0]));
    volume.write_intent(0, &page(&[0, 3, 5000]), 2, 6);
    volume.damage(INTENT[0], |block| {
        keep_sectors(block, &before, 0b1111_1110);
    });
    let image = volume.open().unwrap();
    assert_eq!(image.hot_regions, [0..1, 3..4]);
    assert_eq!(image.damage, []);
}

#[test]
fn intent_block_from_beyond_the_next_epoch_tells_that_the_superblock_is_stale() {
    let mut volume = marked();
    volume.write_intent(0, &page(&[]), 3, 4);
    let image = volume.open().unwrap();
    assert_eq!(image.hot_regions, [0..volume.layout.regions()]);
    let cause = BlockError::Misplaced {
        what: "attach epoch",
        expected: 1,
        found: 3,
    };
    assert_eq!(image.damage[0].cause, cause);
}

#[test]
fn slots_whose_epoch_and_sequence_disagree_make_the_regions_hot() {
    let mut volume = marked();
    volume.superblock.attach_epoch = 2;
    volume.write_superblock();
    volume.write_intent(0, &page(&[]), 2, 4);
    volume.write_intent(0, &page(&[2]), 1, 5);
    assert_eq!(
        volume.open().unwrap().hot_regions,
        [0..volume.layout.regions()]
    );
    // Torn, from a far later attach, and yet under a lower sequence.
    let mut volume = marked();
    volume.write_intent(0, &page(&[]), 3, 2);
    volume.damage(INTENT[0], |block| block[4000] ^= 1);
    assert_eq!(
        volume.open().unwrap().hot_regions,
        [0..volume.layout.regions()]
    );
}
