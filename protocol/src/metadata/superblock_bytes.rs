//! The superblock's 4096 bytes. The offsets are assigned by hand; `docs/metadata.md` lists them.
//!
//! Sectors 1 to 7 each end in a seal (checksum and sequence), and the header seals sector 0. A
//! copy in which any sector is provably from an earlier write was never written completely, so it
//! is safe to fall back to the other slot; a copy that merely fails its checksum may have been
//! acknowledged.
//!
//! The seal's checksum must not be the sector's last field: bytes followed by their own CRC leave
//! an outer CRC of the same polynomial unchanged, and the block checksum would not see which of two
//! writes a sector came from.

use super::header::{Header, Kind, NO_PEER_SLOT, SECTOR_BYTES, Stamp, checksum, field, seal};
use super::layout::MAX_PEERS;
use super::{
    BLOCK_BYTES, Block, BlockError, DiskFlags, Name, PeerFlags, PeerSlot, Superblock, empty_block,
};
use crate::ids::{GenerationId, NodeId};
use alloc::boxed::Box;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SuperblockBytes {
    header: Header,
    first: FirstSector,
    middle: [PeerSector; MIDDLE_SECTORS],
    last: LastSector,
}

/// Bytes 64..512.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FirstSector {
    resource_length: u8,
    resource: [u8; 127],
    node_length: u8,
    node: [u8; 63],
    data_bytes: U64,
    device_bytes: U64,
    metadata_offset: U64,
    generation: U64,
    created_at: U64,
    boot_id: U128,
    flags: U16,
    placement: u8,
    max_peers: u8,
    reserved: [u8; 196],
}

/// Sectors 1..=6: five peers each.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PeerSector {
    peers: [PeerBytes; PEERS_PER_SECTOR],
    reserved: [u8; 24],
    seal: SectorSeal,
}

/// Sector 7: the last peer and the history.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LastSector {
    peer: PeerBytes,
    history: [U64; 32],
    reserved: [u8; 152],
    seal: SectorSeal,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PeerBytes {
    name_length: u8,
    name: [u8; 63],
    bitmap_generation: U64,
    node_id: u8,
    flags: u8,
    counted_since: U64,
    reserved: [u8; 14],
}

/// Last eight bytes of sectors 1..=7. The checksum covers the device id, the sector's number and
/// all its bytes but the checksum.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SectorSeal {
    checksum: U32,
    sequence: U32,
}

const _: () = assert!(size_of::<SuperblockBytes>() == BLOCK_BYTES);

impl Superblock {
    /// The bytes of this superblock, to be written to the slot [`Superblock::address`] names.
    ///
    /// # Panics
    /// If a public field was given a value [`Superblock::decode`] would refuse: better to stop than
    /// to write metadata nobody can read.
    #[must_use]
    pub fn encode(&self) -> Box<Block> {
        let mut bytes = SuperblockBytes::new_zeroed();
        self.fill_first_sector(&mut bytes.first);
        for (index, peer) in self.peers.iter().enumerate() {
            *peer_bytes_mut(&mut bytes, index) = peer_bytes(peer);
        }
        for (to, from) in bytes.last.history.iter_mut().zip(self.history) {
            to.set(from.0);
        }
        let mut block = empty_block();
        block.copy_from_slice(bytes.as_bytes());
        for sector in 1..SECTORS {
            seal_sector(&mut block, sector, self.device_id, self.sequence);
        }
        let stamp = Stamp {
            kind: Kind::Superblock,
            peer_slot: NO_PEER_SLOT,
            identity: self.identity(),
            index: 0,
            attach_epoch: self.attach_epoch,
            sequence: self.sequence,
        };
        seal(&mut block, &stamp);
        assert!(
            Self::decode(&block[..]).as_ref() == Ok(self),
            "superblock does not read back"
        );
        block
    }

    /// The superblock in one slot's bytes; which slot it was read from is the caller's to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let header = Header::verify(bytes)?;
        header.expect(Kind::Superblock, header.identity(), NO_PEER_SLOT, 0)?;
        check_node_id("node-id", header.node)?;
        if header.volume.get() > MAX_VOLUME {
            return Err(field("volume", header.volume.get()));
        }
        check_sectors(bytes, &header)?;
        let all = SuperblockBytes::read_from_bytes(bytes)
            .map_err(|_| BlockError::Length { found: bytes.len() })?;
        let first = &all.first;
        if !(1..=MAX_PEERS).contains(&first.max_peers) {
            return Err(field("peer count", first.max_peers));
        }
        check_zero("reserved bytes", &first.reserved)?;
        let mut peers = core::array::from_fn(|_| PeerSlot::default());
        for (index, peer) in peers.iter_mut().enumerate() {
            *peer = decode_peer(peer_bytes_of(&all, index))?;
            if index >= usize::from(first.max_peers) && *peer != PeerSlot::default() {
                return Err(field("peer in slot beyond the peer count", u8_of(index)));
            }
        }
        for sector in &all.middle {
            check_zero("reserved bytes", &sector.reserved)?;
        }
        check_zero("reserved bytes", &all.last.reserved)?;
        let identity = header.identity();
        Ok(Self {
            resource: decode_name("resource name", first.resource_length, &first.resource)?,
            node: decode_name("node name", first.node_length, &first.node)?,
            node_id: identity.node,
            volume: identity.volume,
            device_id: identity.device_id,
            data_bytes: first.data_bytes.get(),
            device_bytes: first.device_bytes.get(),
            metadata_offset: decode_placement(first.placement, first.metadata_offset.get())?,
            max_peers: first.max_peers,
            created_at: first.created_at.get(),
            generation: GenerationId(first.generation.get()),
            history: all
                .last
                .history
                .map(|generation| GenerationId(generation.get())),
            flags: decode_disk_flags(first.flags.get())?,
            peers,
            attach_epoch: header.attach_epoch.get(),
            boot_id: first.boot_id.get(),
            sequence: header.sequence.get(),
        })
    }

    fn fill_first_sector(&self, first: &mut FirstSector) {
        first.resource_length = put_name(&mut first.resource, self.resource.as_str());
        first.node_length = put_name(&mut first.node, self.node.as_str());
        first.data_bytes.set(self.data_bytes);
        first.device_bytes.set(self.device_bytes);
        first.metadata_offset.set(self.metadata_offset.unwrap_or(0));
        first.generation.set(self.generation.0);
        first.created_at.set(self.created_at);
        first.boot_id.set(self.boot_id);
        first.flags.set(disk_flag_bits(self.flags));
        first.placement = u8::from(self.metadata_offset.is_some());
        first.max_peers = self.max_peers;
    }
}

/// All sectors must be of one write, whatever the block checksum says.
fn check_sectors(bytes: &[u8], header: &Header) -> Result<(), BlockError> {
    let block = <&Block>::try_from(bytes).map_err(|_| BlockError::Length { found: bytes.len() })?;
    let expected = low_half(header.sequence.get());
    match (1..SECTORS)
        .find(|sector| sealed_sequence(block, *sector, header.device_id.get()) != Some(expected))
    {
        None => Ok(()),
        Some(sector) => Err(field("seal of sector", u8_of(sector))),
    }
}

/// Whether some sector of a damaged copy was provably written before `newest`, so that the copy
/// cannot be a completed later write.
pub(super) fn has_sector_older_than(newest: &Superblock, damaged: &[u8]) -> bool {
    let Ok(block) = <&Block>::try_from(damaged) else {
        return false;
    };
    if let Some(header) = Header::of_whole_head(block)
        && header
            .expect(Kind::Superblock, newest.identity(), NO_PEER_SLOT, 0)
            .is_ok()
        && header.sequence.get() < newest.sequence
    {
        return true;
    }
    (1..SECTORS).any(|sector| {
        sealed_sequence(block, sector, newest.device_id)
            .is_some_and(|sequence| is_before(sequence, newest.sequence))
    })
}

/// Compares the low halves; the two slots are never 2^31 writes apart.
fn is_before(low: u32, sequence: u64) -> bool {
    let behind = low_half(sequence).wrapping_sub(low);
    (1..1 << 31).contains(&behind)
}

fn seal_sector(block: &mut Block, sector: usize, device_id: u64, sequence: u64) {
    let bytes = &mut block[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES];
    bytes[SECTOR_BYTES - 4..].copy_from_slice(&low_half(sequence).to_le_bytes());
    let checksum = sector_checksum(bytes, sector, device_id);
    bytes[SECTOR_BYTES - 8..SECTOR_BYTES - 4].copy_from_slice(&checksum.to_le_bytes());
}

/// The low half of the sequence a sector was written under, if the sector is whole.
fn sealed_sequence(block: &Block, sector: usize, device_id: u64) -> Option<u32> {
    let bytes = &block[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES];
    let (_, seal) = SectorSeal::ref_from_suffix(bytes).ok()?;
    (seal.checksum.get() == sector_checksum(bytes, sector, device_id))
        .then_some(seal.sequence.get())
}

fn sector_checksum(bytes: &[u8], sector: usize, device_id: u64) -> u32 {
    let (content, sequence) = (&bytes[..SECTOR_BYTES - 8], &bytes[SECTOR_BYTES - 4..]);
    checksum(&[
        &device_id.to_le_bytes(),
        &[u8_of(sector)],
        content,
        sequence,
    ])
}

fn peer_bytes_of(all: &SuperblockBytes, index: usize) -> &PeerBytes {
    all.middle
        .get(index / PEERS_PER_SECTOR)
        .map_or(&all.last.peer, |sector| {
            &sector.peers[index % PEERS_PER_SECTOR]
        })
}

fn peer_bytes_mut(all: &mut SuperblockBytes, index: usize) -> &mut PeerBytes {
    match all.middle.get_mut(index / PEERS_PER_SECTOR) {
        Some(sector) => &mut sector.peers[index % PEERS_PER_SECTOR],
        None => &mut all.last.peer,
    }
}

fn peer_bytes(peer: &PeerSlot) -> PeerBytes {
    let mut bytes = PeerBytes::new_zeroed();
    bytes.name_length = put_name(&mut bytes.name, peer.name.as_str());
    bytes.bitmap_generation.set(peer.bitmap_generation.0);
    bytes.node_id = peer.node_id.map_or(UNUSED_NODE_ID, |node| node.0);
    let flags = peer.flags;
    bytes.flags = u8::from(flags.full_sync)
        | u8::from(flags.peer_outdated) << 1
        | u8::from(flags.may_have_current) << 2
        | u8::from(flags.seen) << 3
        | u8::from(flags.was_primary) << 4;
    bytes.counted_since.set(peer.counted_since);
    bytes
}

fn decode_peer(bytes: &PeerBytes) -> Result<PeerSlot, BlockError> {
    check_zero("reserved bytes of a peer", &bytes.reserved)?;
    let node_id = match bytes.node_id {
        UNUSED_NODE_ID => None,
        number => {
            check_node_id("peer node-id", number)?;
            Some(NodeId(number))
        }
    };
    if bytes.flags >= 1 << 5 {
        return Err(field("peer flags", bytes.flags));
    }
    Ok(PeerSlot {
        node_id,
        name: decode_name("peer name", bytes.name_length, &bytes.name)?,
        bitmap_generation: GenerationId(bytes.bitmap_generation.get()),
        counted_since: bytes.counted_since.get(),
        flags: PeerFlags {
            full_sync: bytes.flags & 1 != 0,
            peer_outdated: bytes.flags & 1 << 1 != 0,
            may_have_current: bytes.flags & 1 << 2 != 0,
            seen: bytes.flags & 1 << 3 != 0,
            was_primary: bytes.flags & 1 << 4 != 0,
        },
    })
}

fn disk_flag_bits(flags: DiskFlags) -> u16 {
    u16::from(flags.consistent)
        | u16::from(flags.was_up_to_date) << 1
        | u16::from(flags.primary) << 2
        | u16::from(flags.clean_shutdown) << 3
        | u16::from(flags.outdated) << 4
}

fn decode_disk_flags(bits: u16) -> Result<DiskFlags, BlockError> {
    if bits >= 1 << 5 {
        return Err(field("disk flags", bits));
    }
    Ok(DiskFlags {
        consistent: bits & 1 != 0,
        was_up_to_date: bits & 1 << 1 != 0,
        primary: bits & 1 << 2 != 0,
        clean_shutdown: bits & 1 << 3 != 0,
        outdated: bits & 1 << 4 != 0,
    })
}

fn decode_placement(placement: u8, offset: u64) -> Result<Option<u64>, BlockError> {
    match (placement, offset) {
        (0, 0) => Ok(None),
        (0, offset) => Err(field("offset of internal metadata", offset)),
        (1, offset) => Ok(Some(offset)),
        (other, _) => Err(field("placement", other)),
    }
}

/// Writes a name and returns its length; a [`Name`] fits its field by construction.
fn put_name(to: &mut [u8], name: &str) -> u8 {
    to[..name.len()].copy_from_slice(name.as_bytes());
    u8_of(name.len())
}

fn decode_name<const MAX: usize>(
    what: &'static str,
    length: u8,
    bytes: &[u8; MAX],
) -> Result<Name<MAX>, BlockError> {
    let (Some(name), Some(rest)) = (bytes.get(..length.into()), bytes.get(length.into()..)) else {
        return Err(field(what, length));
    };
    check_zero(what, rest)?;
    let name = core::str::from_utf8(name).map_err(|_| field(what, length))?;
    Name::new(name).map_err(|_| field(what, length))
}

fn check_zero(what: &'static str, bytes: &[u8]) -> Result<(), BlockError> {
    match bytes.iter().find(|byte| **byte != 0) {
        None => Ok(()),
        Some(byte) => Err(field(what, *byte)),
    }
}

fn check_node_id(what: &'static str, number: u8) -> Result<(), BlockError> {
    if number > MAX_NODE_ID {
        return Err(field(what, number));
    }
    Ok(())
}

fn low_half(sequence: u64) -> u32 {
    u32::try_from(sequence & u64::from(u32::MAX)).expect("masked to 32 bits")
}

fn u8_of(small: usize) -> u8 {
    u8::try_from(small).expect("names, sectors and peer slots number fewer than 256")
}

const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;
const MIDDLE_SECTORS: usize = SECTORS - 2;
const PEERS_PER_SECTOR: usize = 5;
const UNUSED_NODE_ID: u8 = 255;
const MAX_NODE_ID: u8 = 31;
const MAX_VOLUME: u16 = 65534;
