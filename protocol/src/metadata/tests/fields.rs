//! Values of single fields at both sides of what they may be.

use super::*;
use alloc::string::ToString;
use std::hash::{DefaultHasher, Hash, Hasher};

#[test]
fn names_that_do_not_fit_are_refused_before_they_reach_a_block() {
    assert_eq!(
        ResourceName::new(&"n".repeat(128)),
        Err(NameTooLong {
            bytes: 128,
            most: 127
        })
    );
    assert!(ResourceName::new(&"n".repeat(127)).is_ok());
    assert_eq!(
        NodeName::new(&"ü".repeat(32)),
        Err(NameTooLong {
            bytes: 64,
            most: 63
        })
    );
}

#[test]
fn names_are_the_same_if_all_their_letters_are() {
    let name = |text| NodeName::new(text).unwrap();
    let hash = |name: &NodeName| {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    };
    let alpha = name("alpha");
    assert_eq!(alpha, name("alpha"));
    assert_eq!(hash(&alpha), hash(&name("alpha")));
    for other in ["", "alph", "alphb", "alphaa", "Alpha"] {
        assert_ne!(alpha, name(other));
        assert_ne!(hash(&alpha), hash(&name(other)), "{other}");
    }
    assert_eq!(name(""), NodeName::default());
    assert_eq!(alloc::format!("{alpha} {alpha:?}"), "alpha \"alpha\"");
}

#[test]
fn a_valid_checksum_does_not_excuse_an_impossible_field() {
    let superblock = Volume::in_sync(SMALL).superblock;
    let cases: [(usize, u8, &str); 15] = [
        (14, 32, "node-id"),
        (15, 1, "reserved header field"),
        (47, 0x80, "sequence"),
        (39, 0x80, "attach epoch"),
        (64, 128, "resource name"),
        (100, b'x', "resource name"),
        (193, 0xFF, "node name"),
        (312, 1 << 5, "disk flags"),
        (314, 2, "placement"),
        (315, 0, "peer count"),
        (511, 1, "reserved bytes"),
        (512 + 73, 1 << 6, "peer flags"),
        (512 + 82, 1, "reserved bytes of a peer"),
        (512 + 485, 1, "reserved bytes"),
        (3 * 512 - 4, 0xFF, "seal of sector"),
    ];
    for (at, value, what) in cases {
        let mut block = superblock.encode();
        block[at] = value;
        rechecksum(&mut block);
        match Superblock::decode(&block[..]) {
            Err(BlockError::Field { what: found, .. }) => assert_eq!(found, what),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn reserved_fields_of_the_header_are_zero_each_of_them() {
    let superblock = Volume::in_sync(SMALL).superblock;
    // One byte of each field, then of several at once.
    for bytes in [
        &[15][..],
        &[28],
        &[31],
        &[48],
        &[55],
        &[15, 28],
        &[15, 48],
        &[28, 48],
        &[15, 28, 48],
    ] {
        let mut block = superblock.encode();
        for at in bytes {
            block[*at] = 1;
        }
        rechecksum(&mut block);
        let result = Superblock::decode(&block[..]);
        let what = "reserved header field";
        assert!(
            matches!(result, Err(BlockError::Field { what: found, .. }) if found == what),
            "{bytes:?}: {result:?}"
        );
    }
}

#[test]
fn sequence_and_epoch_end_at_the_62nd_power_of_two_and_volumes_at_65534() {
    let last = Superblock {
        volume: VolumeNumber(65534),
        attach_epoch: 1 << 62,
        sequence: 1 << 62,
        ..Volume::in_sync(SMALL).superblock
    };
    let block = last.encode();
    assert_eq!(Superblock::decode(&block[..]), Ok(last));
    for (at, what, limit) in [
        (40, "sequence", 1 << 62),
        (32, "attach epoch", 1 << 62),
        (12, "volume", 65534),
    ] {
        let mut block = block.clone();
        block[at] = block[at].wrapping_add(1);
        rechecksum(&mut block);
        let found = limit + 1;
        let refused = BlockError::Field { what, found };
        assert_eq!(Superblock::decode(&block[..]), Err(refused));
    }
}

#[test]
fn what_went_wrong_is_said_with_its_numbers() {
    let unreadable = BlockError::Unreadable(ReadError { code: 5 });
    assert_eq!(
        unreadable.to_string(),
        "unreadable block: read failed with error number 5"
    );
    let text = |recorded, found| OpenError::OtherPlacement { recorded, found }.to_string();
    assert_eq!(
        text(None, Some(4096)),
        "metadata was created at the end of its own device, found externally at offset 4096"
    );
    assert_eq!(
        text(Some(4096), None),
        "metadata was created externally at offset 4096, found at the end of its own device"
    );
}

/// Recomputes every checksum, so that only the meaning of the fields is left to refuse.
fn rechecksum(block: &mut Block) {
    let device_id: [u8; 8] = *block[16..].first_chunk().unwrap();
    for sector in 1..8_u8 {
        let start = usize::from(sector) * 512;
        let (content, sequence) = (&block[start..start + 504], &block[start + 508..start + 512]);
        let covered = [&device_id, &[sector][..], content, sequence].concat();
        let checksum = crc32fast::hash(&covered).to_le_bytes();
        block[start + 504..start + 508].copy_from_slice(&checksum);
    }
    block[60..64].fill(0);
    let checksum = crc32fast::hash(&block[..]);
    block[60..64].copy_from_slice(&checksum.to_le_bytes());
}
