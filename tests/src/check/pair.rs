//! The two replicas against the marks that say where they may differ.
//!
//! At every instant, whatever crashes now, each block that may then differ must be listed as out of
//! sync by what is durable on one of the two disks: its dirty bitmap or its write-intent log (A2,
//! B9, B10, C1).

use std::collections::BTreeSet;

use rbd_protocol::ids::{BLOCK_SIZE, NodeId, REGION_SIZE};
use rbd_protocol::metadata::{Image, PeerBitmap};

/// What a disk may hold after a crash at this instant.
pub trait Possible {
    /// Calls `visit` with every value the sector may have then.
    fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64));
}

/// Which blocks the node with this metadata would take for out of sync if it came up now.
#[must_use]
pub fn dirty_after_crash(image: &Image, peer: NodeId) -> Vec<bool> {
    let blocks = usize::try_from(image.layout.bits()).expect("a simulated volume is small");
    let mut dirty = vec![false; blocks];
    let mut set = |from: u64, to: u64| {
        for block in from..to {
            if let Some(bit) = usize::try_from(block).ok().and_then(|at| dirty.get_mut(at)) {
                *bit = true;
            }
        }
    };
    let slot = image.superblock.peer_slot_of(peer);
    let bitmap = slot.and_then(|slot| image.peers.get(usize::from(slot)));
    match bitmap {
        Some(PeerBitmap::Pages(pages)) => {
            for (page, words) in pages {
                for (index, word) in (0_u64..).zip(words.iter()) {
                    for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                        let at = u64::from(*page) * 504 * 64 + index * 64 + bit;
                        set(at, at + 1);
                    }
                }
            }
        }
        Some(PeerBitmap::Everything) | None => set(0, image.layout.bits()),
    }
    let per_region = REGION_SIZE / u64::from(BLOCK_SIZE);
    for region in image.hot_regions.iter().cloned().flatten() {
        set(region * per_region, (region + 1) * per_region);
    }
    dirty
}

/// Keeps track of the blocks that may differ.
#[derive(Clone, Debug)]
pub struct PairCheck {
    differing: BTreeSet<u64>,
    dirty: [Vec<bool>; 2],
}

impl PairCheck {
    /// Nothing differs, and nothing is marked.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        let clean = vec![false; usize::try_from(blocks).expect("a simulated volume is small")];
        Self {
            differing: BTreeSet::new(),
            dirty: [clean.clone(), clean],
        }
    }

    /// What is durable on one of the disks has changed.
    pub fn marks_changed(&mut self, node: usize, dirty: Vec<bool>) {
        if let Some(marks) = self.dirty.get_mut(node) {
            *marks = dirty;
        }
    }

    /// The content of these blocks has changed, or what is durable of it.
    pub fn blocks_changed(&mut self, blocks: &BTreeSet<u64>, disks: [&dyn Possible; 2]) {
        for block in blocks {
            if may_differ(*block, disks) {
                self.differing.insert(*block);
            } else {
                self.differing.remove(block);
            }
        }
    }

    /// Blocks that may differ after a crash now.
    #[must_use]
    pub fn differing(&self) -> usize {
        self.differing.len()
    }

    /// Whether each of them is marked.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn verify(&self) -> Result<(), String> {
        let unmarked = |block: &&u64| {
            let marked = |marks: &Vec<bool>| {
                usize::try_from(**block)
                    .ok()
                    .and_then(|at| marks.get(at).copied())
                    .unwrap_or(false)
            };
            !self.dirty.iter().any(marked)
        };
        match self.differing.iter().find(unmarked) {
            Some(block) => Err(format!(
                "pair-check: block {block} may differ after a crash now and neither disk says so"
            )),
            None => Ok(()),
        }
    }
}

fn may_differ(block: u64, disks: [&dyn Possible; 2]) -> bool {
    (block * SECTORS..(block + 1) * SECTORS).any(|sector| {
        let mut only = None;
        let mut differs = false;
        for disk in disks {
            disk.possible(sector, &mut |value| {
                differs |= *only.get_or_insert(value) != value;
            });
        }
        differs
    })
}

/// Sectors in a block.
const SECTORS: u64 = BLOCK_SIZE as u64 / 512;
