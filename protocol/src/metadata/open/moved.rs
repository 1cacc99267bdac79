//! Opening metadata at the end of a device that may have grown.
//!
//! It then lies where the device ended before, which is noted outside of it, or has been moved to
//! what was its end then, wholly or in part; and the device may have grown again since. Three
//! places are looked at: the end, and the two that the note may name. One of them counts: the
//! newest of those that are whole, and of two that are equally new the one further back, to which
//! it has been moved. That is right because whoever moves or opens metadata keeps to an order, in
//! which each step is durable before the next begins:
//!
//! 1. The place it goes to is cleared, then noted beside the one it leaves: whatever size the
//!    device has later, both are looked at.
//! 2. It is written there, both superblocks last and under the sequences of those it leaves, while
//!    nothing changes where it was: if both places are whole they say the same.
//! 3. The place it has left is wiped. Until then nothing changes at the new one.
//! 4. The new place is noted alone. Until then the volume does not grow over the other.
//!
//! Whoever opens it writes once more what counts, wipes the other places, notes what counts alone,
//! and only then changes anything. Cut short anywhere, that leaves the same to be decided in the
//! same way. So a place that was given up because it was not whole is never found again, whatever
//! becomes of the device's size. What this order cannot leave is refused: a superblock newer than
//! the place that is whole, beside one that is damaged.

use super::superblocks::SuperblockSlot;
use super::{Head, Image, OpenError, OpenInputs, head_of, read_superblocks, scan};
use crate::metadata::layout::Placement;
use crate::metadata::{BLOCK_BYTES, Reader, Superblock, Write, wipe};
use alloc::vec::Vec;

/// What is remembered of a device with metadata at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerEnd {
    /// Its size when that was written down.
    pub device_bytes: u64,
    /// Whose metadata was at its end; `None` if whoever wrote it down did not know.
    pub device_id: Option<u64>,
    /// The size to whose end the metadata was about to be moved: it may be there already.
    pub moves_to: Option<u64>,
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

/// Reads and checks the metadata at the end of a device, or where it is noted, and nothing else.
pub fn open_internal(
    read: &mut Reader<'_>,
    inputs: &OpenInputs<'_>,
    former: Option<FormerEnd>,
) -> Result<Located, OpenError> {
    let mut places = Vec::new();
    for device_bytes in sizes(inputs.device_bytes, former) {
        places.push(look_at(read, inputs, device_bytes, former)?);
    }
    let at = counts(&places)?.unwrap_or_else(|| damaged(&places));
    let Place {
        device_bytes,
        slots,
        head,
    } = places.remove(at);
    let head = head?;
    let (mut again, mut goes) = (Vec::new(), Vec::new());
    for other in places {
        let left = newest_of(&other.slots, head.superblock.device_id);
        if let (Some(left), Err(error)) = (left, other.head)
            && left > head.superblock.sequence
        {
            // Used after the one that is whole was given up, and damaged since.
            return Err(error);
        }
        // Half of a wipe leaves one that is whole.
        let apart = other.slots[0].offset.abs_diff(slots[0].offset);
        if left.is_none() || apart < 2 * BLOCK {
            continue;
        }
        if other.device_bytes < device_bytes {
            again = copies(&slots);
        }
        goes.extend(wipe(other.device_bytes, Placement::Internal)?);
    }
    let image = scan::scan(read, head.superblock, head.layout, head.damage)?;
    Ok(Located {
        image,
        again,
        wipe: goes,
    })
}

/// The ends of a device of these sizes are looked at, the largest first.
fn sizes(device_bytes: u64, former: Option<FormerEnd>) -> Vec<u64> {
    let noted = former.map(|former| [Some(former.device_bytes), former.moves_to]);
    let noted = noted.into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = noted
        .filter(|noted| (2 * BLOCK..device_bytes).contains(noted))
        .collect();
    sizes.push(device_bytes);
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    sizes.dedup();
    sizes
}

/// Where metadata may be, with what its superblocks say.
struct Place {
    device_bytes: u64,
    slots: [SuperblockSlot; 2],
    head: Result<Head, OpenError>,
}

/// What is at the end of a device of this size. Elsewhere than at its end as it is now, only the
/// metadata that is remembered is meant.
fn look_at(
    read: &mut Reader<'_>,
    inputs: &OpenInputs<'_>,
    device_bytes: u64,
    former: Option<FormerEnd>,
) -> Result<Place, OpenError> {
    let slots = read_superblocks(read, device_bytes, Placement::Internal)?;
    let at_it = OpenInputs {
        device_bytes,
        ..*inputs
    };
    let id = former.and_then(|former| former.device_id);
    let is_meant = |head: &Head| {
        device_bytes == inputs.device_bytes || id.is_none_or(|id| head.superblock.device_id == id)
    };
    let offset = slots[0].offset;
    let head = head_of(slots.clone(), &at_it);
    let head = head.and_then(|head| match is_meant(&head) {
        true => Ok(head),
        false => Err(OpenError::NoMetadata { offset }),
    });
    Ok(Place {
        device_bytes,
        slots,
        head,
    })
}

/// Which of the places counts; `None` if none is whole. They come the largest first.
fn counts(places: &[Place]) -> Result<Option<usize>, OpenError> {
    let mut newest: Option<(usize, &Superblock)> = None;
    for (at, place) in places.iter().enumerate() {
        let found = match &place.head {
            Ok(head) => &head.superblock,
            // What it is, is for a newer program to say.
            Err(error @ OpenError::FutureVersion { .. }) => return Err(error.clone()),
            Err(_) => continue,
        };
        if let Some((_, other)) = newest
            && other.device_id != found.device_id
        {
            return Err(OpenError::TwoAreas {
                at_end: other.device_id,
                remembered: found.device_id,
                former: place.device_bytes,
            });
        }
        if newest.is_none_or(|(_, other)| other.sequence < found.sequence) {
            newest = Some((at, found));
        }
    }
    Ok(newest.map(|(at, _)| at))
}

/// Which of them says why none is whole: the largest where there is any metadata.
fn damaged(places: &[Place]) -> usize {
    let is_any = |place: &Place| !matches!(place.head, Err(OpenError::NoMetadata { .. }));
    places.iter().position(is_any).unwrap_or(0)
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

const BLOCK: u64 = BLOCK_BYTES as u64;
