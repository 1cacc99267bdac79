//! What becomes of intent and bitmap blocks that are torn, lost, rolled back or foreign.

use super::superblocks::keep_sectors;
use super::*;

pub(super) const INTENT: [BlockAddress; 2] = [
    BlockAddress::Intent { block: 0, slot: 0 },
    BlockAddress::Intent { block: 0, slot: 1 },
];
const BITMAP: BlockAddress = BlockAddress::Bitmap {
    peer_slot: 0,
    block: 0,
};

/// Marks 0, then 0 and 3: sequences 2 and 3 of the epoch in force.
pub(super) fn marked() -> Volume {
    let mut volume = Volume::in_sync(SMALL);
    volume.write_intent(0, &page(&[0]), 1, 2);
    volume.write_intent(0, &page(&[0, 3]), 1, 3);
    volume
}

#[test]
fn newest_marks_win() {
    let image = marked().open().unwrap();
    assert_eq!(image.hot_regions, [0..1, 3..4]);
    assert_eq!(image.intent_sequences, [3]);
    assert_eq!(image.damage, []);
}

#[test]
fn an_intent_block_torn_at_any_sectors_reads_as_old_new_or_all_hot() {
    // Marks in the first and in the last used sector of a volume of 126 GiB.
    let far = BITS_PER_BLOCK - 1;
    for mask in 0..=255_u8 {
        let mut volume = Volume::in_sync(BYTES_PER_INTENT_BLOCK);
        let regions = volume.layout.regions();
        volume.write_intent(0, &page(&[1]), 1, 2);
        volume.write_intent(0, &page(&[1, 2]), 1, 3);
        let before = volume.device.block(volume.offset(INTENT[0]));
        volume.write_intent(0, &page(&[1, 2, 5000, far]), 1, 4);
        volume.damage(INTENT[0], |block| keep_sectors(block, &before, mask));
        volume.superblock.peers = core::array::from_fn(|_| PeerSlot::default());
        volume.write_superblock();
        let image = volume.open().unwrap();
        // Sectors 0, 1 (mark 5000) and 7 (mark 32255) differ between the writes.
        let whole = mask & 0b1000_0011 == 0b1000_0011;
        let expected = match (whole, mask & 1 == 0) {
            (true, _) => vec![1..3, 5000..5001],
            (false, true) => vec![1..3],
            (false, false) => vec![0..regions],
        };
        assert_eq!(image.hot_regions, expected, "sectors {mask:08b}");
    }
}

#[test]
fn no_changed_byte_of_the_newest_intent_slot_loses_a_mark() {
    for at in 0..BLOCK_BYTES {
        let mut volume = marked();
        volume.damage(INTENT[1], |block| block[at] ^= 0x20);
        let image = volume.open().unwrap();
        assert_eq!(image.hot_regions, [0..volume.layout.regions()], "byte {at}");
        assert_eq!(image.damage[0].effect, Effect::RegionsHot);
    }
}

#[test]
fn zeroing_any_sector_of_the_newest_intent_slot_loses_no_mark() {
    for sector in 0..8 {
        let mut volume = marked();
        volume.damage(INTENT[1], |block| {
            block[sector * 512..(sector + 1) * 512].fill(0);
        });
        let hot = volume.open().unwrap().hot_regions;
        // Zeros over zeros change nothing.
        let changed = sector == 0;
        assert_eq!(
            hot == [0..volume.layout.regions()],
            changed,
            "sector {sector}"
        );
        assert!(changed || hot == [0..1, 3..4], "sector {sector}");
    }
}

#[test]
fn a_damaged_header_is_not_believed_when_it_claims_to_be_older() {
    let mut volume = marked();
    volume.damage(INTENT[1], |block| block[40] = 1);
    assert_eq!(
        volume.open().unwrap().hot_regions,
        [0..volume.layout.regions()]
    );
    let mut volume = Volume::in_sync(SMALL);
    volume.damage(volume.superblock.address(), |block| block[40] = 1);
    assert!(matches!(
        volume.open(),
        Err(OpenError::NewestUncertain { .. })
    ));
}

#[test]
fn a_rolled_back_intent_slot_makes_its_regions_hot() {
    let mut volume = marked();
    let stale = volume.device.block(volume.offset(INTENT[1]));
    for sequence in 4..8 {
        volume.write_intent(0, &page(&[0, 3, 4]), 1, sequence);
    }
    volume.damage(INTENT[1], |block| *block = *stale);
    let image = volume.open().unwrap();
    assert_eq!(image.hot_regions, [0..volume.layout.regions()]);
    assert_eq!(
        image.damage[0].cause,
        BlockError::RolledBack {
            newest: 6,
            found: 3
        }
    );
}

#[test]
fn a_peer_that_takes_an_unused_slot_is_completely_out_of_sync() {
    let mut volume = Volume::in_sync(SMALL);
    volume.superblock.peers[1] = PeerSlot::default();
    volume.superblock.peers[1].node_id = Some(NodeId(7));
    volume.write_superblock();
    assert_eq!(volume.open().unwrap().peers[1], PeerBitmap::Everything);
}

#[test]
fn every_changed_byte_of_a_bitmap_block_makes_all_its_bits_dirty() {
    for at in 0..BLOCK_BYTES {
        let mut volume = Volume::in_sync(SMALL);
        volume.damage(BITMAP, |block| block[at] ^= 0x04);
        let image = volume.open().unwrap();
        assert_eq!(
            dirty_bits(&image.peers[0]),
            Some(volume.layout.bits()),
            "byte {at}"
        );
        assert_eq!(dirty_bits(&image.peers[1]), Some(0));
        assert_eq!(image.damage[0].effect, Effect::BlocksDirty);
    }
}

#[test]
fn a_bitmap_block_torn_at_any_sectors_reads_as_old_new_or_all_dirty() {
    for mask in 0..=255_u8 {
        let mut volume = Volume::in_sync(SMALL);
        let before = volume.device.block(volume.offset(BITMAP));
        volume.write_bitmap(0, 0, &page(&[7, 4000]), 2);
        volume.damage(BITMAP, |block| keep_sectors(block, &before, mask));
        let image = volume.open().unwrap();
        let expected = match mask & 0b11 {
            0 => 0,
            0b11 => 2,
            _ => volume.layout.bits(),
        };
        assert_eq!(
            dirty_bits(&image.peers[0]),
            Some(expected),
            "sectors {mask:08b}"
        );
    }
}

#[test]
fn swapped_blocks_are_misplaced_and_all_dirty() {
    let mut volume = Volume::in_sync(300 << 20);
    let other = BlockAddress::Bitmap {
        peer_slot: 0,
        block: 1,
    };
    let [first, second] = [BITMAP, other].map(|at| volume.device.block(volume.offset(at)));
    volume.damage(BITMAP, |block| *block = *second);
    volume.damage(other, |block| *block = *first);
    let image = volume.open().unwrap();
    let cause = BlockError::Misplaced {
        what: "block index",
        expected: 0,
        found: 1,
    };
    let effect = Effect::BlocksDirty;
    assert_eq!(
        image.damage,
        [Damage {
            at: BITMAP,
            blocks: 2,
            cause,
            effect
        }]
    );
    assert_eq!(dirty_bits(&image.peers[0]), Some(2 * BITS_PER_BLOCK));
    assert_eq!(dirty_bits(&image.peers[1]), Some(0));
}

#[test]
fn a_block_of_another_place_peer_kind_node_volume_or_area_is_misplaced() {
    let identity = Volume::in_sync(SMALL).superblock.identity();
    let block = encode_bitmap_block(identity, 3, 9, &page(&[]), 1);
    let decode =
        |identity, slot, index| match decode_bitmap_block(&block[..], identity, slot, index) {
            Err(BlockError::Misplaced { what, .. }) => what,
            other => panic!("{other:?}"),
        };
    assert_eq!(decode(identity, 3, 8), "block index");
    assert_eq!(decode(identity, 2, 9), "peer slot");
    assert_eq!(
        decode(
            Identity {
                node: NodeId(9),
                ..identity
            },
            3,
            9
        ),
        "node-id"
    );
    assert_eq!(
        decode(
            Identity {
                volume: VolumeNumber(9),
                ..identity
            },
            3,
            9
        ),
        "volume"
    );
    assert_eq!(
        decode(
            Identity {
                device_id: 9,
                ..identity
            },
            3,
            9
        ),
        "device id"
    );
    let (_, intent) = encode_intent_block(identity, 1, 0, &page(&[]), 4);
    let wrong_kind = decode_bitmap_block(&intent[..], identity, 3, 9);
    assert_eq!(
        wrong_kind,
        Err(BlockError::Misplaced {
            what: "kind",
            expected: 3,
            found: 2
        })
    );
    let wrong_slot = decode_intent_block(&intent[..], identity, 0, 1);
    assert_eq!(
        wrong_slot,
        Err(BlockError::Misplaced {
            what: "slot",
            expected: 1,
            found: 0
        })
    );
}

#[test]
fn a_bitmap_block_with_an_attach_epoch_is_refused() {
    let identity = Volume::in_sync(SMALL).superblock.identity();
    let mut block = encode_bitmap_block(identity, 0, 0, &page(&[]), 1);
    block[32] = 1;
    // Over 60 bytes, four zeros and the rest, as the format says.
    block[60..64].fill(0);
    block[56..60].fill(0);
    let head = crc32fast::hash(&block[..512]);
    block[56..60].copy_from_slice(&head.to_le_bytes());
    let whole = crc32fast::hash(&block[..]);
    block[60..64].copy_from_slice(&whole.to_le_bytes());
    assert_eq!(
        decode_bitmap_block(&block[..], identity, 0, 0),
        Err(BlockError::Field {
            what: "attach epoch of a bitmap block",
            found: 1
        })
    );
}

#[test]
fn bitmap_left_by_an_earlier_area_is_all_dirty_even_without_the_full_sync_flag() {
    let old = Volume::in_sync(SMALL);
    let mut fresh = Superblock::new(
        Creation {
            device_id: 0xF00D,
            ..creation()
        },
        &old.layout,
    );
    let mut device = old.device.clone();
    create(&fresh, &old.layout).for_each(|write| device.write(write));
    fresh.peers[0] = old.superblock.peers[0].clone();
    let mut volume = Volume {
        device,
        superblock: fresh,
        layout: old.layout,
    };
    volume.write_superblock();
    let image = volume.open().unwrap();
    assert_eq!(dirty_bits(&image.peers[0]), Some(volume.layout.bits()));
    assert_eq!(image.peers[1], PeerBitmap::Everything);
    assert!(matches!(
        image.damage[0].cause,
        BlockError::Misplaced {
            what: "device id",
            ..
        }
    ));
}

#[test]
fn unreadable_blocks_are_dirty_or_hot_and_spare_their_neighbours() {
    let mut volume = Volume::in_sync(SMALL);
    volume.write_bitmap(1, 0, &page(&[9]), 2);
    volume.device.unreadable = vec![volume.offset(BITMAP), volume.offset(INTENT[0])];
    let image = volume.open().unwrap();
    assert_eq!(image.hot_regions, [0..volume.layout.regions()]);
    assert_eq!(dirty_bits(&image.peers[0]), Some(volume.layout.bits()));
    assert_eq!(dirty_bits(&image.peers[1]), Some(1));
    let unreadable = BlockError::Unreadable(ReadError { code: 5 });
    assert!(image.damage.iter().all(|damage| damage.cause == unreadable));
}

#[test]
fn a_device_that_fails_everywhere_is_an_error_not_a_full_sync() {
    let mut volume = Volume::in_sync(100 << 30);
    volume.device.unreadable = (0..volume.layout.block_count())
        .filter_map(|number| volume.layout.address(number))
        .filter(|at| !matches!(at, BlockAddress::Superblock { .. }))
        .map(|at| volume.layout.offset(at))
        .collect();
    assert!(matches!(volume.open(), Err(OpenError::Read { .. })));
    volume.device.unreadable = vec![SMALL];
    volume.device.unreadable = [0, 1]
        .map(|slot| volume.layout.offset(BlockAddress::Superblock { slot }))
        .to_vec();
    assert!(matches!(volume.open(), Err(OpenError::Read { .. })));
}
