//! Damage in areas of several intent blocks and many bitmap blocks.

use super::*;

/// A volume that was just created: no bitmap counts.
fn created(device_bytes: u64) -> Volume {
    let layout = Layout::new(device_bytes, Placement::Internal, 1, None).unwrap();
    let superblock = Superblock::new(creation(), &layout);
    let mut device = Device::of(device_bytes);
    create(&superblock, &layout).for_each(|write| device.write(write));
    Volume {
        device,
        superblock,
        layout,
    }
}

/// Where it is, of how many blocks, and what was made of it.
fn summary(image: &Image) -> Vec<(BlockAddress, u32, Effect)> {
    let damage = image.damage.iter();
    damage
        .map(|damage| (damage.at, damage.blocks, damage.effect))
        .collect()
}

#[test]
fn marks_of_every_intent_block_count_also_when_no_bitmap_does() {
    let mut volume = created(3 * BYTES_PER_INTENT_BLOCK);
    assert_eq!(volume.layout.intent_blocks(), 3);
    for block in 0..3 {
        volume.write_intent(block, &page(&[u64::from(block)]), 1, 2);
    }
    let image = volume.open().unwrap();
    let second = BITS_PER_BLOCK + 1;
    let third = 2 * BITS_PER_BLOCK + 2;
    assert_eq!(
        image.hot_regions,
        [0..1, second..second + 1, third..third + 1]
    );
    assert_eq!(image.intent_sequences, [2, 2, 2]);
    assert_eq!(image.damage, []);
    assert_eq!(volume.device.longest_read, 8192);
}

#[test]
fn damaged_neighbours_among_intent_blocks_are_reported_together() {
    let mut volume = created(5 * BYTES_PER_INTENT_BLOCK);
    for block in [1, 2, 4] {
        let at = BlockAddress::Intent { block, slot: 1 };
        volume.damage(at, |block| block[700] ^= 1);
    }
    let image = volume.open().unwrap();
    let regions = volume.layout.regions();
    assert_eq!(
        image.hot_regions,
        [
            BITS_PER_BLOCK..3 * BITS_PER_BLOCK,
            4 * BITS_PER_BLOCK..regions
        ]
    );
    let at = |block| BlockAddress::Intent { block, slot: 0 };
    assert_eq!(
        summary(&image),
        [
            (at(1), 2, Effect::RegionsHot),
            (at(4), 1, Effect::RegionsHot)
        ]
    );
}

#[test]
fn damaged_neighbours_among_bitmap_blocks_are_reported_together_for_each_peer() {
    let mut volume = Volume::in_sync(500 << 20);
    let at = |peer_slot, block| BlockAddress::Bitmap { peer_slot, block };
    for place in [at(0, 0), at(1, 0), at(1, 1), at(0, 2)] {
        volume.damage(place, |block| block[700] ^= 1);
    }
    assert_eq!(
        summary(&volume.open().unwrap()),
        [
            (at(0, 0), 1, Effect::BlocksDirty),
            (at(1, 0), 2, Effect::BlocksDirty),
            (at(0, 2), 1, Effect::BlocksDirty)
        ]
    );
}

#[test]
fn with_more_than_256_unreadable_blocks_it_is_the_device_that_has_failed() {
    let mut volume = Volume::in_sync(100 << 30);
    // Bitmap blocks of both peers, among readable ones.
    let bad: Vec<u64> = (0..257)
        .map(|index| volume.layout.run(4 + 5 * index, 1).0)
        .collect();
    volume.device.unreadable = bad[..256].to_vec();
    let image = volume.open().unwrap();
    assert_eq!(image.damage.len(), 256);
    let dirty = image.peers.iter().filter_map(dirty_bits).sum::<u64>();
    assert_eq!(dirty, 256 * BITS_PER_BLOCK);
    volume.device.unreadable = bad.clone();
    let source = ReadError { code: 5 };
    let offset = bad[256];
    assert_eq!(
        volume.open().unwrap_err(),
        OpenError::Read { offset, source }
    );
}
