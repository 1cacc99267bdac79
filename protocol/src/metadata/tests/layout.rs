//! Where each block lies, on examples and on any size.

use super::*;
use proptest::prelude::*;

const TIB: u64 = 1 << 40;

#[test]
fn sixteen_tib_volume_has_the_documented_numbers() {
    let area = Placement::External {
        offset: 0,
        available: TIB,
    };
    let layout = Layout::new(16 * TIB, area, 1, None).unwrap();
    assert_eq!(layout.data_bytes(), 16 * TIB);
    assert_eq!(layout.bitmap_blocks(), 133_153);
    assert_eq!(layout.intent_blocks(), 131);
    assert_eq!(layout.metadata_bytes(), (2 + 2 * 131 + 133_153) * 4096);
    assert_eq!(
        required_external_bytes(16 * TIB, 1),
        layout.metadata_bytes()
    );
    assert_eq!(
        required_external_bytes(16 * TIB, 2),
        (2 + 2 * 131 + 2 * 133_153) * 4096
    );
}

#[test]
fn documented_sizes_hold() {
    let table = [
        (1 << 30, 9, 1),
        (100 << 30, 813, 1),
        (TIB, 8323, 9),
        (10 * TIB, 83_221, 82),
    ];
    for (data, bitmap, intent) in table {
        for peers in [1, 2, 7] {
            let blocks = 2 + 2 * intent + bitmap * u64::from(peers);
            assert_eq!(
                required_external_bytes(data, peers),
                blocks * 4096,
                "{data} {peers}"
            );
        }
    }
}

#[test]
fn internal_superblock_slots_are_the_last_two_blocks_whatever_the_data_size() {
    for device_bytes in [40960, SMALL, SMALL + 511, 3 * TIB] {
        let end = device_bytes / 4096 * 4096;
        let layout = Layout::new(device_bytes, Placement::Internal, 1, None).unwrap();
        for slot in [0, 1] {
            let offset = end - 4096 * (u64::from(slot) + 1);
            assert_eq!(layout.offset(BlockAddress::Superblock { slot }), offset);
            let early = Layout::superblock_offset(device_bytes, Placement::Internal, slot);
            assert_eq!(early, Ok(offset));
        }
    }
}

#[test]
fn external_area_starts_with_the_superblock_slots_then_intent_then_bitmap() {
    let area = Placement::External {
        offset: 1 << 20,
        available: 1 << 20,
    };
    let layout = Layout::new(1 << 30, area, 2, None).unwrap();
    let order = [
        BlockAddress::Superblock { slot: 0 },
        BlockAddress::Superblock { slot: 1 },
        BlockAddress::Intent { block: 0, slot: 0 },
        BlockAddress::Intent { block: 0, slot: 1 },
        BlockAddress::Bitmap {
            peer_slot: 0,
            block: 0,
        },
        BlockAddress::Bitmap {
            peer_slot: 1,
            block: 0,
        },
        BlockAddress::Bitmap {
            peer_slot: 0,
            block: 1,
        },
    ];
    for (number, address) in (0_u64..).zip(order) {
        assert_eq!(layout.offset(address), (1 << 20) + number * 4096);
    }
}

#[test]
fn smallest_internal_device_holds_one_block_of_data() {
    let refused = Layout::new(5 * 4096, Placement::Internal, 1, None);
    assert_eq!(
        refused,
        Err(LayoutError::DeviceTooSmall {
            device_bytes: 5 * 4096,
            required: 6 * 4096
        })
    );
    assert_eq!(
        Layout::new(6 * 4096, Placement::Internal, 1, None)
            .unwrap()
            .data_bytes(),
        4096
    );
}

#[test]
fn size_limit_shrinks_the_data_and_leaves_the_superblock_where_it_is() {
    let layout = Layout::new(SMALL, Placement::Internal, 1, Some((1 << 20) + 5)).unwrap();
    assert_eq!(layout.data_bytes(), 1 << 20);
    assert_eq!(
        layout.offset(BlockAddress::Superblock { slot: 0 }),
        SMALL - 4096
    );
    let refused = Layout::new(SMALL, Placement::Internal, 1, Some(4095));
    assert_eq!(refused, Err(LayoutError::DataSize { bytes: 4095 }));
}

#[test]
fn impossible_inputs_are_named_with_their_numbers() {
    let area = |offset, available| Placement::External { offset, available };
    assert_eq!(
        Layout::new(SMALL, Placement::Internal, 0, None),
        Err(LayoutError::PeerCount { found: 0 })
    );
    assert_eq!(
        Layout::new(SMALL, Placement::Internal, 32, None),
        Err(LayoutError::PeerCount { found: 32 })
    );
    assert_eq!(
        Layout::new(1 << 30, area(0, 40960), 1, None),
        Err(LayoutError::MetadataAreaTooSmall {
            available: 40960,
            required: 13 * 4096,
            data_bytes: 1 << 30
        })
    );
    assert_eq!(
        Layout::new(SMALL, area(512, SMALL), 1, None),
        Err(LayoutError::UnalignedOffset { offset: 512 })
    );
    assert_eq!(
        Layout::new(SMALL, area(!4095, 8192), 1, None),
        Err(LayoutError::OffsetOverflow {
            offset: !4095,
            available: 8192
        })
    );
    let data_bytes = !4095;
    assert_eq!(
        Layout::new(u64::MAX, area(0, u64::MAX), 31, None),
        Err(LayoutError::TooLarge { data_bytes })
    );
}

#[test]
fn data_is_a_multiple_of_a_block_and_ends_with_the_last_block_number() {
    let area = Placement::External {
        offset: 0,
        available: u64::MAX,
    };
    let with = |bytes| Layout::with_data(u64::MAX, area, 31, bytes);
    for bytes in [0, 1, 4095, 4097] {
        assert_eq!(with(bytes), Err(LayoutError::DataSize { bytes }));
    }
    assert_eq!(with(4096).unwrap().bits(), 1);
    assert_eq!(with(MAX_DATA_BYTES).unwrap().bitmap_blocks(), u32::MAX);
    assert_eq!(
        Layout::most_data(u64::MAX, area, 1, None),
        MAX_DATA_BYTES,
        "the same of a device without end"
    );
    let data_bytes = MAX_DATA_BYTES + 4096;
    assert_eq!(with(data_bytes), Err(LayoutError::TooLarge { data_bytes }));
}

#[test]
fn a_place_for_two_superblocks_has_two_blocks() {
    let internal =
        |device_bytes, slot| Layout::superblock_offset(device_bytes, Placement::Internal, slot);
    assert_eq!(internal(8192, 0), Ok(4096));
    assert_eq!(internal(8192, 1), Ok(0));
    let refused = LayoutError::DeviceTooSmall {
        device_bytes: 8191,
        required: 8192,
    };
    assert_eq!(internal(8191, 0), Err(refused));
    let external = |available| {
        let offset = 4096;
        Layout::superblock_offset(SMALL, Placement::External { offset, available }, 1)
    };
    assert_eq!(external(8192), Ok(8192));
    let refused = LayoutError::MetadataAreaTooSmall {
        available: 8191,
        required: 8192,
        data_bytes: 0,
    };
    assert_eq!(external(8191), Err(refused));
}

#[test]
fn indexed_windows_are_128_mib_apart_and_end_with_the_device() {
    let window = Placement::indexed(3, 4 * INDEXED_WINDOW).unwrap();
    assert_eq!(
        window,
        Placement::External {
            offset: 3 * INDEXED_WINDOW,
            available: INDEXED_WINDOW
        }
    );
    let last = Placement::indexed(1, INDEXED_WINDOW + 8192).unwrap();
    assert_eq!(
        last,
        Placement::External {
            offset: INDEXED_WINDOW,
            available: 8192
        }
    );
    assert_eq!(
        Placement::indexed(1, INDEXED_WINDOW),
        Err(LayoutError::IndexOutside {
            index: 1,
            device_bytes: INDEXED_WINDOW
        })
    );
    assert!(Placement::indexed(u32::MAX, u64::MAX).is_ok());
}

#[test]
#[should_panic(expected = "bitmap block 4294967295")]
fn address_outside_the_layout_is_never_given_an_offset() {
    let layout = Layout::new(1 << 30, Placement::Internal, 1, None).unwrap();
    let _offset = layout.offset(BlockAddress::Bitmap {
        peer_slot: 0,
        block: u32::MAX,
    });
}

/// Sizes of every magnitude, not only huge ones.
fn any_size() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..52).prop_map(|(bits, shift)| bits >> shift)
}

fn any_placement() -> impl Strategy<Value = Placement> {
    prop_oneof![
        Just(Placement::Internal),
        (0_u64..1 << 40, any_size()).prop_map(|(block, available)| Placement::External {
            offset: block * 4096,
            available
        }),
    ]
}

proptest! {
    #[test]
    fn every_block_has_its_own_place_inside_the_area(
        device_bytes in any_size(),
        placement in any_placement(),
        peers in 1_u8..=31,
        limit in proptest::option::of(any_size()),
        picks in proptest::collection::vec(any::<u64>(), 20),
    ) {
        let Ok(layout) = Layout::new(device_bytes, placement, peers, limit) else {
            return Ok(());
        };
        let (low, high) = match placement {
            Placement::Internal => (layout.data_bytes(), device_bytes),
            Placement::External { offset, available } => (offset, offset + available),
        };
        prop_assert!(layout.data_bytes() <= device_bytes);
        let edges = [0, 1, 2, 3, 4, layout.block_count() - 1];
        for number in picks.iter().map(|pick| pick % layout.block_count()).chain(edges) {
            // Number to address to offset to number: no two addresses share a place.
            let Some(address) = layout.address(number) else {
                prop_assert!(number >= layout.block_count());
                continue;
            };
            let offset = layout.offset(address);
            prop_assert_eq!(layout.run(number, 1).0, offset);
            prop_assert!(offset >= low && offset + 4096 <= high, "{:?} at {}", address, offset);
        }
        prop_assert_eq!(layout.address(layout.block_count()), None);
    }

    #[test]
    fn blocks_of_a_small_layout_never_overlap(
        megabytes in 1_u64..400, peers in 1_u8..=31, internal in any::<bool>(),
    ) {
        let device_bytes = megabytes << 20;
        let external = Placement::External { offset: 4096, available: 1 << 30 };
        let placement = if internal { Placement::Internal } else { external };
        let Ok(layout) = Layout::new(device_bytes, placement, peers, None) else {
            return Ok(());
        };
        let mut offsets: Vec<u64> = (0..2)
            .map(|slot| layout.offset(BlockAddress::Superblock { slot }))
            .collect();
        for block in 0..layout.intent_blocks() {
            offsets.extend((0..2).map(|slot| layout.offset(BlockAddress::Intent { block, slot })));
        }
        for peer_slot in 0..peers {
            offsets.extend((0..layout.bitmap_blocks())
                .map(|block| layout.offset(BlockAddress::Bitmap { peer_slot, block })));
        }
        let count = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        prop_assert_eq!(offsets.len(), count);
        prop_assert_eq!(count as u64 * 4096, layout.metadata_bytes());
        prop_assert_eq!(offsets[count - 1] - offsets[0] + 4096, layout.metadata_bytes());
    }

    #[test]
    fn a_larger_device_never_holds_less(
        device_bytes in any_size(), more in any_size(), peers in 1_u8..=31,
    ) {
        let larger = device_bytes.saturating_add(more);
        let bytes = |size| {
            Layout::new(size, Placement::Internal, peers, None).map(|layout| layout.data_bytes())
        };
        match (bytes(device_bytes), bytes(larger)) {
            (Ok(small), Ok(large)) => prop_assert!(small <= large),
            (Ok(_), Err(error)) => {
                prop_assert!(matches!(error, LayoutError::TooLarge { .. }), "{}", error);
            }
            (Err(_), _) => {}
        }
    }

    #[test]
    fn internal_layout_wastes_no_block_that_could_hold_data(
        device_bytes in 1_u64 << 16..1 << 50, peers in 1_u8..=31,
    ) {
        let Ok(layout) = Layout::new(device_bytes, Placement::Internal, peers, None) else {
            return Ok(());
        };
        let more = layout.data_bytes() + 4096;
        let refused = Layout::with_data(device_bytes, Placement::Internal, peers, more);
        prop_assert!(matches!(refused, Err(LayoutError::DeviceTooSmall { .. })), "{:?}", refused);
    }

    #[test]
    fn growing_data_in_place_moves_no_block(
        small in 1_u64..1 << 30, more in 0_u64..1 << 30, peers in 1_u8..=31,
        internal in any::<bool>(), pick in any::<u64>(),
    ) {
        let device_bytes = 1 << 50;
        let external = Placement::External { offset: 0, available: 1 << 50 };
        let placement = if internal { Placement::Internal } else { external };
        let layout = |blocks: u64| Layout::with_data(device_bytes, placement, peers, blocks * 4096);
        let (before, after) = (layout(small).unwrap(), layout(small + more).unwrap());
        let address = before.address(pick % before.block_count()).unwrap();
        prop_assert_eq!(before.offset(address), after.offset(address));
    }

    #[test]
    fn required_bytes_are_what_a_layout_accepts(blocks in 1_u64..1 << 36, peers in 1_u8..=31) {
        let required = required_external_bytes(blocks * 4096, peers);
        let with = |available| {
            let area = Placement::External { offset: 0, available };
            Layout::with_data(u64::MAX, area, peers, blocks * 4096)
        };
        prop_assert!(with(required).is_ok());
        prop_assert!(with(required - 1).is_err());
    }
}

#[test]
fn the_most_data_is_what_device_area_and_limit_allow() {
    let area = |available| Placement::External {
        offset: 0,
        available,
    };
    let gib = 1 << 30;
    let enough = required_external_bytes(gib, 1);
    assert_eq!(Layout::most_data(gib, area(enough), 1, None), gib);
    assert_eq!(Layout::most_data(gib, area(enough), 1, Some(5000)), 4096);
    assert_eq!(Layout::most_data(4 * gib, area(0), 1, None), 0);
    // An area made for 1 GiB has room for the bitmap blocks it rounds up to, and not for more.
    let most = Layout::most_data(4 * gib, area(enough), 1, None);
    assert_eq!(most, 9 * BYTES_PER_BITMAP_BLOCK);
    assert!(Layout::with_data(4 * gib, area(enough), 1, most).is_ok());
    assert!(Layout::with_data(4 * gib, area(enough), 1, most + 4096).is_err());
    for device in [1 << 20, gib, gib + 12345, 1 << 41] {
        let most = Layout::most_data(device, Placement::Internal, 3, None);
        let layout = Layout::new(device, Placement::Internal, 3, None).expect("there is room");
        assert_eq!(most, layout.data_bytes());
    }
}
