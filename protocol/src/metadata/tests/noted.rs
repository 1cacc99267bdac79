//! What a note of a former size makes of metadata at the end of a device.

use super::moved::{LARGE, find, former, grown};
use super::*;

#[test]
fn what_a_device_had_at_its_former_end_is_found_only_if_that_is_remembered() {
    let mut volume = grown();
    for nothing in [None, former(LARGE), former(SMALL - 4096), former(4096)] {
        assert!(find(&mut volume.device, nothing).is_err());
    }
    let by_hand = Some(FormerEnd {
        device_bytes: SMALL,
        device_id: None,
        moves_to: None,
    });
    for remembered in [former(SMALL), by_hand] {
        let found = find(&mut volume.device, remembered).unwrap();
        assert_eq!(found.image.layout.device_bytes(), SMALL);
        assert_eq!(dirty_bits(&found.image.peers[0]), Some(3));
        assert_eq!((found.again.len(), found.wipe.len()), (0, 0));
    }
    let of_another = Some(FormerEnd {
        device_bytes: SMALL,
        device_id: Some(7),
        moves_to: None,
    });
    assert!(matches!(
        find(&mut volume.device, of_another),
        Err(OpenError::NoMetadata { .. })
    ));
    // By less than a block: it lies where it lay.
    volume.device.bytes = SMALL + 512;
    let found = find(&mut volume.device, former(SMALL)).unwrap();
    assert_eq!(found.wipe.len(), 0);
    // By one: one of the slots is where the other was.
    volume.device.bytes = SMALL + 4096;
    let found = find(&mut volume.device, former(SMALL)).unwrap();
    assert_eq!(found.wipe.len(), 0);
    // It has not shrunk with a larger one remembered.
    volume.device.bytes = SMALL;
    assert!(find(&mut volume.device, former(LARGE)).is_ok());
}

#[test]
fn a_noted_size_without_room_for_metadata_says_nothing() {
    let mut volume = Volume::in_sync(SMALL);
    for noted in [0, 4096, 8191] {
        let moves_to = Some(noted);
        let both = FormerEnd {
            moves_to,
            ..former(noted).unwrap()
        };
        for remembered in [former(noted), Some(both)] {
            let found = find(&mut volume.device, remembered).unwrap();
            assert_eq!(found.image.layout.device_bytes(), SMALL);
        }
    }
}

#[test]
fn what_is_wrong_with_metadata_is_said_rather_than_that_there_is_none_elsewhere() {
    let mut volume = grown();
    for slot in [0, 1] {
        volume.damage(BlockAddress::Superblock { slot }, |block| block[700] ^= 1);
    }
    assert!(matches!(
        find(&mut volume.device, former(SMALL)),
        Err(OpenError::Damaged { .. })
    ));
    let end = LARGE - 4096;
    assert_eq!(
        find(&mut volume.device, None).unwrap_err(),
        OpenError::NoMetadata { offset: end }
    );
}

#[test]
fn superblocks_left_just_behind_the_end_are_wiped() {
    const BEHIND: u64 = SMALL + 2 * 4096;
    let mut volume = grown();
    volume.device.bytes = BEHIND;
    let newest = volume.superblock.sequence;
    for sequence in [newest - 3, newest - 2] {
        let left = Superblock {
            sequence,
            device_bytes: BEHIND,
            ..volume.superblock.clone()
        };
        let slot = u8::from(sequence & 1 == 1);
        let offset = Layout::superblock_offset(BEHIND, Placement::Internal, slot).unwrap();
        let block = left.encode();
        volume.device.write(Write { offset, block });
    }
    let found = find(&mut volume.device, former(SMALL)).unwrap();
    assert_eq!(found.image.layout.device_bytes(), SMALL);
    assert_eq!(found.wipe, wipe(BEHIND, Placement::Internal).unwrap());
}

#[test]
fn two_areas_that_could_both_be_meant_are_refused() {
    let mut volume = grown();
    let layout = Layout::new(LARGE, Placement::Internal, 2, None).unwrap();
    let other = Creation {
        device_id: 0xE0E0,
        ..creation()
    };
    for write in create(&Superblock::new(other, &layout), &layout) {
        volume.device.write(write);
    }
    assert_eq!(
        find(&mut volume.device, former(SMALL)).unwrap_err(),
        OpenError::TwoAreas {
            at_end: 0xE0E0,
            remembered: 0xD0D0,
            former: SMALL
        }
    );
}
