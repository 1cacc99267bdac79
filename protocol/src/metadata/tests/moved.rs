//! A device with metadata at its end that has grown, and the metadata moved or half moved.

use super::*;
use crate::metadata::open::{FormerEnd, Located, open_internal};

pub(super) const LARGE: u64 = 2 * SMALL;

pub(super) fn former(device_bytes: u64) -> Option<FormerEnd> {
    Some(FormerEnd {
        device_bytes,
        device_id: Some(0xD0D0),
        moves_to: None,
    })
}

/// The device has grown; its metadata lies where it was.
pub(super) fn grown() -> Volume {
    let mut volume = Volume::in_sync(SMALL);
    volume.write_bitmap(0, 0, &page(&[1, 2, 3]), 5);
    volume.device.bytes = LARGE;
    volume
}

pub(super) fn find(
    device: &mut Device,
    remembered: Option<FormerEnd>,
) -> Result<Located, OpenError> {
    let inputs = inputs(device.bytes, Placement::Internal);
    open_internal(
        &mut |offset, buffer| device.read(offset, buffer),
        &inputs,
        remembered,
    )
}

/// What a move writes: everything at the new end, both superblocks last.
fn at_new_end(volume: &Volume) -> Vec<Write> {
    let old = &volume.layout;
    let new = Layout::with_data(LARGE, Placement::Internal, 2, old.data_bytes()).unwrap();
    let mut writes = Vec::new();
    for number in 2..old.block_count() {
        let block = volume.device.block(old.run(number, 1).0);
        let offset = new.run(number, 1).0;
        writes.push(Write { offset, block });
    }
    let newest = volume.superblock.sequence;
    for sequence in [newest - 1, newest] {
        let copy = Superblock {
            sequence,
            device_bytes: LARGE,
            ..volume.superblock.clone()
        };
        let (offset, block) = (new.offset(copy.address()), copy.encode());
        writes.push(Write { offset, block });
    }
    writes
}

fn former_wipe() -> [Write; 2] {
    wipe(SMALL, Placement::Internal).unwrap()
}

fn tidy(device: &mut Device, found: &Located) {
    for write in found.again.iter().chain(&found.wipe) {
        device.write(write.clone());
    }
}

/// Every crash in a move, with every choice of what of the last step has reached the medium, finds
/// one whole and true copy, and nothing of the other when it has been tidied up.
#[test]
fn every_crash_in_a_move_finds_one_metadata_that_is_true() {
    let volume = grown();
    let writes = at_new_end(&volume);
    let (area, superblocks) = writes.split_at(writes.len() - 2);
    let cleared = wipe(LARGE, Placement::Internal).unwrap();
    let steps: [&[Write]; 4] = [&cleared, area, superblocks, &former_wipe()];
    let garbage: [u8; 2] = [0x00, 0xE5];
    let mut places = [0_u32; 2];
    for filler in garbage {
        let mut device = volume.device.clone();
        for at in (SMALL..LARGE).step_by(4096) {
            device.blocks.insert(at, Box::new([filler; BLOCK_BYTES]));
        }
        for step in steps {
            assert!(step.len() <= 12, "every choice of {} writes", step.len());
            for choice in 0..1_u32 << step.len() {
                let mut after = device.clone();
                for (index, write) in step.iter().enumerate() {
                    if choice & 1 << index != 0 {
                        after.write(write.clone());
                    }
                }
                let place = assert_one_counts(&mut after);
                places[usize::from(place == LARGE)] += 1;
            }
            for write in step {
                device.write(write.clone());
            }
        }
    }
    assert!(places.iter().all(|count| *count > 0), "{places:?}");
}

/// Where the metadata was found.
fn assert_one_counts(device: &mut Device) -> u64 {
    let found = find(device, former(SMALL)).expect("one of the two counts");
    assert_eq!(dirty_bits(&found.image.peers[0]), Some(3));
    assert_eq!(dirty_bits(&found.image.peers[1]), Some(0));
    assert_eq!(found.image.damage, []);
    assert_eq!(found.image.superblock.generation, GenerationId(0xA2));
    let place = found.image.layout.device_bytes();
    tidy(device, &found);
    let again = find(device, former(SMALL)).expect("it still does");
    assert_eq!(again.image.layout.device_bytes(), place);
    assert_eq!(again.wipe.len(), 0, "nothing is left to be wiped");
    if place == LARGE {
        device.bytes = SMALL;
        assert!(find(device, None).is_err(), "a device that shrinks again");
    } else {
        assert!(find(device, None).is_err(), "one whose size is forgotten");
    }
    place
}

#[test]
fn a_torn_superblock_at_the_new_end_is_as_good_as_what_it_proves() {
    let volume = grown();
    let writes = at_new_end(&volume);
    for torn in [writes.len() - 2, writes.len() - 1] {
        for sectors in 1..8 {
            let mut device = volume.device.clone();
            for (index, write) in writes.iter().enumerate() {
                let mut write = write.clone();
                if index == torn {
                    write.block[sectors * 512..].fill(0);
                }
                device.write(write);
            }
            let found = find(&mut device, former(SMALL)).unwrap();
            // The older one proves that the other, which is whole, is the newest.
            let is_newest = torn == writes.len() - 1;
            let (counts, goes) = if is_newest {
                (SMALL, LARGE)
            } else {
                (LARGE, SMALL)
            };
            assert_eq!(found.image.layout.device_bytes(), counts);
            assert_eq!(found.wipe, wipe(goes, Placement::Internal).unwrap());
        }
    }
}

/// The end was complete, but the device had another size when it was looked at: the former end was
/// used on.
#[test]
fn an_end_that_was_overtaken_does_not_count() {
    let mut volume = grown();
    for write in at_new_end(&volume) {
        volume.device.write(write);
    }
    volume.write_superblock();
    let mut device = volume.device.clone();
    let found = find(&mut device, former(SMALL)).unwrap();
    assert_eq!(found.image.layout.device_bytes(), SMALL);
    assert_eq!(found.wipe, wipe(LARGE, Placement::Internal).unwrap());
    // And not either when one of the newer ones is damaged, and no matter which.
    volume.write_superblock();
    for slot in [0, 1] {
        let mut device = volume.device.clone();
        let at = volume.offset(BlockAddress::Superblock { slot });
        let mut block = device.block(at);
        block[8..].fill(0xee);
        device.write(Write { offset: at, block });
        let found = find(&mut device, former(SMALL));
        let place = found.map(|found| found.image.layout.device_bytes());
        assert!(
            matches!(place, Ok(SMALL) | Err(_)),
            "slot {slot}: {place:?}"
        );
    }
}

/// The end is complete, and of the wipe of the former end only a part has been written.
#[test]
fn a_wipe_that_was_cut_short_is_done_again() {
    let mut volume = grown();
    for write in at_new_end(&volume) {
        volume.device.write(write);
    }
    for torn in former_wipe() {
        for sectors in 1..8 {
            let mut device = volume.device.clone();
            let mut block = device.block(torn.offset);
            block[..sectors * 512].copy_from_slice(&torn.block[..sectors * 512]);
            let offset = torn.offset;
            device.write(Write { offset, block });
            let found = find(&mut device, former(SMALL)).unwrap();
            assert_eq!(found.image.layout.device_bytes(), LARGE);
            assert_eq!(found.wipe, former_wipe(), "{offset}, {sectors}");
        }
    }
}

#[test]
fn what_counts_is_written_once_more_before_the_other_goes() {
    let volume = grown();
    let mut device = volume.device.clone();
    let writes = at_new_end(&volume);
    for write in &writes {
        device.write(write.clone());
    }
    let found = find(&mut device, former(SMALL)).unwrap();
    assert_eq!(found.image.layout.device_bytes(), LARGE);
    let mut again = found.again;
    again.sort_by_key(|write| core::cmp::Reverse(write.offset));
    let mut superblocks = writes[writes.len() - 2..].to_vec();
    superblocks.sort_by_key(|write| core::cmp::Reverse(write.offset));
    assert_eq!(again, superblocks);
    assert_eq!(found.wipe, former_wipe());
}

/// The device has a third size when it is looked at, once or after an open that was cut short, too.
const LARGER: u64 = LARGE + (1 << 20);

fn moving() -> Option<FormerEnd> {
    Some(FormerEnd {
        moves_to: Some(LARGE),
        ..former(SMALL).unwrap()
    })
}

/// Every crash in a move, with every choice of what of the last step has reached the medium, and
/// every such crash in the open that follows: whatever the size is each time, the same place is
/// found, which says what it should.
#[test]
fn a_move_that_was_cut_short_is_decided_alike_whatever_the_device_has_grown_to() {
    let volume = grown();
    let writes = at_new_end(&volume);
    let (area, superblocks) = writes.split_at(writes.len() - 2);
    let steps: [&[Write]; 3] = [area, superblocks, &former_wipe()];
    let mut device = volume.device;
    let mut places = [0_u32; 2];
    for step in steps {
        for after in crashes(&device, step) {
            let place = assert_decided(&after, None);
            places[usize::from(place == LARGE)] += 1;
        }
        for write in step {
            device.write(write.clone());
        }
    }
    // Wiped, and not yet noted.
    assert_eq!(assert_decided(&device, Some(LARGE)), LARGE);
    assert!(places.iter().all(|count| *count > 0), "{places:?}");
}

/// What may be on the device after these were under way: each is there, or not, or by halves.
fn crashes(device: &Device, writes: &[Write]) -> Vec<Device> {
    let mut found = vec![device.clone()];
    for write in writes {
        let is_decisive = writes.len() == 2;
        let mut next = found.clone();
        for before in &found {
            let cuts: &[core::ops::Range<usize>] = if is_decisive {
                &[0..8, 0..3, 3..8]
            } else {
                &[0..8]
            };
            for cut in cuts {
                let mut after = before.clone();
                let mut block = after.block(write.offset);
                let bytes = cut.start * 512..cut.end * 512;
                block[bytes.clone()].copy_from_slice(&write.block[bytes]);
                let offset = write.offset;
                after.write(Write { offset, block });
                next.push(after);
            }
        }
        found = next;
    }
    found
}

/// Where it is, at any size, and after each crash of whoever opens it at any.
fn assert_decided(device: &Device, place: Option<u64>) -> u64 {
    let mut place = place;
    for bytes in [LARGE, LARGE + 512, LARGE + 4096, LARGER] {
        let mut device = device.clone();
        device.bytes = bytes;
        let found = find(&mut device, moving()).expect("one of the places counts");
        let layout = found.image.layout;
        assert_eq!(
            *place.get_or_insert(layout.device_bytes()),
            layout.device_bytes()
        );
        assert_eq!(dirty_bits(&found.image.peers[0]), Some(3));
        assert_eq!(found.image.superblock.generation, GenerationId(0xA2));
        for writes in [&found.again, &found.wipe] {
            for mut after in crashes(&device, writes) {
                for bytes in [bytes, LARGER] {
                    after.bytes = bytes;
                    let again = find(&mut after, moving()).expect("it still does");
                    assert_eq!(again.image.layout, layout);
                }
            }
            for write in writes {
                device.write(write.clone());
            }
        }
        // Only one is left, which is noted then.
        let noted = former(layout.device_bytes());
        for remembered in [moving(), noted] {
            let again = find(&mut device, remembered).expect("it is tidy");
            assert_eq!(again.image.layout, layout);
            assert_eq!(again.wipe.len(), 0);
        }
    }
    place.expect("sizes were tried")
}

/// Nobody can have used the larger place while the smaller one was whole.
#[test]
fn a_newer_superblock_beside_a_damaged_one_is_refused_wherever_it_is() {
    let mut volume = grown();
    for write in at_new_end(&volume) {
        volume.device.write(write);
    }
    let newest = volume.superblock.sequence + 1;
    let copy = Superblock {
        sequence: newest,
        device_bytes: LARGE,
        ..volume.superblock.clone()
    };
    let new = Layout::with_data(LARGE, Placement::Internal, 2, volume.layout.data_bytes()).unwrap();
    let mut device = volume.device.clone();
    let (offset, block) = (new.offset(copy.address()), copy.encode());
    device.write(Write { offset, block });
    let other = Layout::superblock_offset(LARGE, Placement::Internal, u8::from(newest & 1 == 0));
    let offset = other.unwrap();
    let block = Box::new([0xEE; BLOCK_BYTES]);
    device.write(Write { offset, block });
    for bytes in [LARGE, LARGER] {
        device.bytes = bytes;
        let found = find(&mut device, moving());
        assert!(
            matches!(found, Err(OpenError::NewestUncertain { sequence, .. }) if sequence == newest),
            "{found:?}"
        );
    }
}
