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
