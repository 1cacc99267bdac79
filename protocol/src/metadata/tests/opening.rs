//! Identity, size, memory and hostile contents.

use super::*;
use proptest::prelude::*;

#[test]
fn everything_written_is_found_again() {
    let mut volume = Volume::in_sync(BYTES_PER_INTENT_BLOCK * 2);
    let last_block = volume.layout.bitmap_blocks() - 1;
    volume.write_bitmap(0, 0, &page(&[0]), 5);
    volume.write_bitmap(0, 1024, &page(&[1, 2]), 9);
    volume.write_bitmap(1, last_block, &page(&[3]), 6);
    volume.write_intent(0, &page(&[32255]), 1, 2);
    volume.write_intent(1, &page(&[0, 1, 40]), 1, 2);
    let image = volume.open().unwrap();
    let pages = |pages: &[(u32, &[u64])]| {
        PeerBitmap::Pages(
            pages
                .iter()
                .map(|(at, bits)| (*at, Box::new(page(bits))))
                .collect(),
        )
    };
    assert_eq!(image.peers[0], pages(&[(0, &[0]), (1024, &[1, 2])]));
    assert_eq!(image.peers[1], pages(&[(last_block, &[3])]));
    assert_eq!(image.hot_regions, [32255..32258, 32296..32297]);
    assert_eq!(image.intent_sequences, [2, 2]);
    assert_eq!(image.bitmap_sequence, 9);
    assert_eq!(image.damage, []);
    assert_eq!(volume.device.longest_read, 1 << 20);
    let area = volume.layout.block_count() - 2;
    assert_eq!(volume.device.reads, 2 + area.div_ceil(256));
}

#[test]
fn bits_and_marks_beyond_the_end_of_the_volume_are_ignored() {
    for size in [SMALL, BYTES_PER_INTENT_BLOCK + (300 << 20)] {
        let mut volume = Volume::in_sync(size);
        let layout = volume.layout;
        let last = layout.bitmap_blocks() - 1;
        let bits = layout.bits() - u64::from(last) * BITS_PER_BLOCK;
        volume.write_bitmap(0, last, &page(&[bits - 1, bits, 32255]), 2);
        let last = layout.intent_blocks() - 1;
        let regions = layout.regions() - u64::from(last) * BITS_PER_BLOCK;
        volume.write_intent(last, &page(&[regions - 1, regions, 32255]), 1, 2);
        let image = volume.open().unwrap();
        assert_eq!(dirty_bits(&image.peers[0]), Some(1));
        let regions = layout.regions();
        assert_eq!(image.hot_regions, [regions - 1..regions]);
    }
}

#[test]
fn only_the_intent_log_is_read_when_every_peer_needs_a_full_sync() {
    let mut volume = Volume::in_sync(1 << 30);
    volume.superblock.peers[0].flags.full_sync = true;
    // Unused counts as out of sync whatever its flags say.
    volume.superblock.peers[1] = PeerSlot {
        node_id: None,
        ..volume.superblock.peers[1].clone()
    };
    volume.write_superblock();
    let image = volume.open().unwrap();
    assert_eq!(
        image.peers,
        [PeerBitmap::Everything, PeerBitmap::Everything]
    );
    assert_eq!(volume.device.longest_read, 8192);
}

#[test]
fn metadata_of_another_owner_is_refused_by_name() {
    let mut volume = Volume::in_sync(SMALL);
    let ours = inputs(SMALL, Placement::Internal);
    let mut refusal = |inputs: OpenInputs<'_>| {
        alloc::string::ToString::to_string(&volume.device.open(&inputs).unwrap_err())
    };
    assert_eq!(
        refusal(OpenInputs {
            resource: "r1",
            ..ours
        }),
        "metadata of resource \"r0\", expected \"r1\""
    );
    assert_eq!(
        refusal(OpenInputs {
            node: "beta",
            ..ours
        }),
        "metadata of node \"alpha\", expected \"beta\""
    );
    assert_eq!(
        refusal(OpenInputs {
            node_id: NodeId(4),
            ..ours
        }),
        "metadata of node-id 0, expected 4"
    );
    assert_eq!(
        refusal(OpenInputs {
            volume: VolumeNumber(7),
            ..ours
        }),
        "metadata of volume 0, expected 7"
    );
}

#[test]
fn a_device_of_another_size_or_place_is_refused() {
    let mut volume = Volume::in_sync(SMALL);
    volume.device.bytes = SMALL - 4096;
    assert!(matches!(
        volume.open(),
        Err(OpenError::NewestUncertain { .. }
            | OpenError::Damaged { .. }
            | OpenError::NoMetadata { .. })
    ));
    volume.device.bytes = SMALL - (1 << 20);
    assert!(matches!(volume.open(), Err(OpenError::NoMetadata { .. })));
    volume.device.bytes = SMALL + 512;
    assert_eq!(
        volume.open().unwrap_err(),
        OpenError::DeviceSize {
            recorded: SMALL,
            found: SMALL + 512
        }
    );
    volume.device.bytes = 4096;
    assert!(matches!(
        volume.open(),
        Err(OpenError::Layout(LayoutError::DeviceTooSmall { .. }))
    ));
    let area = Placement::External {
        offset: 0,
        available: 1 << 20,
    };
    let moved = Placement::External {
        offset: 4096 * 256,
        available: 1 << 20,
    };
    let layout = Layout::new(SMALL, area, 1, None).unwrap();
    let superblock = Superblock::new(creation(), &layout);
    let mut device = Device::of(4 << 20);
    for write in create(&superblock, &layout) {
        device.write(Write {
            offset: write.offset + (1 << 20),
            ..write.clone()
        });
        device.write(write);
    }
    assert_eq!(
        device.open(&inputs(SMALL, moved)).unwrap_err(),
        OpenError::OtherPlacement {
            recorded: Some(0),
            found: Some(1 << 20)
        }
    );
    assert!(device.open(&inputs(SMALL + (1 << 20), area)).is_ok());
    assert_eq!(
        device.open(&inputs(SMALL - 4096, area)).unwrap_err(),
        OpenError::Layout(LayoutError::DeviceTooSmall {
            device_bytes: SMALL - 4096,
            required: SMALL
        })
    );
}

#[test]
fn a_superblock_that_claims_more_than_the_device_is_refused_before_anything_is_allocated() {
    let mut volume = Volume::in_sync(SMALL);
    for claim in [1 << 40, 1 << 59, 1 << 63, !4095] {
        for _ in 0..2 {
            volume.superblock.data_bytes = claim;
            volume.write_superblock();
        }
        assert!(
            matches!(volume.open(), Err(OpenError::Layout(_))),
            "{claim}"
        );
        assert_eq!(volume.device.longest_read, 4096);
    }
    // The same claim backed by a huge data device, but only a small metadata area.
    let area = Placement::External {
        offset: 0,
        available: 1 << 20,
    };
    let layout = Layout::new(SMALL, area, 31, None).unwrap();
    let claim = Superblock {
        data_bytes: 1 << 58,
        ..Superblock::new(creation(), &layout)
    };
    let mut device = Device::of(1 << 20);
    for sequence in [2, 3] {
        let claim = Superblock {
            sequence,
            ..claim.clone()
        };
        device.write(Write {
            offset: layout.offset(claim.address()),
            block: claim.encode(),
        });
    }
    assert!(matches!(
        device.open(&inputs(1 << 60, area)),
        Err(OpenError::Layout(LayoutError::MetadataAreaTooSmall { .. }))
    ));
    assert_eq!(device.longest_read, 4096);
}

proptest! {
    #[test]
    fn garbage_blocks_never_panic_and_are_never_accepted(
        bytes in proptest::collection::vec(any::<u8>(), 0..5000),
        prefix in 0_usize..64,
    ) {
        let identity = Volume::in_sync(SMALL).superblock.identity();
        let mut bytes = bytes;
        let valid = encode_bitmap_block(identity, 0, 0, &page(&[]), 1);
        let kept = prefix.min(bytes.len());
        bytes[..kept].copy_from_slice(&valid[..kept]);
        prop_assert!(Superblock::decode(&bytes).is_err());
        prop_assert!(decode_intent_block(&bytes, identity, 0, 0).is_err());
        prop_assert!(decode_bitmap_block(&bytes, identity, 0, 0).is_err());
    }

    #[test]
    fn an_area_scribbled_over_anywhere_never_reads_as_cleaner(
        writes in proptest::collection::vec((0_u64..6, 0_usize..4096, any::<u8>()), 1..6),
        bits in proptest::collection::vec(0_u64..5000, 0..20),
    ) {
        let mut volume = Volume::in_sync(SMALL);
        volume.write_bitmap(0, 0, &page(&bits), 2);
        volume.write_intent(0, &page(&[1]), 1, 2);
        let clean = volume.open().unwrap();
        for (number, at, value) in writes {
            let address = volume.layout.address(number).unwrap();
            volume.damage(address, |block| block[at] = value);
        }
        if let Ok(image) = volume.open() {
            prop_assert_eq!(image.superblock, clean.superblock);
            prop_assert!(dirty_bits(&image.peers[0]) >= dirty_bits(&clean.peers[0]));
            prop_assert!(image.hot_regions.iter().any(|range| range.contains(&1)));
        }
    }

    #[test]
    fn any_superblock_reads_back(
        resource in "\\PC{0,31}", node in "[a-z]{0,63}", numbers in any::<[u64; 8]>(),
        flags in any::<[bool; 11]>(), peers in 1_u8..=31, external in any::<bool>(),
    ) {
        let layout = Layout::new(SMALL, Placement::Internal, peers, None).unwrap();
        let mut superblock = Superblock::new(creation(), &layout);
        superblock.resource = ResourceName::new(&resource).unwrap_or_default();
        superblock.node = NodeName::new(&node).unwrap();
        superblock.device_id = numbers[0];
        superblock.data_bytes = numbers[1];
        superblock.device_bytes = numbers[2];
        superblock.metadata_offset = external.then_some(numbers[3]);
        superblock.generation = GenerationId(numbers[4]);
        superblock.attach_epoch = numbers[5] & (MAX_SEQUENCE - 1);
        superblock.sequence = numbers[6] & (MAX_SEQUENCE - 1);
        superblock.boot_id = u128::from(numbers[7]) << 64 | u128::from(numbers[0]);
        let [consistent, was_up_to_date, primary, clean_shutdown, outdated, rest @ ..] = flags;
        superblock.flags =
            DiskFlags { consistent, was_up_to_date, primary, clean_shutdown, outdated };
        let [full_sync, peer_outdated, may_have_current, seen, was_primary, fenced] = rest;
        superblock.peers[usize::from(peers) - 1] = PeerSlot {
            node_id: Some(NodeId(peers)),
            name: NodeName::new(&node).unwrap(),
            bitmap_generation: GenerationId(numbers[3]),
            counted_since: numbers[5],
            flags: PeerFlags {
                full_sync,
                peer_outdated,
                may_have_current,
                seen,
                was_primary,
                fenced,
            },
        };
        let decoded = Superblock::decode(&superblock.encode()[..]);
        prop_assert_eq!(decoded, Ok(superblock));
    }
}
