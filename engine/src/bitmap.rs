//! The dirty bitmap towards one peer: which 4 KiB blocks may differ.
//!
//! Held in pages of the size of an on-disk block, present only where something is dirty, so that a
//! clean terabyte costs nothing and finding the next dirty block never walks clean pages. A page
//! whose content on disk may differ from memory is *unsaved*. This module counts and finds; when a
//! page may be saved, and when a bit may be cleared, is decided by its callers (B9, B10).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use rbd_protocol::ids::{BLOCK_SIZE, ByteRange};

/// Words in a page.
pub(crate) const WORDS: usize = 504;

/// Bits in a page.
pub(crate) const BITS_PER_PAGE: u64 = 504 * 64;

/// The words of a page.
pub(crate) type Words = [u64; WORDS];

#[derive(Clone, Debug)]
struct Page {
    words: Box<Words>,
    set: u32,
}

/// Dirty bits of one volume towards one peer.
#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    bits: u64,
    pages: BTreeMap<u32, Page>,
    set: u64,
    unsaved: BTreeSet<u32>,
}

impl Bitmap {
    /// A clean bitmap for so many bytes of data.
    pub(crate) fn new(data_bytes: u64) -> Self {
        let bits = data_bytes.div_ceil(u64::from(BLOCK_SIZE));
        Self {
            bits,
            pages: BTreeMap::new(),
            set: 0,
            unsaved: BTreeSet::new(),
        }
    }

    /// The data now has so many bytes. Every block it has more is dirty, if `dirty`; its pages are
    /// to be saved either way.
    pub(crate) fn resize(&mut self, data_bytes: u64, dirty: bool) {
        let (before, bits) = (self.bits, data_bytes.div_ceil(u64::from(BLOCK_SIZE)));
        self.clear_bits(bits, before);
        self.bits = bits;
        self.unsaved
            .retain(|page| u64::from(*page) * BITS_PER_PAGE < bits);
        if dirty {
            self.set_bits(before, bits);
        } else if before < bits {
            let first = u32::try_from(before / BITS_PER_PAGE).unwrap_or(u32::MAX);
            self.unsaved.extend(first..self.page_count());
        }
    }

    /// How many blocks are dirty.
    pub(crate) fn count(&self) -> u64 {
        self.set
    }

    /// Whether no block is dirty.
    pub(crate) fn is_clean(&self) -> bool {
        self.set == 0
    }

    /// Number of pages needed to cover the data.
    pub(crate) fn page_count(&self) -> u32 {
        u32::try_from(self.bits.div_ceil(BITS_PER_PAGE)).unwrap_or(u32::MAX)
    }

    /// Marks every block the range touches. Returns how many were clean before.
    pub(crate) fn set_touched(&mut self, range: ByteRange) -> u64 {
        let block = u64::from(BLOCK_SIZE);
        self.set_bits(range.offset / block, range.end().div_ceil(block))
    }

    /// Clears every block the range covers whole. Returns how many were dirty before.
    pub(crate) fn clear_covered(&mut self, range: ByteRange) -> u64 {
        let block = u64::from(BLOCK_SIZE);
        let mut end = range.end() / block;
        if range.end().div_ceil(block) == self.bits {
            end = self.bits; // the last block may be cut short by the end of the data
        }
        self.clear_bits(range.offset.div_ceil(block), end)
    }

    /// Marks everything.
    pub(crate) fn set_all(&mut self) {
        self.set_bits(0, self.bits);
        self.unsaved.extend(0..self.page_count());
    }

    /// Clears everything and leaves every page to be saved.
    pub(crate) fn clear_all(&mut self) {
        self.pages.clear();
        self.set = 0;
        self.unsaved.extend(0..self.page_count());
    }

    fn set_bits(&mut self, from: u64, to: u64) -> u64 {
        let before = self.set;
        for_each_piece(from, to.min(self.bits), |page, word, mask| {
            let entry = self.pages.entry(page).or_insert_with(|| Page {
                words: Box::new([0; WORDS]),
                set: 0,
            });
            if let Some(word) = entry.words.get_mut(word) {
                let new = (mask & !*word).count_ones();
                if new > 0 {
                    *word |= mask;
                    entry.set += new;
                    self.set += u64::from(new);
                    self.unsaved.insert(page);
                }
            }
        });
        self.set - before
    }

    fn clear_bits(&mut self, from: u64, to: u64) -> u64 {
        let before = self.set;
        let mut emptied = false;
        for_each_piece(from, to.min(self.bits), |page, word, mask| {
            let Some(entry) = self.pages.get_mut(&page) else {
                return;
            };
            if let Some(word) = entry.words.get_mut(word) {
                let gone = (mask & *word).count_ones();
                if gone > 0 {
                    *word &= !mask;
                    entry.set -= gone;
                    self.set -= u64::from(gone);
                    self.unsaved.insert(page);
                    emptied |= entry.set == 0;
                }
            }
        });
        if emptied {
            self.pages.retain(|_, page| page.set > 0);
        }
        before - self.set
    }

    /// Joins a page from elsewhere (disk or peer) into this one. Bits beyond the end of the data
    /// are ignored. `saved` tells that the page is on disk as given.
    pub(crate) fn merge_page(&mut self, page: u32, words: &Words, saved: bool) {
        let was_unsaved = self.unsaved.contains(&page);
        let was_absent = !self.pages.contains_key(&page);
        let base = u64::from(page) * BITS_PER_PAGE;
        for (index, word) in (0_u64..).zip(words) {
            let mut rest = *word;
            while rest != 0 {
                let start = u64::from(rest.trailing_zeros());
                let run = u64::from((rest >> start).trailing_ones());
                let first = base + index * 64 + start;
                self.set_bits(first, first + run);
                rest = if start + run >= 64 {
                    0
                } else {
                    rest & (u64::MAX << (start + run))
                };
            }
        }
        if saved && was_absent && !was_unsaved {
            self.unsaved.remove(&page);
        }
    }

    /// The first run of dirty blocks at or after `from` (a byte offset), at most `limit` bytes long
    /// and not crossing a page, as a byte range; `None` if there is none up to the end.
    pub(crate) fn next_run(&self, from: u64, limit: u32, data_bytes: u64) -> Option<ByteRange> {
        let block = u64::from(BLOCK_SIZE);
        let from_bit = from.div_ceil(block);
        let first_page = u32::try_from(from_bit / BITS_PER_PAGE).ok()?;
        for (page, content) in self.pages.range(first_page..) {
            let base = u64::from(*page) * BITS_PER_PAGE;
            let start_in_page = from_bit.saturating_sub(base);
            let Some(first) = next_set(&content.words, start_in_page) else {
                continue;
            };
            let longest = u64::from(limit) / block;
            let mut end = first;
            while end < BITS_PER_PAGE && end - first < longest && is_set(&content.words, end) {
                end += 1;
            }
            let offset = (base + first) * block;
            let stop = ((base + end) * block).min(data_bytes);
            let length = u32::try_from(stop.checked_sub(offset)?).ok()?;
            return Some(ByteRange::new(offset, length));
        }
        None
    }

    /// The pages that are not all zero.
    pub(crate) fn dirty_pages(&self) -> impl Iterator<Item = (u32, &Words)> {
        self.pages
            .iter()
            .map(|(page, content)| (*page, &*content.words))
    }

    /// The words of one page.
    pub(crate) fn page(&self, page: u32) -> Words {
        self.pages
            .get(&page)
            .map_or([0; WORDS], |content| *content.words)
    }

    /// A page whose content on disk may differ from memory, if there is one, at or after `from`.
    pub(crate) fn next_unsaved(&self, from: u32) -> Option<u32> {
        self.unsaved.range(from..).next().copied()
    }

    /// Whether some page's content on disk may differ.
    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Tells that the page is being written as it is now.
    pub(crate) fn note_saving(&mut self, page: u32) {
        self.unsaved.remove(&page);
    }

    /// Tells that writing the page failed or must be repeated.
    pub(crate) fn note_unsaved(&mut self, page: u32) {
        self.unsaved.insert(page);
    }
}

/// Sets the bits of `range` in a page's words that were copied out of a bitmap.
pub(crate) fn set_in_copy(words: &mut Words, page: u32, range: ByteRange) {
    let block = u64::from(BLOCK_SIZE);
    for_each_piece(
        range.offset / block,
        range.end().div_ceil(block),
        |at, word, mask| {
            if at == page
                && let Some(word) = words.get_mut(word)
            {
                *word |= mask;
            }
        },
    );
}

/// The page that holds the block at this byte offset.
pub(crate) fn page_of(offset: u64) -> u32 {
    u32::try_from(offset / u64::from(BLOCK_SIZE) / BITS_PER_PAGE).unwrap_or(u32::MAX)
}

fn for_each_piece(from: u64, to: u64, mut visit: impl FnMut(u32, usize, u64)) {
    let mut bit = from;
    while bit < to {
        let page = bit / BITS_PER_PAGE;
        let in_page = bit % BITS_PER_PAGE;
        let word = in_page / 64;
        let start = in_page % 64;
        let run = (64 - start).min(to - bit);
        let mask = if run == 64 {
            u64::MAX
        } else {
            ((1_u64 << run) - 1) << start
        };
        if let (Ok(page), Ok(word)) = (u32::try_from(page), usize::try_from(word)) {
            visit(page, word, mask);
        }
        bit += run;
    }
}

fn is_set(words: &Words, bit: u64) -> bool {
    usize::try_from(bit / 64)
        .ok()
        .and_then(|index| words.get(index))
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

fn next_set(words: &Words, from: u64) -> Option<u64> {
    let mut mask = u64::MAX << (from % 64);
    for (index, word) in (0_u64..).zip(words).skip(usize::try_from(from / 64).ok()?) {
        let rest = word & mask;
        if rest != 0 {
            return Some(index * 64 + u64::from(rest.trailing_zeros()));
        }
        mask = u64::MAX;
    }
    None
}

#[cfg(test)]
mod tests;
