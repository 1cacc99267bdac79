//! What is on a device already: the question `create-md` asks before it destroys anything.
//!
//! Recognises contents by their published signatures, at the start and, for those that live there,
//! at the end. Never decides whether overwriting is acceptable; a device on which nothing is found
//! may still hold data.

use super::header::MAGIC;
use super::layout::{Layout, Placement};
use super::{BlockError, ReadError, Reader, Superblock, empty_block};
use crate::ids::VolumeNumber;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Something recognised on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Metadata of ours that verifies.
    RbdMetadata {
        /// Its resource.
        resource: String,
        /// Its node.
        node: String,
        /// Its volume.
        volume: VolumeNumber,
        /// Its format version.
        version: u16,
    },
    /// Metadata of ours that is damaged or of a newer version.
    UnreadableRbdMetadata(BlockError),
    /// Metadata of DRBD.
    Drbd {
        /// 8 or 9: the generation of the format.
        version: u8,
    },
    /// A file system, swap space or encrypted container.
    FileSystem {
        /// What `blkid` would call it.
        name: &'static str,
        /// How much of the device it uses, where its header says so.
        bytes: Option<u64>,
    },
    /// A member of a volume manager or RAID: its name.
    Member(&'static str),
    /// A partition table: its name.
    PartitionTable(&'static str),
}

/// Everything recognised on a device of `device_bytes`, ours first; empty when nothing was.
pub fn probe(read: &mut Reader<'_>, device_bytes: u64) -> Result<Vec<Found>, ReadError> {
    let mut window = Window { read, device_bytes };
    let mut found = Vec::new();
    let whole = Placement::External {
        offset: 0,
        available: device_bytes,
    };
    for placement in [Placement::Internal, whole] {
        found.extend(probe_own(&mut window, placement)?);
    }
    found.extend(probe_drbd(&mut window)?);
    found.extend(probe_file_systems(&mut window)?);
    found.extend(probe_members(&mut window)?);
    found.extend(probe_partitions(&mut window)?);
    Ok(found)
}

struct Window<'r, 'a> {
    read: &'r mut Reader<'a>,
    device_bytes: u64,
}

impl Window<'_, '_> {
    fn bytes<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>, ReadError> {
        Ok(self
            .run(offset, N)?
            .and_then(|bytes| bytes.first_chunk().copied()))
    }

    /// The bytes at an offset, or `None` where the device has none. Reads whole 4 KiB blocks, since
    /// a device opened for direct I/O allows nothing else; only the tail of a device whose size is
    /// no multiple of that is read short.
    fn run(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(end) = offset
            .checked_add(length as u64)
            .filter(|end| *end <= self.device_bytes)
        else {
            return Ok(None);
        };
        let start = offset / BLOCK * BLOCK;
        let end = end
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(u64::MAX)
            .min(self.device_bytes);
        let (Ok(all), Ok(skip)) = (
            usize::try_from(end - start),
            usize::try_from(offset - start),
        ) else {
            return Ok(None);
        };
        let mut bytes = vec![0; all];
        (self.read)(start, &mut bytes)?;
        Ok(Some(bytes[skip..skip + length].to_vec()))
    }

    fn has<const N: usize>(&mut self, offset: u64, magic: &[u8; N]) -> Result<bool, ReadError> {
        Ok(self
            .bytes::<N>(offset)?
            .is_some_and(|found| found == *magic))
    }
}

fn probe_own(
    window: &mut Window<'_, '_>,
    placement: Placement,
) -> Result<Option<Found>, ReadError> {
    let mut damaged = None;
    for slot in [0, 1] {
        let Ok(offset) = Layout::superblock_offset(window.device_bytes, placement, slot) else {
            return Ok(None);
        };
        let mut block = empty_block();
        (window.read)(offset, &mut block[..])?;
        match Superblock::decode(&block[..]) {
            Ok(superblock) => {
                return Ok(Some(Found::RbdMetadata {
                    resource: superblock.resource.as_str().into(),
                    node: superblock.node.as_str().into(),
                    volume: superblock.volume,
                    version: super::VERSION,
                }));
            }
            Err(BlockError::NoSignature { .. }) => {}
            Err(error) => {
                debug_assert!(block.starts_with(&MAGIC.to_le_bytes()));
                damaged = damaged.or(Some(Found::UnreadableRbdMetadata(error)));
            }
        }
    }
    Ok(damaged)
}

/// DRBD's superblock: last aligned 4 KiB of the device, or the start of an external one; a
/// big-endian magic behind sizes, generations and flags.
fn probe_drbd(window: &mut Window<'_, '_>) -> Result<Option<Found>, ReadError> {
    let end = (window.device_bytes / BLOCK).saturating_sub(1) * BLOCK;
    for offset in [end, 0] {
        let Some(magic) = window.bytes::<4>(offset + 60)? else {
            continue;
        };
        match u32::from_be_bytes(magic) {
            0x8374_026B | 0x8374_026C => return Ok(Some(Found::Drbd { version: 8 })),
            0x8374_026D => return Ok(Some(Found::Drbd { version: 9 })),
            _ => {}
        }
    }
    Ok(None)
}

fn probe_file_systems(window: &mut Window<'_, '_>) -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    found.extend(probe_ext(window)?);
    for (name, offset, magic) in FILE_SYSTEMS {
        let Some(bytes) = window.bytes::<16>(*offset)? else {
            continue;
        };
        let already = found
            .iter()
            .any(|one| matches!(one, Found::FileSystem { name: other, .. } if other == name));
        if bytes.starts_with(magic) && !already {
            let bytes = used_bytes(window, name)?;
            found.push(Found::FileSystem { name, bytes });
        }
    }
    for page in SWAP_PAGES {
        if window.has(page - 10, b"SWAPSPACE2")? || window.has(page - 10, b"SWAP-SPACE")? {
            found.push(Found::FileSystem {
                name: "swap",
                bytes: None,
            });
        }
    }
    Ok(found)
}

/// ext2, 3 and 4 share a magic and differ in feature bits.
fn probe_ext(window: &mut Window<'_, '_>) -> Result<Option<Found>, ReadError> {
    let Some(superblock) = window.bytes::<0x154>(0x400)? else {
        return Ok(None);
    };
    if superblock[0x38..0x3A] != [0x53, 0xEF] {
        return Ok(None);
    }
    let word = |at: usize| le32(&superblock, at);
    let (compatible, incompatible, read_only) = (word(0x5C), word(0x60), word(0x64));
    let only_in_ext4 = incompatible & !0x16 != 0 || read_only & !0x7 != 0;
    let name = match (only_in_ext4, compatible & 0x4 != 0) {
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    };
    let wide = incompatible & 0x80 != 0;
    let high = if wide {
        u64::from(word(0x150)) << 32
    } else {
        0
    };
    let blocks = high | u64::from(word(0x04));
    let bytes = 1024_u64
        .checked_shl(word(0x18))
        .and_then(|size| size.checked_mul(blocks));
    Ok(Some(Found::FileSystem { name, bytes }))
}

/// The size a file system's own header gives, for those whose header is simple.
fn used_bytes(window: &mut Window<'_, '_>, name: &str) -> Result<Option<u64>, ReadError> {
    match name {
        "xfs" => Ok(window.bytes::<16>(0)?.and_then(|superblock| {
            let block_bytes = u32::from_be_bytes(*superblock[4..].first_chunk()?);
            let blocks = u64::from_be_bytes(*superblock[8..].first_chunk()?);
            blocks.checked_mul(block_bytes.into())
        })),
        "btrfs" => Ok(window.bytes::<8>(0x1_0070)?.map(u64::from_le_bytes)),
        _ => Ok(None),
    }
}

fn probe_members(window: &mut Window<'_, '_>) -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    for sector in 0..4 {
        if window.has(sector * SECTOR, b"LABELONE")?
            && window.has(sector * SECTOR + 24, b"LVM2 001")?
        {
            found.push(Found::Member("LVM2"));
        }
    }
    if probe_md_raid(window)? {
        found.push(Found::Member("linux_raid"));
    }
    if probe_zfs(window)? {
        found.push(Found::Member("zfs"));
    }
    Ok(found)
}

/// Version 1.1 at the start, 1.2 after 4 KiB, 1.0 and 0.90 at the end.
fn probe_md_raid(window: &mut Window<'_, '_>) -> Result<bool, ReadError> {
    let sectors = window.device_bytes / SECTOR;
    let version_1_0 = (sectors.saturating_sub(16) & !7) * SECTOR;
    let version_0_90 = (window.device_bytes & !0xFFFF).saturating_sub(0x1_0000);
    for offset in [0, 4096, version_1_0, version_0_90] {
        if window.has(offset, &MD_MAGIC.to_le_bytes())? {
            return Ok(true);
        }
    }
    // 0.90 is stored in the byte order of the machine that wrote it.
    window.has(version_0_90, &MD_MAGIC.to_be_bytes())
}

/// Four labels of 256 KiB, two at each end; the second half of each is a ring of uberblocks.
fn probe_zfs(window: &mut Window<'_, '_>) -> Result<bool, ReadError> {
    const LABEL: u64 = 256 << 10;
    let end = window.device_bytes / LABEL * LABEL;
    for label in [
        0,
        LABEL,
        end.saturating_sub(2 * LABEL),
        end.saturating_sub(LABEL),
    ] {
        let Some(ring) = window.run(label + LABEL / 2, ZFS_RING)? else {
            continue;
        };
        for uberblock in ring.chunks_exact(1024) {
            let magic = le64(uberblock, 0);
            if magic == ZFS_MAGIC || magic == ZFS_MAGIC.swap_bytes() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn probe_partitions(window: &mut Window<'_, '_>) -> Result<Option<Found>, ReadError> {
    let last = (window.device_bytes / SECTOR).saturating_sub(1) * SECTOR;
    let last_of_4k = (window.device_bytes / BLOCK).saturating_sub(1) * BLOCK;
    for offset in [512, 4096, last, last_of_4k] {
        if window.has(offset, b"EFI PART")? {
            return Ok(Some(Found::PartitionTable("gpt")));
        }
    }
    let Some(sector) = window.bytes::<512>(0)? else {
        return Ok(None);
    };
    // Boot sectors of file systems carry the same mark: ask for at least one plausible entry.
    let entries = || sector[446..510].chunks_exact(16);
    let plausible = sector[510..] == [0x55, 0xAA]
        && entries().all(|entry| entry[0] & 0x7F == 0)
        && entries().any(|entry| entry[4] != 0 && le32(entry, 12) != 0);
    Ok(plausible.then_some(Found::PartitionTable("dos")))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.copied().map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}

/// Signatures at fixed offsets from the start, under the names `blkid` prints.
const FILE_SYSTEMS: &[(&str, u64, &[u8])] = &[
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("gfs2", 0x1_0000, &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1]),
    ("ocfs2", 0x400, b"OCFSV2"),
    ("ocfs2", 0x800, b"OCFSV2"),
    ("ocfs2", 0x1000, b"OCFSV2"),
    ("ocfs2", 0x2000, b"OCFSV2"),
    ("crypto_LUKS", 0, b"LUKS\xBA\xBE"),
    ("crypto_LUKS", 0x4000, b"SKUL\xBA\xBE"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("vfat", 54, b"FAT12   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 82, b"FAT32   "),
    ("iso9660", 0x8001, b"CD001"),
    ("udf", 0x8001, b"BEA01"),
    ("f2fs", 0x400, &[0x10, 0x20, 0xF5, 0xF2]),
    ("jfs", 0x8000, b"JFS1"),
    ("reiserfs", 0x1_0034, b"ReIsEr"),
    ("squashfs", 0, b"hsqs"),
    (
        "bcache",
        0x1018,
        &[
            0xC6, 0x85, 0x73, 0xF6, 0x4E, 0x1A, 0x45, 0xCA, 0x82, 0x65, 0xF5, 0x7F, 0x48, 0xBA,
            0x6D, 0x81,
        ],
    ),
];

/// Page sizes whose last ten bytes may hold the swap signature.
const SWAP_PAGES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];

const MD_MAGIC: u32 = 0xA92B_4EFC;
const ZFS_MAGIC: u64 = 0x00BA_B10C;
const ZFS_RING: usize = 128 << 10;
const BLOCK: u64 = 4096;
const SECTOR: u64 = 512;
