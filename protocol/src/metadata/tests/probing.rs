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
    assert_eq!(found_with(4086, b"SWAPSPACE2"), [file_system("swap")]);
    assert_eq!(found_with(65526, b"SWAPSPACE2"), [file_system("swap")]);
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
    let ext = |compatible: u32, incompatible: u32| {
        let mut device = Device::of(SIZE);
        put(&mut device, 0x404, &1000_u32.to_le_bytes());
        put(&mut device, 0x418, &2_u32.to_le_bytes());
        put(&mut device, 0x438, &[0x53, 0xEF]);
        put(&mut device, 0x45C, &compatible.to_le_bytes());
        put(&mut device, 0x460, &incompatible.to_le_bytes());
        found(&mut device)
    };
    let bytes = Some(4096 * 1000);
    assert_eq!(
        ext(0, 2),
        [Found::FileSystem {
            name: "ext2",
            bytes
        }]
    );
    assert_eq!(
        ext(4, 2),
        [Found::FileSystem {
            name: "ext3",
            bytes
        }]
    );
    assert_eq!(
        ext(4, 0x42),
        [Found::FileSystem {
            name: "ext4",
            bytes
        }]
    );
}

#[test]
fn members_of_volume_groups_and_raids_are_found_at_their_offsets() {
    let mut device = Device::of(SIZE);
    put(&mut device, 512, b"LABELONE");
    put(&mut device, 536, b"LVM2 001");
    assert_eq!(found(&mut device), [Found::Member("LVM2")]);
    let magic = 0xA92B_4EFC_u32.to_le_bytes();
    for offset in [0, 4096, SIZE - 8192, SIZE - 65536] {
        assert_eq!(
            found_with(offset, &magic),
            [Found::Member("linux_raid")],
            "{offset}"
        );
    }
    let zfs = 0x00BA_B10C_u64;
    assert_eq!(
        found_with((128 + 9) << 10, &zfs.to_le_bytes()),
        [Found::Member("zfs")]
    );
    assert_eq!(
        found_with(SIZE - (64 << 10), &zfs.to_be_bytes()),
        [Found::Member("zfs")]
    );
}

#[test]
fn partition_tables_are_found_and_boot_sectors_are_not_taken_for_one() {
    assert_eq!(found_with(512, b"EFI PART"), [Found::PartitionTable("gpt")]);
    assert_eq!(
        found_with(SIZE - 512, b"EFI PART"),
        [Found::PartitionTable("gpt")]
    );
    assert_eq!(found_with(510, &[0x55, 0xAA]), []);
    let mut device = Device::of(SIZE);
    put(&mut device, 510, &[0x55, 0xAA]);
    put(
        &mut device,
        446,
        &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0],
    );
    assert_eq!(found(&mut device), [Found::PartitionTable("dos")]);
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
