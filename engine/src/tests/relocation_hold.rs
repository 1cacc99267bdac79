//! While the last of the metadata goes to the end of a disk that has grown, nothing else of it is
//! written: at the former end it would not come along, or come after the wipe, and what is at the
//! new end does not count alone before the wipe is over.

use alloc::vec::Vec;

use rbd_protocol::metadata::{BlockAddress, Layout, Placement};

use super::relocation::{
    FORMER, GROWN, LARGE, Medium, before_growth_to, go_on, name_end, note, resize_on, under_way,
    write_all, write_one,
};
use super::{Bench, SIZE};
use crate::{Action, Command, DiskMeasure, DiskRequest, LinkLoss};

#[test]
fn what_changes_meanwhile_is_written_when_the_former_end_is_wiped() {
    let undisturbed = last_writes(usize::MAX);
    assert_eq!(undisturbed.len(), 6, "the log, the superblocks, the wipe");
    for at in 0..undisturbed.len() {
        assert_eq!(last_writes(at), undisturbed, "a change at step {at}");
    }
}

/// Where metadata is being written from the log on, before each of the writes ends, when after so
/// many of them the generation changes and another region is written to.
fn last_writes(disturbed_at: usize) -> Vec<Vec<u64>> {
    let (mut bench, mut medium) = promoted(SIZE, LARGE);
    // Where another write needs no mark, only the generation.
    bench.write(0);
    go_on(&mut bench, &mut medium);
    bench.disk(WRITE, Ok(()));
    bench.asked.clear();
    resize_on(&mut bench, GROWN, false);
    while !is_written(&bench, log_block(SIZE, LARGE, 0)) {
        go_on_a_step(&mut bench, &mut medium);
    }
    let mut steps = Vec::new();
    while !has_asked_for_note(&bench) {
        if steps.len() == disturbed_at {
            bench.link_down(LinkLoss::Closed);
            bench.write(0);
            bench.write(40 << 20);
        }
        let writes = under_way(&bench).into_iter();
        steps.push(writes.map(|(_, offset, _)| offset).collect());
        write_one(&mut bench, &mut medium);
    }
    go_on(&mut bench, &mut medium);
    note(&mut bench, Ok(()));
    go_on(&mut bench, &mut medium);
    let found = medium.find(FORMER).expect("metadata").image;
    assert_eq!(found.layout.device_bytes(), LARGE);
    if disturbed_at != usize::MAX {
        let is_new = found.superblock.generation != super::GENERATION;
        assert!(is_new, "the change is written");
        let marked = |region: u64| found.hot_regions.iter().any(|one| one.contains(&region));
        assert!(marked(0) && marked(10), "{:?}", found.hot_regions);
    }
    steps
}

/// A log of two blocks: as soon as the bitmaps are at the new end, not even the other one is
/// written any more, so that clients cannot put the end off again and again.
#[test]
fn marks_that_are_wanted_at_the_end_come_along() {
    let (size, large) = (130 << 30, 140 << 30);
    let former = size + super::fixtures::image_of(size).layout.metadata_bytes();
    let (mut bench, mut medium) = promoted(size, large);
    let found = DiskMeasure {
        device_bytes: large,
        placement: Placement::Internal,
    };
    resize_on(&mut bench, found, false);
    // One mark is under way when all pages are written.
    bench.write(0);
    let first = under_way(&bench).last().map(|(_, offset, _)| *offset);
    let first = first.filter(|offset| *offset < former).expect("a mark");
    let own = |bench: &Bench| {
        let mut offsets = under_way(bench).into_iter().map(|(_, offset, _)| offset);
        offsets.next() == Some(first)
    };
    while name_end(&mut bench, Ok(())).is_none() {
        skip_first(&mut bench, &mut medium, first);
    }
    while !bench.flush_only() {
        skip_first(&mut bench, &mut medium, first);
    }
    while skip_first(&mut bench, &mut medium, first) {}
    assert!(own(&bench) && under_way(&bench).len() == 1);
    bench.write(129 << 30);
    assert_eq!(under_way(&bench).len(), 1, "the other block waits");
    write_one(&mut bench, &mut medium);
    let offsets: Vec<u64> = under_way(&bench).iter().map(|one| one.1).collect();
    assert!(offsets.iter().all(|offset| *offset > former), "{offsets:?}");
    assert_eq!(offsets.len(), 4, "both slots of both blocks");
    assert_eq!(bench.on_disk(WRITE), 1, "what was marked in time goes on");
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.on_disk(WRITE), 2);
    let found = medium.find(former).expect("metadata").image;
    assert_eq!(found.layout.device_bytes(), large);
    let marked = |region: u64| found.hot_regions.iter().any(|one| one.contains(&region));
    assert!(marked(0) && marked(129 << 8), "{:?}", found.hot_regions);
}

/// A page is at the new end already when one of its blocks becomes dirty. However long the move
/// takes, the mark that says so stays, because the bitmap is not written there again.
#[test]
fn no_mark_leaves_while_metadata_moves() {
    let (mut bench, mut medium) = promoted(SIZE, LARGE);
    resize_on(&mut bench, GROWN, false);
    let new = Layout::with_data(LARGE, Placement::Internal, 1, SIZE).expect("there is room");
    let page = new.offset(BlockAddress::Bitmap {
        peer_slot: 0,
        block: 0,
    });
    while !is_written(&bench, page) {
        go_on_a_step(&mut bench, &mut medium);
    }
    bench.link_down(LinkLoss::Closed);
    bench.write(0);
    while skip_first(&mut bench, &mut medium, page) {}
    assert!(bench.disk(WRITE, Ok(())), "the write has its mark");
    for _ in 0..5 {
        bench.wait_ms(40_000);
        bench.flush_only();
        while skip_first(&mut bench, &mut medium, page) {}
    }
    assert!(is_written(&bench, page));
    go_on(&mut bench, &mut medium);
    let found = medium.find(FORMER).expect("metadata").image;
    assert_eq!(found.layout.device_bytes(), LARGE);
    assert!(!found.hot_regions.is_empty(), "nothing else says it");
}

/// Ends the oldest metadata write but this one.
fn skip_first(bench: &mut Bench, medium: &mut Medium, first: u64) -> bool {
    let at = bench
        .asked
        .iter()
        .position(|action| matches!(action, Action::Meta { offset, .. } if *offset == first));
    let Some(at) = at else { return false };
    let kept = bench.asked.remove(at);
    let found = write_one(bench, medium).is_some();
    bench.asked.insert(0, kept);
    found
}

/// A Primary whose disk is about to grow.
fn promoted(size: u64, device_bytes: u64) -> (Bench, Medium) {
    let (mut bench, mut medium) = before_growth_to(size, device_bytes);
    bench.command(Command::Promote { force: false });
    bench.consent();
    write_all(&mut bench, &mut medium);
    bench.asked.clear();
    (bench, medium)
}

fn go_on_a_step(bench: &mut Bench, medium: &mut Medium) {
    let goes_on = bench.flush_only() || write_one(bench, medium).is_some();
    assert!(goes_on, "it stands still");
}

fn is_written(bench: &Bench, at: u64) -> bool {
    under_way(bench).iter().any(|(_, offset, _)| *offset == at)
}

fn has_asked_for_note(bench: &Bench) -> bool {
    let mut notes = bench.asked.iter().filter_map(|action| match action {
        Action::NoteSize { end, .. } => Some(end.moves_to),
        _ => None,
    });
    notes.any(|goes_to| goes_to.is_none())
}

/// Where this block of the log is on a disk of that size.
fn log_block(size: u64, device_bytes: u64, block: u32) -> u64 {
    let layout = Layout::with_data(device_bytes, Placement::Internal, 1, size);
    let layout = layout.expect("there is room");
    layout.offset(BlockAddress::Intent { block, slot: 0 })
}

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
