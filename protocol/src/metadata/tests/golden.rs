//! The bytes of each kind of block, fixed for ever. The fixtures were computed by a separate
//! program from the table in `docs/metadata.md`.

use super::*;

fn golden_superblock() -> Superblock {
    let mut peers = core::array::from_fn(|_| PeerSlot::default());
    peers[0] = peer(2, "beta", 0xAABB_CCDD_EEFF_0011);
    peers[0].flags = PeerFlags {
        full_sync: true,
        seen: true,
        was_primary: true,
        ..PeerFlags::default()
    };
    peers[0].counted_since = 1_700_000_123;
    peers[7] = peer(9, "gärtner", 0);
    peers[30] = peer(31, &"x".repeat(63), 5);
    peers[30].flags = PeerFlags {
        peer_outdated: true,
        may_have_current: true,
        ..PeerFlags::default()
    };
    Superblock {
        resource: ResourceName::new("r0").unwrap(),
        node: NodeName::new("alpha").unwrap(),
        node_id: NodeId(1),
        volume: VolumeNumber(2),
        device_id: 0x0123_4567_89AB_CDEF,
        data_bytes: 1 << 30,
        device_bytes: (1 << 30) + 4097,
        metadata_offset: Some(128 << 20),
        max_peers: 31,
        created_at: 1_700_000_000,
        generation: GenerationId(0x1122_3344_5566_7788),
        history: core::array::from_fn(|index| GenerationId(0x4800_0000_0000_0000 + index as u64)),
        flags: DiskFlags {
            consistent: true,
            primary: true,
            outdated: true,
            ..DiskFlags::default()
        },
        peers,
        attach_epoch: 7,
        boot_id: u128::from_le_bytes(core::array::from_fn(|index| u8::try_from(index).unwrap())),
        sequence: 42,
    }
}

fn peer(node_id: u8, name: &str, generation: u64) -> PeerSlot {
    PeerSlot {
        node_id: Some(NodeId(node_id)),
        name: NodeName::new(name).unwrap(),
        bitmap_generation: GenerationId(generation),
        counted_since: 0,
        flags: PeerFlags::default(),
    }
}

#[test]
fn superblock_has_the_golden_bytes() {
    let golden = fixture(include_str!("../../../fixtures/metadata-v1-superblock.hex"));
    assert_bytes(&golden_superblock().encode(), &golden);
    assert_eq!(Superblock::decode(&golden[..]), Ok(golden_superblock()));
}

#[test]
fn intent_block_has_the_golden_bytes() {
    let golden = fixture(include_str!("../../../fixtures/metadata-v1-intent.hex"));
    let words = page(&BITS);
    let identity = golden_superblock().identity();
    let (slot, bytes) = encode_intent_block(identity, 7, 3, &words, 9);
    assert_bytes(&bytes, &golden);
    assert_eq!(slot, 1);
    assert_eq!(
        decode_intent_block(&golden[..], identity, 3, 1),
        Ok((7, 9, Box::new(words)))
    );
}

#[test]
fn bitmap_block_has_the_golden_bytes() {
    let golden = fixture(include_str!("../../../fixtures/metadata-v1-bitmap.hex"));
    let words = page(&BITS);
    let identity = golden_superblock().identity();
    assert_bytes(&encode_bitmap_block(identity, 5, 1000, &words, 10), &golden);
    assert_eq!(
        decode_bitmap_block(&golden[..], identity, 5, 1000),
        Ok((10, Box::new(words)))
    );
}

#[test]
fn no_single_changed_byte_is_accepted_in_any_kind_of_block() {
    let identity = golden_superblock().identity();
    let superblock = golden_superblock().encode();
    let (_, intent) = encode_intent_block(identity, 7, 3, &page(&BITS), 9);
    let bitmap = encode_bitmap_block(identity, 5, 1000, &page(&BITS), 10);
    for at in 0..BLOCK_BYTES {
        for change in [0x01, 0x80, 0xFF] {
            let changed = |block: &Block| {
                let mut block = *block;
                block[at] ^= change;
                block
            };
            assert!(
                Superblock::decode(&changed(&superblock)).is_err(),
                "superblock byte {at}"
            );
            assert!(
                decode_intent_block(&changed(&intent), identity, 3, 1).is_err(),
                "intent byte {at}"
            );
            assert!(
                decode_bitmap_block(&changed(&bitmap), identity, 5, 1000).is_err(),
                "bitmap byte {at}"
            );
        }
    }
}

#[test]
fn a_block_of_any_other_length_is_refused() {
    let bytes = golden_superblock().encode();
    for length in [0, 1, 63, 64, 511, 4095] {
        assert_eq!(
            Superblock::decode(&bytes[..length]),
            Err(BlockError::Length { found: length })
        );
    }
}

fn fixture(text: &str) -> Box<Block> {
    let mut block = empty_block();
    for row in text.lines().filter(|row| !row.starts_with('#')) {
        let (offset, hex) = row.split_once(' ').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for index in 0..16 {
            let byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap();
            block[offset + index] = byte;
        }
    }
    block
}

fn assert_bytes(found: &Block, golden: &Block) {
    let differs = (0..BLOCK_BYTES).find(|at| found[*at] != golden[*at]);
    assert_eq!(differs, None, "first byte that differs");
}

const BITS: [u64; 6] = [0, 63, 64, 3583, 3584, 32255];
