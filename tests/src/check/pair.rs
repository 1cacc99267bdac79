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

    /// The value the sector has then, if it can have but one.
    fn only(&self, sector: u64) -> Option<u64> {
        let mut only = None;
        let mut differs = false;
        self.possible(sector, &mut |value| {
            differs |= *only.get_or_insert(value) != value;
        });
        only.filter(|_| !differs)
    }
}

/// Keeps track of the blocks that may differ, and of those among them that nobody has marked.
#[derive(Clone, Debug)]
pub struct PairCheck {
    differing: Vec<bool>,
    differing_count: usize,
    dirty: [Vec<bool>; 2],
    /// Differing because a disk has changed by itself, which no mark can tell.
    rotten: BTreeSet<u64>,
    unmarked_count: usize,
}

impl PairCheck {
    /// Nothing differs, and nothing is marked.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        let clean = vec![false; usize::try_from(blocks).expect("a simulated volume is small")];
        Self {
            differing: clean.clone(),
            differing_count: 0,
            dirty: [clean.clone(), clean],
            rotten: BTreeSet::new(),
            unmarked_count: 0,
        }
    }

    /// What is durable on one of the disks has changed.
    pub fn marks_changed(&mut self, node: usize, dirty: Vec<bool>) {
        if let Some(marks) = self.dirty.get_mut(node) {
            *marks = dirty;
        }
        self.unmarked_count = (0..self.differing.len())
            .filter(|block| self.is_unmarked(*block))
            .count();
    }

    /// The content of these blocks has changed, or what is durable of it.
    pub fn blocks_changed<P: Possible + ?Sized>(
        &mut self,
        blocks: impl IntoIterator<Item = u64>,
        disks: [&P; 2],
    ) {
        for block in blocks {
            let differs = may_differ(block, disks);
            let Some(at) = usize::try_from(block).ok() else {
                continue;
            };
            let Some(known) = self.differing.get_mut(at) else {
                continue;
            };
            if std::mem::replace(known, differs) == differs {
                continue;
            }
            let unmarked = usize::from(!self.is_marked(at));
            if differs {
                self.differing_count += 1;
                self.unmarked_count += unmarked;
            } else {
                self.differing_count -= 1;
                self.unmarked_count -= unmarked;
                self.rotten.remove(&block);
            }
        }
    }

    /// The block is about to differ because a disk changes by itself. Until both copies are equal
    /// again, durably, nobody has to have it marked.
    pub fn rots(&mut self, block: u64) {
        self.rotten.insert(block);
    }

    /// The blocks that differ because a disk has changed by itself.
    #[must_use]
    pub fn rotten(&self) -> &BTreeSet<u64> {
        &self.rotten
    }

    /// How many blocks may differ after a crash now.
    #[must_use]
    pub fn differing(&self) -> usize {
        self.differing_count
    }

    /// Which blocks may differ after a crash now.
    pub fn differing_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        let most = if self.differing_count == 0 {
            0
        } else {
            self.differing.len()
        };
        (0_u64..)
            .zip(self.differing.iter().take(most))
            .filter_map(|(block, differs)| differs.then_some(block))
    }

    /// Whether each of them is marked.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn verify(&self) -> Result<(), String> {
        match self.first_unmarked() {
            None => Ok(()),
            Some(block) => Err(format!(
                "pair-check: block {block} may differ after a crash now and neither disk says so"
            )),
        }
    }

    /// The first block that may differ without a mark.
    #[must_use]
    pub fn first_unmarked(&self) -> Option<u64> {
        if self.unmarked_count == 0 {
            return None;
        }
        let mut blocks = self.differing_blocks();
        blocks.find(|block| usize::try_from(*block).is_ok_and(|at| self.is_unmarked(at)))
    }

    fn is_unmarked(&self, block: usize) -> bool {
        self.differing.get(block).copied().unwrap_or(false) && !self.is_marked(block)
    }

    fn is_marked(&self, block: usize) -> bool {
        let is_rotten = || {
            let block = u64::try_from(block);
            block.is_ok_and(|block| self.rotten.contains(&block))
        };
        let is_dirty = self
            .dirty
            .iter()
            .any(|marks| marks.get(block).copied().unwrap_or(false));
        is_dirty || (!self.rotten.is_empty() && is_rotten())
    }
}

fn may_differ<P: Possible + ?Sized>(block: u64, [one, other]: [&P; 2]) -> bool {
    (block * SECTORS..(block + 1) * SECTORS).any(|sector| {
        let only = one.only(sector);
        only.is_none() || only != other.only(sector)
    })
}

/// Sectors in a block.
const SECTORS: u64 = BLOCK_SIZE as u64 / 512;
