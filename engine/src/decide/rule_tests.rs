//! Each rule of the comparison of generations by itself, in the order in which they are tried, as
//! seen from both sides.
//!
//! Two rules of DRBD's table have no counterpart. There, the start of a resync gives the source's
//! bitmap a new identifier that is announced by a packet of its own, and the loss of that packet
//! has to be recognised later. Here the source's bitmap goes on counting from the generation the
//! target has, durably so before the bitmap is sent, and the generation the target will adopt
//! arrives with the bitmap itself: nothing is announced that could be lost apart from the resync.

use super::tests::{FRESH, greeting, mirrored, sides};
use super::*;

/// Decides from both sides; each must see the mirror image of what the other sees.
fn rule(own: &Hello, peer: &Hello) -> Verdict {
    let (s, p) = sides(own, peer);
    let verdict = decide(s, p);
    assert_eq!(decide(p, s), mirrored(verdict));
    verdict
}

fn up(current: u64, bitmap: u64, history: &[u64]) -> Hello {
    greeting(current, bitmap, history, DiskState::UpToDate)
}

fn with_dirty(mut hello: Hello, blocks: u64) -> Hello {
    hello.volumes[0].dirty_blocks = blocks;
    hello
}

const SOURCE: Verdict = Verdict::Source { full: false };
const TARGET: Verdict = Verdict::Target { full: false };
const FULL_SOURCE: Verdict = Verdict::Source { full: true };
const FULL_TARGET: Verdict = Verdict::Target { full: true };

#[test]
fn two_just_created_disks_have_nothing_to_copy() {
    let fresh = greeting(FRESH, 0, &[], DiskState::Inconsistent);
    assert_eq!(rule(&fresh, &fresh), Verdict::NoSync);
}

#[test]
fn a_just_created_disk_is_copied_to_completely() {
    let used = up(10, 0, &[]);
    for fresh in [FRESH, 0] {
        let fresh = greeting(fresh, 0, &[], DiskState::Inconsistent);
        assert_eq!(rule(&fresh, &used), FULL_TARGET);
        assert_eq!(rule(&used, &fresh), FULL_SOURCE);
    }
}

#[test]
fn a_target_that_finished_unheard_gets_at_most_what_the_source_still_has_marked() {
    let finished = up(12, 0, &[10]);
    let source = up(12, 10, &[]);
    assert_eq!(rule(&source, &finished), Verdict::NoSync);
    let marked = with_dirty(source, 3);
    assert_eq!(rule(&marked, &finished), SOURCE);
    assert_eq!(rule(&finished, &marked), TARGET);
}

#[test]
fn a_target_that_finished_unheard_and_became_primary_is_the_source() {
    let mut finished = up(12, 0, &[10]);
    finished.role = Role::Primary;
    let marked = with_dirty(up(12, 10, &[]), 3);
    assert_eq!(rule(&finished, &marked), SOURCE);
}

#[test]
fn of_equal_generations_the_one_that_kept_its_power_counts_even_if_it_is_called_behind() {
    let mut kept = greeting(12, 0, &[10], DiskState::Outdated);
    kept.volumes[0].kept_power = true;
    let mut lost = with_dirty(greeting(12, 0, &[10], DiskState::Consistent), 3);
    assert_eq!(rule(&kept, &lost), SOURCE, "B7");
    lost.volumes[0].kept_power = true;
    assert_eq!(rule(&kept, &lost), TARGET, "S6");
}

#[test]
fn equal_generations_with_nothing_marked_need_no_copying() {
    let one = up(12, 0, &[10]);
    assert_eq!(rule(&one, &one.clone()), Verdict::NoSync);
}

#[test]
fn equal_generations_with_something_marked_are_never_taken_as_equal() {
    let clean = up(12, 0, &[10]);
    let marked = with_dirty(clean.clone(), 1);
    assert_ne!(rule(&clean, &marked), Verdict::NoSync);
    assert_ne!(rule(&marked, &marked.clone()), Verdict::NoSync);
}

#[test]
fn the_present_primary_beats_a_crashed_one() {
    let mut primary = up(12, 0, &[10]);
    primary.role = Role::Primary;
    let mut crashed = with_dirty(greeting(12, 0, &[10], DiskState::Consistent), 9);
    crashed.volumes[0].crashed_primary = true;
    assert_eq!(rule(&primary, &crashed), SOURCE);
    assert_eq!(rule(&crashed, &primary), TARGET);
}

#[test]
fn two_present_primaries_are_refused() {
    let mut primary = up(12, 0, &[10]);
    primary.role = Role::Primary;
    let refused = Verdict::Refuse(Conflict::TwoPrimaries);
    assert_eq!(rule(&primary, &primary.clone()), refused);
}

#[test]
fn a_crashed_primary_is_the_source_if_the_other_was_interrupted_too() {
    let other = greeting(12, 0, &[10], DiskState::Consistent);
    let mut crashed = with_dirty(other.clone(), 9);
    crashed.volumes[0].crashed_primary = true;
    assert_eq!(rule(&crashed, &other), SOURCE);
    assert_eq!(rule(&other, &crashed), TARGET);
}

#[test]
fn of_two_crashed_primaries_the_lower_number_is_the_source() {
    let mut crashed = with_dirty(greeting(12, 0, &[10], DiskState::Consistent), 9);
    crashed.volumes[0].crashed_primary = true;
    assert_eq!(rule(&crashed, &crashed.clone()), SOURCE);
}

#[test]
fn a_node_whose_generation_the_other_counts_from_gets_what_is_marked() {
    let behind = up(10, 0, &[]);
    let ahead = with_dirty(up(12, 10, &[10]), 3);
    assert_eq!(rule(&behind, &ahead), TARGET);
    assert_eq!(rule(&ahead, &behind), SOURCE);
}

#[test]
fn a_node_whose_generation_is_only_remembered_gets_everything() {
    let long_behind = up(9, 0, &[]);
    let ahead = with_dirty(up(12, 10, &[10, 9]), 3);
    assert_eq!(rule(&long_behind, &ahead), FULL_TARGET);
    assert_eq!(rule(&ahead, &long_behind), FULL_SOURCE);
}

#[test]
fn a_node_behind_by_less_than_the_bitmap_counts_gets_what_is_marked() {
    // The bitmap counts from 9, and 10 came after it.
    let behind = up(10, 0, &[9]);
    let ahead = with_dirty(up(12, 9, &[10, 9]), 3);
    assert_eq!(rule(&behind, &ahead), TARGET);
    assert_eq!(rule(&ahead, &behind), SOURCE);
}

#[test]
fn changes_on_both_sides_since_the_same_generation_are_a_split_brain() {
    let (one, other) = (up(12, 10, &[10]), up(13, 10, &[10]));
    let refused = Verdict::Refuse(Conflict::SplitBrain);
    assert_eq!(rule(&one, &other), refused);
}

#[test]
fn changes_on_both_sides_since_some_older_generation_are_a_split_brain() {
    let (one, other) = (up(12, 11, &[11, 9]), up(13, 10, &[10, 9]));
    let refused = Verdict::Refuse(Conflict::SplitBrain);
    assert_eq!(rule(&one, &other), refused);
}

#[test]
fn two_nodes_that_each_remember_the_other_s_generation_are_a_split_brain() {
    let (one, other) = (up(12, 0, &[13]), up(13, 0, &[12]));
    let refused = Verdict::Refuse(Conflict::SplitBrain);
    assert_eq!(rule(&one, &other), refused);
}

#[test]
fn a_half_copied_disk_takes_everything_whatever_it_had_of_its_own() {
    let torn = greeting(13, 11, &[11, 9], DiskState::Inconsistent);
    let whole = up(12, 10, &[10, 9]);
    assert_eq!(rule(&torn, &whole), FULL_TARGET);
    assert_eq!(rule(&whole, &torn), FULL_SOURCE);
}

#[test]
fn two_half_copied_disks_have_no_source() {
    let one = greeting(13, 11, &[11, 9], DiskState::Inconsistent);
    let other = greeting(12, 10, &[10, 9], DiskState::Inconsistent);
    let refused = Verdict::Refuse(Conflict::SourceIsInconsistent);
    assert_eq!(rule(&one, &other), refused);
}

#[test]
fn a_half_copied_disk_is_no_source_even_if_its_generation_is_newer() {
    let behind = up(10, 0, &[]);
    let torn = greeting(12, 10, &[10], DiskState::Inconsistent);
    let refused = Verdict::Refuse(Conflict::SourceIsInconsistent);
    assert_eq!(rule(&torn, &behind), refused);
}

#[test]
fn no_generation_in_common_is_unrelated() {
    let refused = Verdict::Refuse(Conflict::Unrelated);
    assert_eq!(rule(&up(12, 11, &[11]), &up(22, 21, &[21])), refused);
}

#[test]
fn a_primary_is_not_overwritten_by_newer_data() {
    let mut behind = up(10, 0, &[]);
    behind.role = Role::Primary;
    let ahead = with_dirty(up(12, 10, &[10]), 3);
    let refused = Verdict::Refuse(Conflict::PrimaryWouldBeTarget);
    assert_eq!(rule(&behind, &ahead), refused);
}

#[test]
fn a_node_without_a_disk_is_neither_source_nor_target() {
    let diskless = greeting(0, 0, &[], DiskState::Diskless);
    assert_eq!(rule(&diskless, &up(12, 0, &[10])), Verdict::NoDisk);
}

/// A Primary that is served by its peer and has been given this disk.
fn filled(mut hello: Hello, disk: DiskState) -> Hello {
    hello.role = Role::Primary;
    hello.volumes[0].disk = disk;
    hello
}

#[test]
fn the_disk_of_a_served_primary_is_filled_from_its_peer() {
    for disk in [DiskState::Outdated, DiskState::Inconsistent] {
        let fresh = filled(greeting(FRESH, 0, &[], disk), disk);
        assert_eq!(rule(&fresh, &up(10, 0, &[])), FULL_TARGET);
        // The disk that was lost, and what has been written since by the peer.
        let lost = filled(up(10, 0, &[]), disk);
        assert_eq!(rule(&lost, &up(11, 10, &[])), TARGET);
        // Nothing has been written since: whoever has marks, the peer's data is what clients see.
        for (ours, theirs) in [(0, 0), (3, 0), (0, 3), (3, 3)] {
            let lost = with_dirty(filled(up(10, 0, &[]), disk), ours);
            assert_eq!(rule(&lost, &with_dirty(up(10, 0, &[]), theirs)), TARGET);
        }
    }
}

#[test]
fn a_disk_with_data_of_its_own_is_not_filled_and_costs_no_connection() {
    let changed = filled(up(12, 10, &[]), DiskState::Outdated);
    let unrelated = filled(up(20, 0, &[]), DiskState::Outdated);
    let newer = filled(up(11, 10, &[]), DiskState::Outdated);
    for disk in [&changed, &unrelated, &newer] {
        let server = match disk.volumes[0].current.0 {
            11 => up(10, 0, &[]),
            _ => up(13, 10, &[]),
        };
        assert_eq!(rule(disk, &server), Verdict::NoDisk);
    }
    // Unless a resync had already begun to overwrite it.
    let torn = filled(up(12, 10, &[]), DiskState::Inconsistent);
    assert_eq!(rule(&torn, &up(13, 10, &[])), FULL_TARGET);
}

#[test]
fn a_peer_without_complete_data_fills_nothing() {
    let lost = filled(up(10, 0, &[]), DiskState::Outdated);
    for disk in [DiskState::Outdated, DiskState::Inconsistent] {
        let server = greeting(11, 10, &[], disk);
        assert_eq!(rule(&lost, &server), Verdict::NoDisk);
    }
}
