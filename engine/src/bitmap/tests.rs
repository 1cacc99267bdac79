//! The bitmap against a plain list of booleans.
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const BLOCKS: u32 = 70_000;

fn count(model: &[bool]) -> u64 {
    u64::try_from(model.iter().filter(|bit| **bit).count()).unwrap()
}

fn index(block: u64) -> usize {
    usize::try_from(block).unwrap()
}

proptest! {
    #[test]
    fn agrees_with_a_list_of_booleans(
        steps in prop::collection::vec(
            (any::<bool>(), 0..u64::from(BLOCKS) * 4096, 1..9_000_000_u32),
            1..40,
        )
    ) {
        let data_bytes = u64::from(BLOCKS) * 4096;
        let mut bitmap = Bitmap::new(data_bytes);
        let mut model = vec![false; index(BLOCKS.into())];
        for (set, offset, length) in steps {
            let length = length.min(u32::try_from(data_bytes - offset).unwrap());
            let range = ByteRange::new(offset, length);
            if set {
                bitmap.set_touched(range);
                for block in offset / 4096..range.end().div_ceil(4096) {
                    model[index(block)] = true;
                }
            } else {
                bitmap.clear_covered(range);
                for block in offset.div_ceil(4096)..range.end() / 4096 {
                    model[index(block)] = false;
                }
            }
            prop_assert_eq!(bitmap.count(), count(&model));
        }
        let mut found = vec![false; index(BLOCKS.into())];
        let mut at = 0;
        while let Some(run) = bitmap.next_run(at, 256 << 10, data_bytes) {
            for block in run.offset / 4096..run.end().div_ceil(4096) {
                found[index(block)] = true;
            }
            at = run.end();
        }
        prop_assert_eq!(&found, &model);
        let mut copy = Bitmap::new(data_bytes);
        for (page, words) in bitmap.dirty_pages() {
            copy.merge_page(page, words, false);
        }
        prop_assert_eq!(copy.count(), bitmap.count());
    }
}

#[test]
fn bits_beyond_the_end_are_ignored() {
    let mut bitmap = Bitmap::new(10 * 4096);
    bitmap.merge_page(0, &[u64::MAX; WORDS], false);
    assert_eq!(bitmap.count(), 10);
    bitmap.merge_page(5, &[u64::MAX; WORDS], false);
    assert_eq!(bitmap.count(), 10);
}

#[test]
fn a_page_read_from_disk_needs_no_saving_and_a_changed_one_does() {
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    bitmap.merge_page(1, &[3; WORDS], true);
    assert!(!bitmap.has_unsaved());
    bitmap.set_touched(ByteRange::new(0, 4096));
    let unsaved: Vec<_> = bitmap.next_unsaved(0).into_iter().collect();
    assert_eq!(unsaved, [0]);
}

#[test]
fn what_joins_a_page_that_is_on_disk_has_to_be_saved() {
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    bitmap.merge_page(1, &[1; WORDS], true);
    bitmap.merge_page(1, &[2; WORDS], false);
    assert_eq!(bitmap.next_unsaved(0), Some(1));
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    bitmap.merge_page(1, &[1; WORDS], false);
    assert_eq!(bitmap.next_unsaved(0), Some(1), "a page that was empty");
    bitmap.merge_page(1, &[2; WORDS], true);
    assert_eq!(
        bitmap.next_unsaved(0),
        Some(1),
        "the first half is not there"
    );
}

#[test]
fn the_pages_of_what_a_volume_grows_by_are_saved_whether_dirty_or_not() {
    for dirty in [true, false] {
        let mut bitmap = Bitmap::new(4096 * (BITS_PER_PAGE + 1));
        bitmap.resize(4096 * (3 * BITS_PER_PAGE + 1), dirty);
        let grown = if dirty { 2 * BITS_PER_PAGE } else { 0 };
        assert_eq!(bitmap.count(), grown);
        for page in 1..=3 {
            assert_eq!(bitmap.next_unsaved(page), Some(page), "dirty: {dirty}");
        }
        assert_eq!(bitmap.next_unsaved(4), None);
        assert_eq!(bitmap.next_unsaved(0), Some(1), "the first is as it was");
    }
}

#[test]
fn what_a_volume_shrinks_by_is_forgotten() {
    let mut bitmap = Bitmap::new(4096 * 2 * BITS_PER_PAGE);
    bitmap.set_touched(ByteRange::new(0, 8192));
    bitmap.set_touched(ByteRange::new(4096 * BITS_PER_PAGE, 8192));
    bitmap.resize(4096, true);
    assert_eq!(bitmap.count(), 1);
    assert_eq!(bitmap.next_unsaved(1), None);
    bitmap.resize(8192, false);
    assert_eq!(
        bitmap.count(),
        1,
        "and it is clean when the volume grows again"
    );
}

#[test]
fn a_page_that_has_become_clean_is_no_dirty_page() {
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    let across = ByteRange::new(4096 * (BITS_PER_PAGE - 1), 8192);
    bitmap.set_touched(across);
    assert_eq!(bitmap.dirty_pages().count(), 2);
    bitmap.clear_covered(across);
    assert_eq!(bitmap.dirty_pages().count(), 0);
}

#[test]
fn a_run_ends_with_the_limit_its_page_or_the_data() {
    let block = |number: u64| number * 4096;
    let data_bytes = block(BLOCKS.into()) - 512;
    let mut bitmap = Bitmap::new(data_bytes);
    bitmap.set_all();
    let run = |from, limit| {
        let found = bitmap.next_run(from, limit, data_bytes);
        found.map(|run| (run.offset, run.length))
    };
    assert_eq!(run(0, 3 * 4096), Some((0, 3 * 4096)));
    assert_eq!(run(0, 3 * 4096 - 1), Some((0, 2 * 4096)), "whole blocks");
    assert_eq!(run(block(70), 4096), Some((block(70), 4096)));
    assert_eq!(run(1, 4096), Some((block(1), 4096)), "not what is before");
    let last = block(BITS_PER_PAGE - 2);
    assert_eq!(run(last, 1 << 20), Some((last, 2 * 4096)), "the page ends");
    let next = block(BITS_PER_PAGE);
    assert_eq!(run(next, 4096), Some((next, 4096)));
    let last = block(u64::from(BLOCKS) - 1);
    assert_eq!(run(last, 1 << 20), Some((last, 4096 - 512)));
    assert_eq!(run(last + 1, 1 << 20), None);
}

#[test]
fn a_last_block_that_is_cut_short_is_marked_and_cleared_like_any_other() {
    let mut bitmap = Bitmap::new(10 * 4096 + 512);
    let (before, last) = (ByteRange::new(9 * 4096, 4096), ByteRange::new(40_960, 512));
    assert_eq!(bitmap.set_touched(ByteRange::new(40_448, 1024)), 2);
    assert_eq!(bitmap.set_touched(last), 0, "it is marked already");
    let half = ByteRange::new(9 * 4096, 512);
    assert_eq!(bitmap.clear_covered(half), 0, "half a block is none");
    assert_eq!(bitmap.clear_covered(last), 1);
    assert!(!bitmap.is_clean());
    assert_eq!(bitmap.clear_covered(before), 1);
    assert!(bitmap.is_clean());
}

#[test]
fn only_what_changes_a_page_has_it_saved() {
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    let marked = ByteRange::new(4096 * (BITS_PER_PAGE - 1), 8192);
    bitmap.set_touched(marked);
    bitmap.note_saving(0);
    assert_eq!(bitmap.next_unsaved(0), Some(1));
    bitmap.note_saving(1);
    bitmap.set_touched(marked);
    bitmap.clear_covered(ByteRange::new(0, 8192));
    assert!(!bitmap.has_unsaved(), "both pages say so on disk");
    bitmap.clear_covered(ByteRange::new(4096 * BITS_PER_PAGE, 4096));
    assert_eq!(bitmap.next_unsaved(0), Some(1));
    bitmap.note_saving(1);
    bitmap.note_unsaved(0);
    assert_eq!(bitmap.next_unsaved(0), Some(0), "it could not be written");
}

#[test]
fn everything_marked_or_cleared_at_once_is_saved_page_by_page() {
    for dirty in [true, false] {
        let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
        bitmap.merge_page(1, &[u64::MAX; WORDS], true);
        if dirty {
            bitmap.set_all();
        } else {
            bitmap.clear_all();
        }
        assert_eq!(bitmap.count(), if dirty { BLOCKS.into() } else { 0 });
        for page in 0..3 {
            assert_eq!(bitmap.next_unsaved(page), Some(page), "dirty: {dirty}");
        }
        assert_eq!(bitmap.next_unsaved(3), None);
    }
}

#[test]
fn a_page_that_joins_an_empty_one_is_taken_over_bit_for_bit() {
    let mut words = [0; WORDS];
    let patterns = [1, 1 << 63, u64::MAX, u64::MAX << 3, 0xA5A5_0FF0_8001_7FFE];
    for (word, pattern) in words.iter_mut().step_by(5).zip(patterns) {
        *word = pattern;
    }
    words[WORDS - 1] = 1 << 63 | 1;
    let mut bitmap = Bitmap::new(u64::from(BLOCKS) * 4096);
    bitmap.merge_page(1, &words, false);
    assert_eq!(bitmap.page(1), words);
    assert_eq!(bitmap.page(0), [0; WORDS]);
    assert_eq!(bitmap.page(2), [0; WORDS]);
    let set: u32 = words.iter().map(|word| word.count_ones()).sum();
    assert_eq!(bitmap.count(), u64::from(set));
}

#[test]
fn a_copy_of_a_page_takes_the_bits_of_a_range_that_are_its_own() {
    // The last block of page 0 and the first two of page 1.
    let range = ByteRange::new(4096 * (BITS_PER_PAGE - 1), 8193);
    assert_eq!((page_of(range.offset), page_of(range.end())), (0, 1));
    assert_eq!(page_of(range.offset + 4095), 0);
    let mut copy = [0; WORDS];
    copy[0] = 0b100;
    set_in_copy(&mut copy, 1, range);
    assert_eq!(copy[0], 0b111, "what was there stays");
    assert!(copy[1..].iter().all(|word| *word == 0));
    let mut copy = [0; WORDS];
    set_in_copy(&mut copy, 0, range);
    assert_eq!(copy[WORDS - 1], 1 << 63);
    assert!(copy[..WORDS - 1].iter().all(|word| *word == 0));
    set_in_copy(&mut copy, 2, range);
    assert!(copy[..WORDS - 1].iter().all(|word| *word == 0));
}

#[test]
fn a_page_that_a_volume_keeps_or_grows_into_is_saved_after_its_size_has_changed() {
    let mut bitmap = Bitmap::new(4096 * 3 * BITS_PER_PAGE);
    for page in 0..3 {
        bitmap.set_touched(ByteRange::new(4096 * page * BITS_PER_PAGE, 4096));
    }
    bitmap.resize(4096 * 2 * BITS_PER_PAGE, false);
    let unsaved = |bitmap: &Bitmap| [0, 1, 2].map(|page| bitmap.next_unsaved(page));
    assert_eq!(unsaved(&bitmap), [Some(0), Some(1), None]);
    let mut bitmap = Bitmap::new(4096 * 5);
    bitmap.resize(4096 * 2 * BITS_PER_PAGE, false);
    assert_eq!(unsaved(&bitmap), [Some(0), Some(1), None]);
    bitmap.note_saving(0);
    bitmap.note_saving(1);
    bitmap.resize(4096 * 2 * BITS_PER_PAGE, false);
    assert!(!bitmap.has_unsaved(), "it is as large as before");
}
