//! Which of the two superblock copies is the newest state. A copy is passed over only if it is
//! proven that it never was a completed later write; otherwise the open is refused (C2).

use super::{Damage, Effect, OpenError};
use crate::metadata::layout::{BlockAddress, Layout, Placement};
use crate::metadata::superblock_bytes::has_sector_older_than;
use crate::metadata::{Block, BlockError, Reader, Superblock, Write, empty_block};
use alloc::boxed::Box;

/// One slot as found, for choosing and for dumps.
#[derive(Clone, Debug)]
pub struct SuperblockSlot {
    /// Byte offset of the slot.
    pub offset: u64,
    /// What it holds.
    pub content: Result<Superblock, BlockError>,
    bytes: Box<Block>,
}

impl SuperblockSlot {
    /// The write that leaves it as it is.
    pub(super) fn write(&self) -> Write {
        Write {
            offset: self.offset,
            block: self.bytes.clone(),
        }
    }
}

/// Reads both superblock slots and judges neither.
pub fn read_superblocks(
    read: &mut Reader<'_>,
    device_bytes: u64,
    placement: Placement,
) -> Result<[SuperblockSlot; 2], OpenError> {
    let mut slot = |number: u8| -> Result<SuperblockSlot, OpenError> {
        let offset = Layout::superblock_offset(device_bytes, placement, number)?;
        let mut bytes = empty_block();
        let content = match read(offset, &mut bytes[..]) {
            Ok(()) => Superblock::decode(&bytes[..]).and_then(|found| in_slot(found, number)),
            Err(error) => Err(BlockError::Unreadable(error)),
        };
        Ok(SuperblockSlot {
            offset,
            content,
            bytes,
        })
    };
    Ok([slot(0)?, slot(1)?])
}

pub(super) fn choose(
    slots: [SuperblockSlot; 2],
    accept_older: bool,
) -> Result<(Superblock, Option<Damage>), OpenError> {
    for slot in &slots {
        if let Err(BlockError::FutureVersion { found, supported }) = slot.content {
            return Err(OpenError::FutureVersion { found, supported });
        }
    }
    let [first, second] = slots;
    match (first.content, second.content) {
        (Ok(a), Ok(b)) => newer(a, b, accept_older),
        (Ok(whole), Err(cause)) => beside_damaged(whole, 1, cause, &second.bytes, accept_older),
        (Err(cause), Ok(whole)) => beside_damaged(whole, 0, cause, &first.bytes, accept_older),
        (Err(BlockError::NoSignature { .. }), Err(BlockError::NoSignature { .. })) => {
            Err(OpenError::NoMetadata {
                offset: first.offset,
            })
        }
        (Err(BlockError::Unreadable(source)), Err(BlockError::Unreadable(_))) => {
            Err(OpenError::Read {
                offset: first.offset,
                source,
            })
        }
        (Err(first), Err(second)) => Err(OpenError::Damaged { first, second }),
    }
}

/// Two whole copies: the newer one, if it is the very next write after the older.
fn newer(
    first: Superblock,
    second: Superblock,
    accept_older: bool,
) -> Result<(Superblock, Option<Damage>), OpenError> {
    if first.device_id != second.device_id {
        return Err(OpenError::MixedAreas {
            first: first.device_id,
            second: second.device_id,
        });
    }
    let (newer, older, slot) = if first.sequence > second.sequence {
        (first, second, 1)
    } else {
        (second, first, 0)
    };
    if newer.sequence - older.sequence == 1 {
        return Ok((newer, None));
    }
    let cause = BlockError::RolledBack {
        newest: newer.sequence,
        found: older.sequence,
    };
    uncertain(newer, slot, cause, accept_older)
}

fn beside_damaged(
    whole: Superblock,
    slot: u8,
    cause: BlockError,
    damaged: &Block,
    accept_older: bool,
) -> Result<(Superblock, Option<Damage>), OpenError> {
    if !has_sector_older_than(&whole, damaged) {
        return uncertain(whole, slot, cause, accept_older);
    }
    let damage = damage(slot, cause, Effect::OtherSlotUsed);
    Ok((whole, Some(damage)))
}

fn uncertain(
    newest: Superblock,
    slot: u8,
    cause: BlockError,
    accept_older: bool,
) -> Result<(Superblock, Option<Damage>), OpenError> {
    if !accept_older {
        return Err(OpenError::NewestUncertain {
            slot,
            cause,
            sequence: newest.sequence,
        });
    }
    let mut newest = newest;
    for peer in &mut newest.peers {
        peer.flags.full_sync = true;
    }
    Ok((newest, Some(damage(slot, cause, Effect::OlderSuperblock))))
}

fn damage(slot: u8, cause: BlockError, effect: Effect) -> Damage {
    Damage {
        at: BlockAddress::Superblock { slot },
        blocks: 1,
        cause,
        effect,
    }
}

fn in_slot(found: Superblock, slot: u8) -> Result<Superblock, BlockError> {
    let sequence_slot = found.sequence & 1;
    if sequence_slot == u64::from(slot) {
        return Ok(found);
    }
    Err(BlockError::Misplaced {
        what: "slot",
        expected: slot.into(),
        found: sequence_slot,
    })
}
