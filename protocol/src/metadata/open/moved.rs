//! Opening metadata at the end of a device that may have grown.
//!
//! It then lies where the device ended before, which somebody has remembered, or has been moved to
//! the end, wholly or in part. One of the two places counts: the end, if it is whole and not older
//! than the other. That is right because nothing is written at the end after a move before the
//! other place is wiped, and nothing there is overtaken before the end is whole. What does not
//! count is to be wiped before anything is written, so that it is never found again, whatever
//! becomes of the device's size.

use super::superblocks::SuperblockSlot;
use super::{Head, Image, OpenError, OpenInputs, head_of, read_superblocks, scan};
use crate::metadata::layout::Placement;
use crate::metadata::{BLOCK_BYTES, Reader, Write, wipe};
use alloc::vec::Vec;

/// What is remembered of a device with metadata at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerEnd {
    /// Its size when that was written down.
    pub device_bytes: u64,
    /// Whose metadata was at its end; `None` if whoever wrote it down did not know.
    pub device_id: Option<u64>,
}

/// Metadata at the end of a device, or where it ended before.
#[derive(Clone, Debug)]
pub struct Located {
    /// The metadata. Its layout says which size of the device it was made for.
    pub image: Image,
    /// What is to be written and flushed first: what counts once more, because it may lie in a
    /// cache only.
    pub again: Vec<Write>,
    /// What is to be written and flushed then, before anything else is: what does not count goes.
    pub wipe: Vec<Write>,
}

/// Reads and checks the metadata at the end of a device, or at its former end, and nothing else.
pub fn open_internal(
    read: &mut Reader<'_>,
    inputs: &OpenInputs<'_>,
    former: Option<FormerEnd>,
) -> Result<Located, OpenError> {
    let slots = read_superblocks(read, inputs.device_bytes, Placement::Internal)?;
    let former = former.filter(|former| {
        former.device_bytes < inputs.device_bytes && former.device_bytes >= 2 * (BLOCK_BYTES as u64)
    });
    let Some(former) = former else {
        return found(read, head_of(slots, inputs)?, Vec::new(), Vec::new());
    };
    let before = OpenInputs {
        device_bytes: former.device_bytes,
        ..*inputs
    };
    let former_slots = read_superblocks(read, before.device_bytes, Placement::Internal)?;
    let at_end = head_of(slots.clone(), inputs);
    let is_remembered = |head: &Head| {
        former
            .device_id
            .is_none_or(|id| head.superblock.device_id == id)
    };
    let at_former = head_of(former_slots.clone(), &before).and_then(|head| {
        if is_remembered(&head) {
            Ok(head)
        } else {
            let offset = former_slots[0].offset;
            Err(OpenError::NoMetadata { offset })
        }
    });
    match (at_end, at_former) {
        (Ok(end), Ok(old)) if end.superblock.device_id != old.superblock.device_id => {
            Err(OpenError::TwoAreas {
                at_end: end.superblock.device_id,
                remembered: old.superblock.device_id,
                former: former.device_bytes,
            })
        }
        (Ok(end), Ok(old)) if old.superblock.sequence <= end.superblock.sequence => {
            let wipe = wipe(former.device_bytes, Placement::Internal)?.into();
            found(read, end, copies(&slots), wipe)
        }
        (Ok(end), at_former @ Err(_)) => {
            let newest = newest_of(&former_slots, end.superblock.device_id);
            if let (Some(newest), Err(error)) = (newest, at_former)
                && newest > end.superblock.sequence
            {
                // Used after that at the end was given up, and damaged since.
                return Err(error);
            }
            // Half of a wipe leaves one that is whole.
            if newest.is_some() {
                let wipe = wipe(former.device_bytes, Placement::Internal)?.into();
                found(read, end, copies(&slots), wipe)
            } else {
                found(read, end, Vec::new(), Vec::new())
            }
        }
        (Err(error @ OpenError::FutureVersion { .. }), _) => Err(error),
        (_, Ok(old)) => {
            let is_left = newest_of(&slots, old.superblock.device_id).is_some();
            let is_apart = slots[0].offset - former_slots[0].offset >= 2 * (BLOCK_BYTES as u64);
            let wipe = if is_left && is_apart {
                wipe(inputs.device_bytes, Placement::Internal)?.into()
            } else {
                Vec::new()
            };
            found(read, old, Vec::new(), wipe)
        }
        (Err(OpenError::NoMetadata { offset }), Err(error)) => Err(match error {
            OpenError::NoMetadata { .. } => OpenError::NoMetadata { offset },
            other => other,
        }),
        (Err(error), Err(_)) => Err(error),
    }
}

fn found(
    read: &mut Reader<'_>,
    head: Head,
    again: Vec<Write>,
    wipe: Vec<Write>,
) -> Result<Located, OpenError> {
    let image = scan::scan(read, head.superblock, head.layout, head.damage)?;
    Ok(Located { image, again, wipe })
}

/// The highest sequence of those of the two that are whole superblocks of this area.
fn newest_of(slots: &[SuperblockSlot; 2], device_id: u64) -> Option<u64> {
    let whole = slots.iter().filter_map(|slot| slot.content.as_ref().ok());
    let of_this = whole.filter(|found| found.device_id == device_id);
    of_this.map(|found| found.sequence).max()
}

/// The superblocks that are whole, as they are.
fn copies(slots: &[SuperblockSlot; 2]) -> Vec<Write> {
    let whole = slots.iter().filter(|slot| slot.content.is_ok());
    whole.map(SuperblockSlot::write).collect()
}
