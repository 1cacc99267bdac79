//! What create-md would find on a device.

use super::*;

const SIZE: u64 = 2 << 20;

fn put(device: &mut Device, offset: u64, bytes: &[u8]) {
    for (at, byte) in (offset..).zip(bytes) {
        let start = at / 4096 * 4096;
        let mut block = device.block(start);
        block[usize::try_from(at - start).unwrap()] = *byte;
        device.blocks.insert(start, block);
    }
}

fn found(device: &mut Device) -> Vec<Found> {
    let size = device.bytes;
    probe(&mut |offset, buffer| device.read(offset, buffer), size).unwrap()
}

fn found_with(offset: u64, bytes: &[u8]) -> Vec<Found> {
    let mut device = Device::of(SIZE);
    put(&mut device, offset, bytes);
    found(&mut device)
}

fn file_system(name: &'static str) -> Found {
    Found::FileSystem { name, bytes: None }
}

#[test]
fn nothing_is_found_on_an_empty_device_of_any_size() {
    for size in [0, 1, 511, 512, 4096, 8192, 8193, 65536, SIZE, SIZE + 513] {
        assert_eq!(found(&mut Device::of(size)), [], "{size}");
    }
}

#[test]
fn own_metadata_is_found_at_either_end_and_when_damaged() {
    let mut volume = Volume::in_sync(SMALL);
    let ours = Found::RbdMetadata {
        resource: "r0".into(),
        node: "alpha".into(),
        volume: VolumeNumber(0),
        version: 1,
    };
    assert_eq!(found(&mut volume.device), core::slice::from_ref(&ours));
    volume.damage(BlockAddress::Superblock { slot: 0 }, |block| block[99] ^= 1);
    assert_eq!(found(&mut volume.device), core::slice::from_ref(&ours));
    volume.damage(BlockAddress::Superblock { slot: 1 }, |block| block[8] = 9);
    assert!(matches!(
        found(&mut volume.device)[..],
        [Found::UnreadableRbdMetadata(BlockError::Checksum { .. })]
    ));
    let area = Placement::External {
        offset: 0,
        available: SIZE,
    };
    let layout = Layout::new(SMALL, area, 1, None).unwrap();
    let mut device = Device::of(SIZE);
    create(&Superblock::new(creation(), &layout), &layout).for_each(|write| device.write(write));
    assert_eq!(found(&mut device), [ours]);
}

#[test]
fn a_future_version_of_our_metadata_is_not_nothing() {
    let mut bytes = *b"rbdmeta\0\x02\0";
    assert_eq!(
        found_with(SIZE - 8192, &bytes),
        [Found::UnreadableRbdMetadata(BlockError::FutureVersion {
            found: 2,
            supported: 1
        })]
    );
    bytes[0] = b'R';
    assert_eq!(found_with(SIZE - 8192, &bytes), []);
}

#[test]
fn drbd_metadata_is_found_at_the_end_or_the_start() {
    for offset in [SIZE - 4096 + 60, 60] {
        for (magic, version) in [(0x6B, 8), (0x6C, 8), (0x6D, 9)] {
            let bytes = [0x83, 0x74, 0x02, magic];
            assert_eq!(found_with(offset, &bytes), [Found::Drbd { version }]);
        }
    }
}

#[test]
fn file_systems_are_told_apart_by_signature() {
    assert_eq!(
        found_with(0x1_0000, &[1, 0x16, 0x19, 0x70, 0, 0, 0, 1]),
        [file_system("gfs2")]
    );
    assert_eq!(found_with(0x1000, b"OCFSV2"), [file_system("ocfs2")]);
    assert_eq!(found_with(0, b"LUKS\xBA\xBE"), [file_system("crypto_LUKS")]);
    assert_eq!(found_with(3, b"NTFS    "), [file_system("ntfs")]);
    assert_eq!(found_with(82, b"FAT32   "), [file_system("vfat")]);
    assert_eq!(found_with(0x8001, b"CD001"), [file_system("iso9660")]);
}

#[test]
fn swap_space_of_either_kind_is_found_at_the_end_of_a_page_of_any_size() {
    for page in [4096, 8192, 16384, 32768, 65536] {
        for magic in [b"SWAPSPACE2", b"SWAP-SPACE"] {
            assert_eq!(
                found_with(page - 10, magic),
                [file_system("swap")],
                "{page}"
            );
            assert_eq!(found_with(page - 9, magic), [], "{page}");
        }
    }
}

#[test]
fn file_systems_with_a_size_in_their_header_tell_it() {
    let xfs = b"XFSB\0\0\x10\0\0\0\0\0\0\0\x01\0";
    assert_eq!(
        found_with(0, xfs),
        [Found::FileSystem {
            name: "xfs",
            bytes: Some(0x1000 * 0x100)
        }]
    );
    let mut device = Device::of(SIZE);
    put(&mut device, 0x1_0040, b"_BHRfS_M");
    put(&mut device, 0x1_0070, &77_u64.to_le_bytes());
    assert_eq!(
        found(&mut device),
        [Found::FileSystem {
            name: "btrfs",
            bytes: Some(77)
        }]
    );
}

/// What is found of an ext with these feature words and so many blocks of 4 KiB, of which the upper
/// half of the number stands apart.
fn ext(compatible: u32, incompatible: u32, read_only: u32, blocks: [u32; 2]) -> Vec<Found> {
    let mut device = Device::of(SIZE);
    let [low, high] = blocks;
    for (at, word) in [
        (0x404, low),
        (0x418, 2),
        (0x45C, compatible),
        (0x460, incompatible),
        (0x464, read_only),
        (0x550, high),
    ] {
        put(&mut device, at, &word.to_le_bytes());
    }
    put(&mut device, 0x438, &[0x53, 0xEF]);
    found(&mut device)
}

#[test]
fn ext_is_called_by_the_features_it_has() {
    let cases = [
        (0, 2, 0, "ext2"),
        (0, 2, 0x7, "ext2"),
        (4, 2, 0, "ext3"),
        (4, 0x16, 0x7, "ext3"),
        (4, 0x42, 0, "ext4"),
        (4, 0x2, 0x8, "ext4"),
        (0, 0x42, 0x7, "ext4"),
    ];
    for (compatible, incompatible, read_only, name) in cases {
        let bytes = Some(4096 * 1000);
        assert_eq!(
            ext(compatible, incompatible, read_only, [1000, 0]),
            [Found::FileSystem { name, bytes }],
            "{compatible:#x} {incompatible:#x} {read_only:#x}"
        );
    }
}

#[test]
fn the_size_of_ext_has_64_bits_only_if_it_says_so() {
    let name = "ext4";
    let bytes = Some(4096 * ((3 << 32) + 1000));
    assert_eq!(
        ext(4, 0xC2, 0, [1000, 3]),
        [Found::FileSystem { name, bytes }]
    );
    let bytes = Some(4096 * 1000);
    assert_eq!(
        ext(4, 0x42, 0, [1000, 3]),
        [Found::FileSystem { name, bytes }]
    );
}

#[test]
fn members_of_volume_groups_and_raids_are_found_at_their_offsets() {
    let mut device = Device::of(SIZE);
    put(&mut device, 512, b"LABELONE");
    put(&mut device, 536, b"LVM2 001");
    assert_eq!(found(&mut device), [Found::Member("LVM2")]);
    assert_eq!(
        found_with(512, b"LABELONE"),
        [],
        "a label of something else"
    );
    assert_eq!(found_with(536, b"LVM2 001"), [], "no label");
    let magic = 0xA92B_4EFC_u32.to_le_bytes();
    for offset in [0, 4096, SIZE - 8192, SIZE - 65536] {
        assert_eq!(
            found_with(offset, &magic),
            [Found::Member("linux_raid")],
            "{offset}"
        );
    }
    let zfs = 0x00BA_B10C_u64;
    // The rings of the four labels, two at each end.
    for ring in [128 << 10, 384 << 10, SIZE - (384 << 10), SIZE - (128 << 10)] {
        for magic in [zfs.to_le_bytes(), zfs.to_be_bytes()] {
            assert_eq!(
                found_with(ring + (9 << 10), &magic),
                [Found::Member("zfs")],
                "{ring}"
            );
        }
    }
}

#[test]
fn partition_tables_are_found_and_boot_sectors_are_not_taken_for_one() {
    for offset in [512, 4096, SIZE - 512, SIZE - 4096] {
        assert_eq!(
            found_with(offset, b"EFI PART"),
            [Found::PartitionTable("gpt")],
            "{offset}"
        );
    }
    assert_eq!(found_with(510, &[0x55, 0xAA]), []);
    let with_entry = |kind: u8, sectors: u8| {
        let mut device = Device::of(SIZE);
        put(&mut device, 510, &[0x55, 0xAA]);
        let entry = [0x80, 0, 0, 0, kind, 0, 0, 0, 0, 8, 0, 0, 0, 0, sectors, 0];
        put(&mut device, 446, &entry);
        found(&mut device)
    };
    assert_eq!(with_entry(0x83, 1), [Found::PartitionTable("dos")]);
    assert_eq!(with_entry(0x83, 0), [], "an entry of no sectors");
    assert_eq!(with_entry(0, 1), [], "an entry of no kind");
}

#[test]
fn several_contents_are_all_reported_ours_first() {
    let mut volume = Volume::in_sync(SMALL);
    put(&mut volume.device, 0x438, &[0x53, 0xEF]);
    let names = found(&mut volume.device);
    assert!(matches!(
        names[..],
        [
            Found::RbdMetadata { .. },
            Found::FileSystem { name: "ext2", .. }
        ]
    ));
}
