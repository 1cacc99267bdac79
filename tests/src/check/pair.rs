//! The two replicas against the marks that say where they may differ.
//!
//! At every instant, whatever crashes now, each block that may then differ must be listed as out of
//! sync by what is durable on one of the two disks: its dirty bitmap or its write-intent log (A2,
//! B9, B10, C1).

use std::collections::BTreeSet;

use rbd_protocol::ids::BLOCK_SIZE;

/// What a disk may hold after a crash at this instant.
pub trait Possible {
    /// Calls `visit` with every value the sector may have then.
    fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64));
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
