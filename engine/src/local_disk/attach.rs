//! What an attach works out of the metadata it found: a peer's slot, which bitmap counts, which
//! blocks were damaged. Never changes anything but the slot it hands out.

use alloc::collections::BTreeMap;

use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::metadata::{BlockAddress, Damage, NodeName, Superblock};

use super::AttachError;

/// The slot of this peer, a fresh one if it has none: then everything is out of sync (C7).
pub(super) fn take_slot(
    superblock: &mut Superblock,
    node: NodeId,
    name: &str,
) -> Result<u8, AttachError> {
    if let Some(slot) = superblock.peer_slot_of(node) {
        return Ok(slot);
    }
    let name = NodeName::new(name).map_err(|_| AttachError::PeerName)?;
    let room = usize::from(superblock.max_peers);
    let free = superblock
        .peers
        .iter_mut()
        .take(room)
        .position(|slot| slot.node_id.is_none());
    let index = free.ok_or(AttachError::NoPeerSlot)?;
    if let Some(entry) = superblock.peers.get_mut(index) {
        entry.node_id = Some(node);
        entry.name = name;
        entry.bitmap_generation = GenerationId::NONE;
        entry.flags.full_sync = true;
    }
    u8::try_from(index).map_err(|_| AttachError::NoPeerSlot)
}

/// Which of so many blocks of the intent log are to be written, and how often.
pub(super) fn unwritten_blocks(count: u32, damage: &[Damage]) -> BTreeMap<u32, u8> {
    let mut unwritten: BTreeMap<u32, u8> = (0..count).map(|block| (block, 1)).collect();
    for block in damage.iter().flat_map(damaged_intent_blocks) {
        if let Some(times) = unwritten.get_mut(&block) {
            *times = 2;
        }
    }
    unwritten
}

/// The blocks of the intent log a damage concerns.
fn damaged_intent_blocks(damage: &Damage) -> core::ops::Range<u32> {
    match damage.at {
        BlockAddress::Intent { block, .. } => block..block.saturating_add(damage.blocks),
        BlockAddress::Superblock { .. } | BlockAddress::Bitmap { .. } => 0..0,
    }
}

pub(super) fn superblock_counts(superblock: &Superblock, slot: u8) -> bool {
    superblock
        .peers
        .get(usize::from(slot))
        .is_some_and(|entry| !entry.flags.full_sync)
}

pub(super) fn region_range(region: u64, data_bytes: u64) -> rbd_protocol::ids::ByteRange {
    let size = rbd_protocol::ids::REGION_SIZE;
    let offset = region.saturating_mul(size);
    let length = data_bytes.saturating_sub(offset).min(size);
    rbd_protocol::ids::ByteRange::new(offset, u32::try_from(length).unwrap_or(0))
}

/// Whether what can be read from this disk will be on its medium after the next flush. After a
/// write or a flush that has failed it may lie in a cache from which no flush writes it any more,
/// and perhaps the disk could not even be told that (B4). So the disk must have been let go in
/// order, or its host must have been booted since, and nothing noted as lost before.
pub(super) fn reads_true(superblock: &Superblock, boot: u128) -> bool {
    let booted = boot != 0 && superblock.boot_id != boot;
    superblock.boot_id != 0 && (superblock.flags.clean_shutdown || booted)
}

/// Whether the machine has kept its power since the disk was last in sync, and whether it was shut
/// down in order since without having lost it before. Begins the use of the disk in this boot.
pub(super) fn take_up(superblock: &mut Superblock, boot: u128) -> (bool, bool) {
    let kept_power = boot != 0 && superblock.boot_id == boot;
    let was_clean = superblock.flags.clean_shutdown && superblock.boot_id != 0;
    superblock.flags.clean_shutdown = false;
    if !kept_power && !was_clean {
        // What has been lost stays lost however orderly this machine is shut down from now on.
        superblock.boot_id = 0;
    }
    (kept_power, was_clean)
}
