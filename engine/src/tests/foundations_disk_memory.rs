//! What a disk remembers, of its peers and of itself, and how much room it gives.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::WriteCache;
use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::metadata::{
    BlockAddress, Image, Layout, NodeName, PeerBitmap, PeerSlot, Placement, Superblock,
    decode_bitmap_block, required_external_bytes,
};
use rbd_protocol::state::DiskState;

use super::fixtures::image_of;
use super::foundations_local_disk::{
    BOOT, Written, attach, attach_in, log_only, start, superblock_only, take_up, try_attach,
};
use super::{GENERATION, PEER, SIZE, VOLUME, image};
use crate::context::Context;
use crate::contract::Time;
use crate::local_disk::{AttachError, Growth, LocalDisk, RelocationStep};
use crate::random::Random;
use crate::{Action, DiskMeasure};

const OTHER: NodeId = NodeId(9);
const THIRD: NodeId = NodeId(11);

/// Longer than what metadata has room for.
const NAME_TOO_LONG: usize = 64;

/// A disk with room for two peers that has met this one.
fn with_room_for_two(first: NodeId) -> Image {
    let mut found = image();
    let placement = Placement::External {
        offset: 0,
        available: required_external_bytes(SIZE, 2),
    };
    found.layout = Layout::new(SIZE, placement, 2, None).expect("there is room");
    found.superblock.max_peers = 2;
    found.superblock.peers[0].node_id = Some(first);
    found.peers.push(PeerBitmap::Everything);
    found
}

#[test]
fn a_peer_the_disk_has_never_met_gets_a_free_slot_and_lacks_everything() {
    let peers = [(PEER, "beta"), (OTHER, "gamma")];
    let mut found = with_room_for_two(PEER);
    found.superblock.peers[1].bitmap_generation = GENERATION;
    found.superblock.peers[1].flags.full_sync = false;
    let layout = found.layout;
    let (mut local, bitmaps) = try_attach(found.clone(), &peers, BOOT).unwrap();
    assert!(bitmaps[&PEER].is_clean());
    assert_eq!(bitmaps[&OTHER].count(), SIZE / 4096);
    assert!(local.is_full_sync(OTHER) && !local.is_full_sync(PEER));
    assert!(local.bitmap_generation(OTHER).is_none());
    let superblock = take_up(&mut local, &layout);
    assert_eq!(superblock.peers[1].node_id, Some(OTHER));
    assert_eq!(superblock.peers[1].name, NodeName::new("gamma").unwrap());
    assert_eq!(superblock.peers[0], found.superblock.peers[0]);
    let peers = [(PEER, "beta"), (OTHER, "gamma"), (THIRD, "delta")];
    let refused = try_attach(found, &peers, BOOT);
    assert_eq!(refused.err(), Some(AttachError::NoPeerSlot));
}

#[test]
fn a_peer_whose_name_does_not_fit_is_refused() {
    let name = "x".repeat(NAME_TOO_LONG);
    let refused = try_attach(with_room_for_two(PEER), &[(OTHER, &name)], BOOT);
    assert_eq!(refused.err(), Some(AttachError::PeerName));
}

#[test]
fn what_is_noted_of_a_peer_goes_to_its_own_slot_and_nowhere_else() {
    let found = with_room_for_two(OTHER);
    let peers = [(OTHER, "gamma"), (PEER, "beta")];
    let (mut local, _) = try_attach(found.clone(), &peers, BOOT).unwrap();
    take_up(&mut local, &found.layout);
    for node in [PEER, THIRD] {
        local.note_fenced(node, true);
        local.note_peer_outdated(node, true);
        local.note_may_have_current(node, true);
        local.set_bitmap_generation(node, GENERATION);
        local.set_full_sync(node, false);
        local.note_counting(node, true, 5);
    }
    assert_eq!(local.counting(PEER), (true, 5));
    assert_eq!(local.counting(OTHER), (false, 0));
    assert_eq!(local.counting(THIRD), (false, 0));
    let superblock = superblock_only(&mut local, &found.layout);
    assert_eq!(superblock.peers[0], found.superblock.peers[0]);
    let PeerSlot {
        bitmap_generation,
        counted_since,
        flags,
        ..
    } = superblock.peers[1];
    assert_eq!((bitmap_generation, counted_since), (GENERATION, 5));
    assert!(flags.fenced && flags.peer_outdated && flags.may_have_current);
    assert!(flags.was_primary && !flags.full_sync);
    let version = local.version();
    local.note_fenced(PEER, true);
    assert_eq!(local.version(), version, "nothing is new");
}

#[test]
fn pages_of_the_bitmap_go_to_the_slot_of_their_peer_in_order() {
    let found = with_room_for_two(OTHER);
    let peers = [(OTHER, "gamma"), (PEER, "beta")];
    let (mut local, _) = try_attach(found.clone(), &peers, BOOT).unwrap();
    let mut cx: Context<u32> = Context::new(Random::new(1), 0);
    local.save_page(VOLUME, PEER, 0, &[5; 504], &mut cx);
    local.save_page(VOLUME, PEER, 0, &[6; 504], &mut cx);
    local.save_page(VOLUME, THIRD, 0, &[7; 504], &mut cx);
    let mut pages = Vec::new();
    for action in cx.out {
        let Action::Meta { offset, block, .. } = action else {
            panic!("only metadata is written");
        };
        let (peer_slot, page) = (1, 0);
        let place = BlockAddress::Bitmap {
            peer_slot,
            block: page,
        };
        assert_eq!(offset, found.layout.offset(place));
        let identity = found.superblock.identity();
        let read = decode_bitmap_block(&block[..], identity, peer_slot, page).unwrap();
        pages.push((read.0, read.1[0]));
    }
    let next = found.bitmap_sequence + 1;
    assert_eq!(pages, [(next, 5), (next + 1, 6)]);
}

#[test]
fn what_a_disk_may_have_lost_is_told_from_its_boot_and_from_how_it_was_let_go() {
    // The boot on the disk, let go in order, the boot it is attached in: kept power, lost nothing,
    // reads true, the boot it remembers.
    let cases = [
        ((0, false, 7), (false, false, false, 0)),
        ((0, true, 7), (false, false, false, 0)),
        ((0, true, 0), (false, false, false, 0)),
        ((7, false, 7), (true, true, false, 7)),
        ((7, true, 7), (true, true, true, 7)),
        ((8, false, 7), (false, false, true, 0)),
        ((8, true, 7), (false, true, true, 8)),
        // Nobody knows the boot: nothing but an orderly end is to be trusted.
        ((8, false, 0), (false, false, false, 0)),
        ((8, true, 0), (false, true, true, 8)),
    ];
    for (case, expected) in cases {
        let (on_disk, in_order, boot) = case;
        let mut found = image();
        found.superblock.boot_id = on_disk;
        found.superblock.flags.clean_shutdown = in_order;
        let layout = found.layout;
        let mut local = attach_in(found, boot);
        let told = (local.kept_power(), local.holds_what_it_had());
        let reads_true = local.reads_true();
        let superblock = take_up(&mut local, &layout);
        assert!(!superblock.flags.clean_shutdown, "it is in use");
        let found = (told.0, told.1, reads_true, superblock.boot_id);
        assert_eq!(found, expected, "{case:?}");
    }
}

#[test]
fn a_lost_cache_counts_until_the_disk_is_in_sync_again() {
    let mut found = image();
    found.superblock.boot_id = BOOT;
    found.superblock.flags.clean_shutdown = true;
    let layout = found.layout;
    let mut local = attach(found);
    take_up(&mut local, &layout);
    local.note_lost_cache();
    assert!(!local.kept_power() && !local.holds_what_it_had() && !local.reads_true());
    assert_eq!(superblock_only(&mut local, &layout).boot_id, 0);
    local.superblock_written(local.version());
    local.note_boot();
    assert!(local.kept_power() && local.holds_what_it_had() && local.reads_true());
    assert_eq!(superblock_only(&mut local, &layout).boot_id, BOOT);
}

#[test]
fn alone_a_disk_is_what_it_is_durably_known_to_be() {
    let state = |change: &dyn Fn(&mut Superblock)| {
        let mut found = image();
        found.superblock.peers[0].bitmap_generation = GenerationId(0x999);
        change(&mut found.superblock);
        attach(found).state_alone()
    };
    assert_eq!(state(&|_| {}), DiskState::UpToDate);
    let peer = |change: fn(&mut PeerSlot)| {
        state(&move |superblock: &mut Superblock| change(&mut superblock.peers[0]))
    };
    let may_be_ahead = peer(|peer| peer.flags.may_have_current = true);
    assert_eq!(may_be_ahead, DiskState::Consistent);
    let in_sync = peer(|peer| peer.bitmap_generation = GenerationId::NONE);
    assert_eq!(in_sync, DiskState::Consistent);
    let flags = |change: fn(&mut Superblock)| state(&change);
    let was_not = flags(|superblock| superblock.flags.was_up_to_date = false);
    assert_eq!(was_not, DiskState::Consistent);
    let outdated = flags(|superblock| superblock.flags.outdated = true);
    assert_eq!(outdated, DiskState::Outdated);
    let half = flags(|superblock| {
        superblock.flags.outdated = true;
        superblock.flags.consistent = false;
    });
    assert_eq!(half, DiskState::Inconsistent);
    let fresh = flags(|superblock| superblock.generation = GenerationId::JUST_CREATED);
    assert_eq!(fresh, DiskState::Inconsistent);
}

#[test]
fn a_disk_without_any_peer_is_up_to_date_alone() {
    let mut found = image();
    found.superblock.peers[0] = PeerSlot::default();
    let (local, bitmaps) = try_attach(found, &[], BOOT).unwrap();
    assert!(bitmaps.is_empty());
    assert_eq!(local.state_alone(), DiskState::UpToDate);
}

#[test]
fn a_generation_becomes_history_once_and_only_if_it_named_data() {
    let generation = |number| GenerationId(number);
    let mut found = image();
    found.superblock.generation = GenerationId::JUST_CREATED;
    let mut local = attach(found);
    for number in [0x10, 0x20, 0x20, 0x10, 0x20] {
        local.begin_generation(generation(number));
    }
    assert_eq!(local.current(), generation(0x20));
    assert_eq!(local.history(), [0x20, 0x10].map(generation));
    local.set_bitmap_generation(PEER, generation(0x30));
    local.forget_bitmap_generation(PEER);
    assert!(local.bitmap_generation(PEER).is_none());
    assert_eq!(local.history(), [0x30, 0x20, 0x10].map(generation));
}

#[test]
fn an_empty_bitmap_generation_pushes_nothing_out_of_a_full_history() {
    let mut local = attach(image());
    for number in 1..=32 {
        local.begin_generation(GenerationId(0x2000 + number));
    }
    let history = local.history();
    assert_eq!((history.len(), history.last()), (32, Some(&GENERATION)));
    local.forget_bitmap_generation(PEER);
    assert_eq!(local.history(), history);
}

/// An external area with room for 300 GiB.
fn roomy(size: u64) -> Image {
    let (most, mut found) = (300 << 30, image_of(size));
    let placement = Placement::External {
        offset: 0,
        available: required_external_bytes(most, 1),
    };
    found.layout = Layout::with_data(most, placement, 1, size).expect("there is room");
    found.superblock.device_bytes = most;
    found.intent_sequences = vec![1; usize::try_from(found.layout.intent_blocks()).unwrap()];
    found
}

#[test]
fn the_log_of_what_a_volume_grows_by_is_in_both_slots_before_the_size_counts() {
    let found = roomy(SIZE);
    let mut local = attach(found.clone());
    take_up(&mut local, &found.layout);
    let (grown, most) = (roomy(300 << 30).layout, 300 << 30);
    assert_eq!(local.resize(most, Time(1)), Ok(SIZE));
    assert_eq!(local.size_bytes(), most);
    for _ in 0..2 {
        assert!(!local.is_settled());
        assert_eq!(log_only(&mut local, &grown).0, [0, 1, 2]);
        for block in 0..3 {
            local.intent_written(block);
        }
    }
    let superblock = superblock_only(&mut local, &grown);
    assert_eq!(superblock.data_bytes, most);
}

#[test]
fn a_disk_that_shrinks_before_it_is_used_waits_for_no_block_it_no_longer_has() {
    let mut found = roomy(300 << 30);
    found.superblock.generation = GenerationId::JUST_CREATED;
    let mut local = attach(found);
    let small = roomy(SIZE).layout;
    assert_eq!(local.resize(SIZE, Time(1)), Ok(300 << 30));
    while let [0] = log_only_or_end(&mut local, &small)[..] {
        local.intent_written(0);
    }
    local.superblock_written(local.version());
    assert!(local.is_settled());
}

/// The blocks of the log that are started now; none when it is the superblock's turn.
fn log_only_or_end(local: &mut LocalDisk, layout: &Layout) -> Vec<u32> {
    let written = start(local, layout);
    if let [Written::Superblock(superblock)] = &written[..] {
        assert_eq!(superblock.data_bytes, layout.data_bytes());
        return Vec::new();
    }
    let blocks = written.into_iter().map(|one| match one {
        Written::Intent { block, .. } => block,
        Written::Superblock(_) => panic!("not together with the log"),
    });
    blocks.collect()
}

/// A disk with its metadata at the end, which lies right behind the data.
fn internal(size: u64) -> Image {
    let mut found = image_of(size);
    let device = size + found.layout.metadata_bytes();
    found.layout = Layout::with_data(device, Placement::Internal, 1, size).expect("there is room");
    found.superblock.device_bytes = device;
    found.superblock.metadata_offset = None;
    found
}

#[test]
fn a_disk_gives_room_when_its_metadata_has_room_to_move_behind_its_former_end() {
    let found = internal(SIZE);
    let device = found.layout.device_bytes();
    let metadata = found.layout.metadata_bytes();
    let mut local = attach(found);
    let measure = |device_bytes| DiskMeasure {
        device_bytes,
        placement: Placement::Internal,
    };
    let missing = |local: &LocalDisk, more| local.missing_to_move(measure(device + more));
    assert_eq!(missing(&local, 0), None, "it lies where it should");
    assert_eq!(missing(&local, 4096), Some(metadata - 4096));
    assert_eq!(missing(&local, metadata), Some(0));
    assert_eq!(missing(&local, metadata - 1), Some(4096), "whole blocks");
    assert_eq!(missing(&local, 2 * metadata), Some(0));
    local.note_measure(measure(device + metadata - 4096));
    assert!(!local.must_relocate());
    assert_eq!(local.capacity_bytes(None), SIZE, "not without it");
    local.note_measure(measure(device + metadata));
    assert!(local.must_relocate());
    assert_eq!(local.capacity_bytes(None), SIZE + metadata);
    assert_eq!(local.capacity_bytes(Some(4096)), SIZE, "nothing is cut off");
    local.note_measure(measure(device - 4096));
    assert!(
        local.must_relocate(),
        "a disk that is cut off is not measured"
    );
    local.note_measure(measure(device));
    assert!(!local.must_relocate());
    assert_eq!(local.capacity_bytes(None), SIZE);
}

#[test]
fn metadata_elsewhere_never_has_to_move() {
    let found = image();
    let mut local = attach(found.clone());
    let larger = DiskMeasure {
        device_bytes: 2 * SIZE,
        placement: found.layout.placement(),
    };
    local.note_measure(larger);
    assert_eq!(local.missing_to_move(larger), None);
    assert!(!local.must_relocate() && local.knows_left_behind());
    let smaller = DiskMeasure {
        device_bytes: SIZE / 2,
        placement: larger.placement,
    };
    local.note_measure(smaller);
    assert_eq!(local.capacity_bytes(None), SIZE, "it does not shrink");
}

#[test]
fn a_disk_says_what_it_was_attached_as() {
    let local = attach(image());
    assert_eq!(local.block_bytes(), 512);
    assert_eq!(local.write_cache(), WriteCache::Volatile);
    assert_eq!(local.max_peers(), 1);
    assert_eq!(local.size_bytes(), SIZE);
    assert!(!local.crashed_primary() && !local.is_fresh());
    let mut found = image();
    found.superblock.flags.primary = true;
    let mut local = attach(found);
    assert!(local.crashed_primary());
    local.note_interruption_settled(false);
    assert!(!local.crashed_primary());
}

/// The same disk, grown, with its metadata about to be moved.
fn moving() -> (LocalDisk, Layout, u64) {
    let found = internal(SIZE);
    let (layout, device_bytes) = (found.layout, 2 * SIZE);
    let mut local = attach(found);
    take_up(&mut local, &layout);
    local.note_measure(DiskMeasure {
        device_bytes,
        placement: Placement::Internal,
    });
    let bytes = local.capacity_bytes(None);
    let growth = Growth { bytes, dirty: true };
    assert_eq!(local.begin_relocation(growth), Ok(()));
    (local, layout, bytes)
}

#[test]
fn a_disk_given_up_while_its_metadata_moves_is_still_told_that_it_is_behind() {
    for commits in [false, true] {
        let (mut local, layout, _) = moving();
        if commits {
            let mut cx: Context<u32> = Context::new(Random::new(1), 0);
            local.relocate_superblocks((VOLUME, &[PEER]), &mut cx);
        } else {
            local.step_relocation(RelocationStep::Marks);
        }
        local.record_disk_state(DiskState::Outdated);
        assert!(
            start(&mut local, &layout).is_empty(),
            "it waits for the move"
        );
        local.abandon_relocation();
        assert!(superblock_only(&mut local, &layout).flags.outdated);
    }
}

#[test]
fn where_metadata_has_lain_is_told_once_as_far_as_the_volume_has_grown_over_it() {
    let (mut local, layout, bytes) = moving();
    let mut cx: Context<u32> = Context::new(Random::new(1), 0);
    assert!(!local.knows_left_behind());
    local.leave_former_end(local.version(), VOLUME, &mut cx);
    assert!(local.end_relocation(true).is_some());
    assert!(local.knows_left_behind());
    let (first, second) = (SIZE + 4096, SIZE + 8192);
    assert_eq!(local.take_left_behind(first), Some(SIZE..first));
    assert_eq!(local.take_left_behind(second), Some(first..second));
    let end = layout.device_bytes();
    assert_eq!(local.take_left_behind(end), Some(second..end));
    assert!(!local.knows_left_behind(), "all of it has been told");
    assert_eq!(local.take_left_behind(bytes), None);
}

/// Their bitmaps do not come along: at the new end they would say that nothing is missing.
#[test]
fn peers_that_are_gone_lack_everything_when_metadata_has_moved() {
    let mut found = with_room_for_two(OTHER);
    let device = SIZE + required_external_bytes(SIZE, 2);
    found.layout = Layout::with_data(device, Placement::Internal, 2, SIZE).expect("there is room");
    found.superblock.device_bytes = device;
    found.superblock.metadata_offset = None;
    let layout = found.layout;
    let (mut local, _) = try_attach(found, &[(PEER, "beta")], BOOT).unwrap();
    local.set_full_sync(PEER, false);
    assert_eq!(local.max_peers(), 2);
    take_up(&mut local, &layout);
    assert!(!local.is_full_sync(OTHER));
    local.note_measure(DiskMeasure {
        device_bytes: 2 * SIZE,
        placement: Placement::Internal,
    });
    let growth = Growth {
        bytes: SIZE,
        dirty: true,
    };
    assert_eq!(local.begin_relocation(growth), Ok(()));
    let mut cx: Context<u32> = Context::new(Random::new(1), 0);
    local.relocate_superblocks((VOLUME, &[PEER]), &mut cx);
    let copies = cx.out.iter().filter_map(|action| match action {
        Action::Meta { block, .. } => Superblock::decode(&block[..]).ok(),
        _ => None,
    });
    let full = copies.map(|copy| [0, 1].map(|slot: usize| copy.peers[slot].flags.full_sync));
    assert_eq!(full.collect::<Vec<_>>(), [[true, false]; 2]);
}
