//! Choosing between the two superblock copies.

use super::*;

#[test]
fn fresh_area_opens_as_just_created_inconsistent_and_fully_out_of_sync() {
    for (placement, size) in [
        (Placement::Internal, SMALL),
        (
            Placement::External {
                offset: 0,
                available: 1 << 20,
            },
            SMALL,
        ),
        (
            Placement::External {
                offset: 40960,
                available: 1 << 20,
            },
            SMALL,
        ),
    ] {
        let layout = Layout::new(SMALL, placement, 3, None).unwrap();
        let superblock = Superblock::new(creation(), &layout);
        let mut device = Device::of(size);
        create(&superblock, &layout).for_each(|write| device.write(write));
        let image = device.open(&inputs(SMALL, placement)).unwrap();
        assert_eq!(image.superblock, superblock);
        assert_eq!(image.superblock.generation, GenerationId::JUST_CREATED);
        assert_eq!(image.superblock.flags, DiskFlags::default());
        assert_eq!(image.layout, layout);
        assert_eq!(
            image.peers,
            [
                PeerBitmap::Everything,
                PeerBitmap::Everything,
                PeerBitmap::Everything
            ]
        );
        assert_eq!(image.hot_regions, []);
        assert_eq!(image.intent_sequences, [1]);
        assert_eq!(image.damage, []);
    }
}

#[test]
fn newest_superblock_wins_in_either_slot() {
    let mut volume = Volume::in_sync(SMALL);
    for generation in 10..15 {
        volume.superblock.generation = GenerationId(generation);
        volume.write_superblock();
        assert_eq!(volume.open().unwrap().superblock, volume.superblock);
    }
}

#[test]
fn a_superblock_torn_at_any_sectors_reads_as_old_or_new_without_loss() {
    for mask in 0..=255_u8 {
        let mut volume = Volume::in_sync(SMALL);
        let old = volume.superblock.clone();
        let target = Superblock {
            sequence: old.sequence + 1,
            ..old.clone()
        }
        .address();
        let before = volume.device.block(volume.offset(target));
        volume.superblock.generation = GenerationId(0xB1);
        volume.superblock.history = [GenerationId(0xA2); 32];
        volume.write_superblock();
        volume.damage(target, |block| keep_sectors(block, &before, mask));
        let found = volume.open().unwrap().superblock;
        let written = mask == 255;
        assert_eq!(
            found,
            if written { volume.superblock } else { old },
            "sectors {mask:08b}"
        );
    }
}

#[test]
fn any_damage_to_the_newest_superblock_is_refused_unless_it_proves_the_write_incomplete() {
    let mut volume = Volume::in_sync(SMALL);
    let newest = volume.superblock.address();
    let sequence = volume.superblock.sequence - 1;
    for at in 0..BLOCK_BYTES {
        let mut volume = Volume {
            device: volume.device.clone(),
            superblock: volume.superblock.clone(),
            layout: volume.layout,
        };
        volume.damage(newest, |block| block[at] ^= 0x40);
        match volume.open() {
            Err(OpenError::NewestUncertain {
                sequence: found, ..
            }) => assert_eq!(found, sequence),
            Err(OpenError::FutureVersion { .. }) => assert!((8..10).contains(&at), "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    for sector in 0..8 {
        let mut volume = Volume {
            device: volume.device.clone(),
            superblock: volume.superblock.clone(),
            layout: volume.layout,
        };
        volume.damage(newest, |block| {
            block[sector * 512..(sector + 1) * 512].fill(0);
        });
        assert!(
            matches!(volume.open(), Err(OpenError::NewestUncertain { .. })),
            "sector {sector}"
        );
    }
    volume.damage(newest, |block| block.fill(0));
    assert!(matches!(
        volume.open(),
        Err(OpenError::NewestUncertain { .. })
    ));
}

#[test]
fn damage_to_the_older_superblock_loses_nothing() {
    for at in (0..BLOCK_BYTES).filter(|at| !(8..10).contains(at)) {
        let mut volume = Volume::in_sync(SMALL);
        let older = Superblock {
            sequence: volume.superblock.sequence - 1,
            ..volume.superblock.clone()
        };
        volume.damage(older.address(), |block| block[at] ^= 0x40);
        let image = volume.open().unwrap();
        assert_eq!(image.superblock, volume.superblock);
        assert_eq!(image.damage.len(), 1);
        assert_eq!(image.damage[0].effect, Effect::OtherSlotUsed);
    }
}

#[test]
fn older_superblock_is_taken_on_request_and_then_every_peer_needs_a_full_sync() {
    let mut volume = Volume::in_sync(SMALL);
    volume.damage(volume.superblock.address(), |block| block[3000] ^= 1);
    let inputs = OpenInputs {
        accept_older_superblock: true,
        ..inputs(SMALL, Placement::Internal)
    };
    let image = volume.device.open(&inputs).unwrap();
    assert_eq!(image.superblock.generation, GenerationId(0xA1));
    assert_eq!(
        image.peers,
        [PeerBitmap::Everything, PeerBitmap::Everything]
    );
    assert!(
        image
            .superblock
            .peers
            .iter()
            .all(|peer| peer.flags.full_sync)
    );
    assert_eq!(image.damage[0].effect, Effect::OlderSuperblock);
}

#[test]
fn a_lost_superblock_write_is_noticed_at_the_next_one() {
    let mut volume = Volume::in_sync(SMALL);
    volume.superblock.sequence += 1;
    volume.write_superblock();
    let newest = volume.superblock.sequence;
    let Err(OpenError::NewestUncertain { cause, .. }) = volume.open() else {
        panic!("accepted");
    };
    assert_eq!(
        cause,
        BlockError::RolledBack {
            newest,
            found: newest - 3
        }
    );
}

#[test]
fn two_damaged_superblocks_are_an_error_that_names_both_and_never_no_metadata() {
    let mut volume = Volume::in_sync(SMALL);
    for slot in [0, 1] {
        volume.damage(BlockAddress::Superblock { slot }, |block| block[700] ^= 1);
    }
    assert!(matches!(
        volume.open(),
        Err(OpenError::Damaged {
            first: BlockError::Checksum { .. },
            second: BlockError::Checksum { .. }
        })
    ));
    volume.damage(BlockAddress::Superblock { slot: 0 }, |block| block.fill(0));
    assert!(matches!(volume.open(), Err(OpenError::Damaged { .. })));
    volume.damage(BlockAddress::Superblock { slot: 1 }, |block| block.fill(0));
    assert_eq!(
        volume.open().unwrap_err(),
        OpenError::NoMetadata {
            offset: SMALL - 4096
        }
    );
}

#[test]
fn a_future_version_in_either_slot_is_refused_as_such() {
    for slots in [&[0][..], &[1], &[0, 1]] {
        let mut volume = Volume::in_sync(SMALL);
        for slot in slots {
            // A future program may keep its checksum anywhere.
            volume.damage(BlockAddress::Superblock { slot: *slot }, |block| {
                block[8] = 2;
                block[10..].fill(0xEE);
            });
        }
        assert_eq!(
            volume.open().unwrap_err(),
            OpenError::FutureVersion {
                found: 2,
                supported: 1
            }
        );
    }
}

#[test]
fn swapped_or_foreign_superblocks_are_misplaced() {
    let mut volume = Volume::in_sync(SMALL);
    let [first, second] = [0, 1].map(|slot| {
        volume
            .device
            .block(volume.offset(BlockAddress::Superblock { slot }))
    });
    volume.damage(BlockAddress::Superblock { slot: 0 }, |block| {
        *block = *second;
    });
    volume.damage(BlockAddress::Superblock { slot: 1 }, |block| {
        *block = *first;
    });
    let misplaced = BlockError::Misplaced {
        what: "slot",
        expected: 0,
        found: 1,
    };
    let Err(OpenError::Damaged { first, .. }) = volume.open() else {
        panic!("accepted");
    };
    assert_eq!(first, misplaced);
    let (_, intent) = encode_intent_block(volume.superblock.identity(), 1, 0, &page(&[]), 4);
    assert_eq!(
        Superblock::decode(&intent[..]),
        Err(BlockError::Misplaced {
            what: "kind",
            expected: 1,
            found: 2
        })
    );
}

/// As the second was overwritten by it, nobody knows what that had been.
#[test]
fn the_newest_superblock_in_both_slots_is_refused() {
    let mut volume = Volume::in_sync(SMALL);
    let newest = volume.superblock.address();
    let newest = volume.device.block(volume.offset(newest));
    let sequence = volume.superblock.sequence;
    let slot = u8::from(sequence & 1 == 0);
    volume.damage(BlockAddress::Superblock { slot }, |block| *block = *newest);
    let cause = BlockError::Misplaced {
        what: "slot",
        expected: slot.into(),
        found: sequence & 1,
    };
    assert_eq!(
        volume.open().unwrap_err(),
        OpenError::NewestUncertain {
            slot,
            cause,
            sequence
        }
    );
}

#[test]
fn an_interrupted_create_md_over_an_older_area_is_refused_or_reads_as_the_older_area_marked() {
    let old = Volume::in_sync(SMALL);
    let fresh = Superblock::new(
        Creation {
            device_id: 0xF00D,
            ..creation()
        },
        &old.layout,
    );
    let writes: Vec<Write> = create(&fresh, &old.layout).collect();
    for subset in 0..1_u32 << writes.len() {
        let mut device = old.device.clone();
        for (index, write) in writes.iter().enumerate() {
            if subset & 1 << index != 0 {
                device.write(write.clone());
            }
        }
        match device.open(&inputs(SMALL, Placement::Internal)) {
            Ok(image) if image.superblock.device_id == 0xF00D => {
                assert_eq!(
                    image.peers,
                    [PeerBitmap::Everything, PeerBitmap::Everything]
                );
            }
            Ok(image) => {
                assert_eq!(image.superblock, old.superblock);
                let untouched = subset & 0b11 == 0;
                assert_eq!(image.hot_regions.is_empty(), untouched, "subset {subset:b}");
            }
            Err(OpenError::MixedAreas { .. }) => {}
            Err(other) => panic!("subset {subset:b}: {other}"),
        }
    }
}

#[test]
fn wiped_area_is_no_metadata() {
    let mut volume = Volume::in_sync(SMALL);
    for write in wipe(SMALL, Placement::Internal).unwrap() {
        volume.device.write(write);
    }
    assert!(matches!(volume.open(), Err(OpenError::NoMetadata { .. })));
}

/// Keeps the sectors of `mask`, takes the others from `before`.
pub(super) fn keep_sectors(block: &mut Block, before: &Block, mask: u8) {
    for sector in (0..8).filter(|sector| mask & 1 << sector == 0) {
        let bytes = sector * 512..(sector + 1) * 512;
        block[bytes.clone()].copy_from_slice(&before[bytes]);
    }
}
