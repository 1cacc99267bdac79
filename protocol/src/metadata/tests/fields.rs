//! Values of single fields at both sides of what they may be.

use super::*;

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
