//! What a node would take for out of sync if it came up now, and why.

use std::fmt;
use std::ops::Range;

use rbd_protocol::ids::{BLOCK_SIZE, NodeId, REGION_SIZE};
use rbd_protocol::metadata::{BITS_PER_BLOCK, BlockAddress, Effect, Image, PeerBitmap};

/// Why blocks count as out of sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The bitmap towards the peer does not count: never synchronised, or unknown.
    Everything,
    /// Their bits are set in the bitmap towards the peer.
    Bitmap,
    /// Their block of the bitmap is damaged.
    DamagedBitmap,
    /// Their region is marked in the write-intent log.
    IntentLog,
    /// Their block of the write-intent log is damaged.
    DamagedIntentLog,
}

/// A run of blocks that count as out of sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The blocks, of 4 KiB each.
    pub blocks: Range<u64>,
    /// What says so.
    pub why: Why,
}

/// Everything the node with this metadata would take for out of sync towards `peer`, by reason,
/// then by place. Runs of different reasons may overlap.
#[must_use]
pub fn suspects(image: &Image, peer: NodeId) -> Vec<Suspect> {
    let blocks = image.layout.bits();
    let mut found = Vec::new();
    let slot = image.superblock.peer_slot_of(peer);
    let bitmap = slot.and_then(|slot| image.peers.get(usize::from(slot)));
    match (slot, bitmap) {
        (Some(slot), Some(PeerBitmap::Pages(pages))) => {
            for (page, words) in pages {
                let why = if is_damaged(image, slot, *page) {
                    Why::DamagedBitmap
                } else {
                    Why::Bitmap
                };
                let base = u64::from(*page) * BITS_PER_BLOCK;
                for run in runs(words.as_slice()) {
                    let run = base + run.start..(base + run.end).min(blocks);
                    push(&mut found, run, why);
                }
            }
        }
        _ => push(&mut found, 0..blocks, Why::Everything),
    }
    let per_region = REGION_SIZE / u64::from(BLOCK_SIZE);
    for region in image.hot_regions.iter().cloned().flatten() {
        let run = region * per_region..((region + 1) * per_region).min(blocks);
        let why = if is_log_damaged(image, region) {
            Why::DamagedIntentLog
        } else {
            Why::IntentLog
        };
        push(&mut found, run, why);
    }
    found.sort_by_key(|suspect| (suspect.why, suspect.blocks.start));
    found
}

/// Which blocks the node with this metadata would take for out of sync if it came up now.
#[must_use]
pub fn dirty_after_crash(image: &Image, peer: NodeId) -> Vec<bool> {
    let blocks = usize::try_from(image.layout.bits()).expect("a tested volume is small");
    let mut dirty = vec![false; blocks];
    for suspect in suspects(image, peer) {
        let index = |block| usize::try_from(block).unwrap_or(usize::MAX);
        if let Some(run) = dirty.get_mut(index(suspect.blocks.start)..index(suspect.blocks.end)) {
            run.fill(true);
        }
    }
    dirty
}

/// Joins what continues the run before it.
fn push(found: &mut Vec<Suspect>, blocks: Range<u64>, why: Why) {
    if blocks.is_empty() {
        return;
    }
    if let Some(last) = found.last_mut()
        && last.why == why
        && last.blocks.end == blocks.start
    {
        last.blocks.end = blocks.end;
        return;
    }
    found.push(Suspect { blocks, why });
}

/// The runs of set bits.
fn runs(words: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let mut rest = (0..).zip(words.iter().copied());
    let mut current: Option<(u64, u64)> = rest.next();
    std::iter::from_fn(move || {
        loop {
            let (index, word) = current?;
            if word == 0 {
                current = rest.next();
                continue;
            }
            let first = u64::from(word.trailing_zeros());
            let count = u64::from((word >> first).trailing_ones());
            let cleared = if first + count >= 64 {
                0
            } else {
                word & (u64::MAX << (first + count))
            };
            current = Some((index, cleared));
            return Some(index * 64 + first..index * 64 + first + count);
        }
    })
}

fn is_damaged(image: &Image, slot: u8, page: u32) -> bool {
    image.damage.iter().any(|damage| match damage.at {
        BlockAddress::Bitmap { peer_slot, block } => {
            peer_slot == slot && (block..block.saturating_add(damage.blocks)).contains(&page)
        }
        BlockAddress::Superblock { .. } | BlockAddress::Intent { .. } => false,
    })
}

fn is_log_damaged(image: &Image, region: u64) -> bool {
    let wanted = region / BITS_PER_BLOCK;
    image.damage.iter().any(|damage| match damage.at {
        BlockAddress::Intent { block, .. } => {
            let first = u64::from(block);
            damage.effect == Effect::RegionsHot
                && (first..first + u64::from(damage.blocks)).contains(&wanted)
        }
        BlockAddress::Superblock { .. } | BlockAddress::Bitmap { .. } => false,
    })
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everything => "never synchronised with it",
            Self::Bitmap => "dirty bitmap",
            Self::DamagedBitmap => "damaged block of the dirty bitmap",
            Self::IntentLog => "write-intent log",
            Self::DamagedIntentLog => "damaged block of the write-intent log",
        })
    }
}
