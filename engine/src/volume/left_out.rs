//! What the source of a resync cannot read: it is left out, everything else is copied, and it is
//! asked for again now and then.
//!
//! A request that fails as a whole is asked again block by block, so that only what really cannot
//! be read is missing in the end. After many such blocks in a row, as on a disk that is gone as a
//! whole, requests are left out as they are. The bits stay set on both nodes and the target stays
//! Inconsistent: a copy with holes is not taken for whole (E1). To let the source go for one place
//! would leave nobody with the data (H4).
//!
//! Each question costs a failing disk seconds. So only a few of the blocks are asked for again at a
//! time, others each time; and as long as most of those can be read, more and more at once.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, NodeId};

use super::Volume;
use crate::bitmap::Bitmap;
use crate::context::Context;
use crate::contract::{Level, Time};

/// What has been left out of one resync.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut {
    /// Where a request has failed: asked for block by block.
    careful: VecDeque<ByteRange>,
    /// Blocks that cannot be read, by their offset.
    blocks: BTreeSet<u64>,
    retry_at: Option<Time>,
    /// So many blocks have failed since anything was read.
    in_a_row: usize,
    /// Some are being asked for again: so many at a time, the next from this offset on.
    probing: Option<(usize, u64)>,
    /// How many blocks have been read, and how many have failed, since that began.
    read: u64,
    failed: u64,
    /// How long they are left in peace, in milliseconds, if longer than at first.
    patience_ms: Option<u64>,
}

impl LeftOut {
    /// The next run to ask for: a block of what has failed, or else from `cursor` on, which moves
    /// past it and past what is left out.
    pub(super) fn next_run(
        &mut self,
        bitmap: &Bitmap,
        cursor: &mut u64,
        (room, size): (u32, u64),
    ) -> Option<ByteRange> {
        if self.is_full() {
            return None;
        }
        while let Some(failed) = self.careful.front_mut() {
            let run = bitmap.next_run(failed.offset, BLOCK_SIZE, failed.end());
            let Some(run) = run.filter(|run| run.length > 0) else {
                self.careful.pop_front();
                continue;
            };
            let rest = failed.end() - run.end();
            *failed = ByteRange::new(run.end(), u32::try_from(rest).unwrap_or(0));
            return Some(run);
        }
        loop {
            let mut run = bitmap.next_run(*cursor, room, size)?;
            match self.blocks.range(run.offset..run.end()).next() {
                Some(first) if *first == run.offset => {
                    *cursor = run.offset + u64::from(BLOCK_SIZE);
                    continue;
                }
                Some(first) => {
                    let length = first - run.offset;
                    run.length = u32::try_from(length).unwrap_or(BLOCK_SIZE);
                }
                None => {}
            }
            *cursor = run.end();
            return Some(run);
        }
    }

    /// Whether anything else is missing, of so many blocks, that may be asked for now.
    pub(super) fn leaves_more_of(&self, missing: u64) -> bool {
        !self.is_full() && u64::try_from(self.blocks.len()).is_ok_and(|count| count < missing)
    }

    /// When they are asked for again.
    pub(super) fn due(&self) -> Option<Time> {
        self.retry_at
    }

    /// A new link: what is no longer missing is forgotten, and nothing is under way any more.
    pub(super) fn resume(&mut self, bitmap: &Bitmap) {
        let block = u64::from(BLOCK_SIZE);
        let run = |at: u64| bitmap.next_run(at, BLOCK_SIZE, at + block);
        let is_missing = |at: &u64| run(*at).is_some_and(|run| run.length > 0);
        let mut blocks = core::mem::take(&mut self.blocks);
        blocks.retain(is_missing);
        *self = Self {
            retry_at: self.retry_at.filter(|_| !blocks.is_empty()),
            probing: self.probing,
            patience_ms: self.patience_ms,
            blocks,
            ..Self::default()
        };
    }

    fn add(&mut self, range: ByteRange, bitmap: &Bitmap, now: Time) {
        if range.length > BLOCK_SIZE && !self.is_hopeless() {
            self.careful.push_back(range);
            return;
        }
        self.leave(range, bitmap);
        self.in_a_row += 1;
        self.retry_at = self.retry_at.or(Some(now.plus_ms(self.wait_ms())));
        if self.is_hopeless() {
            for range in core::mem::take(&mut self.careful) {
                self.leave(range, bitmap);
            }
        }
    }

    /// What is missing there is not asked for in this attempt.
    fn leave(&mut self, range: ByteRange, bitmap: &Bitmap) {
        let mut from = range.offset;
        let next = |from| bitmap.next_run(from, BLOCK_SIZE, range.end());
        while let Some(run) = next(from).filter(|run| run.length > 0) {
            self.blocks.insert(run.offset);
            self.failed += 1;
            from = run.end();
        }
    }

    /// Whether so much has failed in a row that it is not worth while to ask for single blocks.
    fn is_hopeless(&self) -> bool {
        self.in_a_row >= SINGLE
    }

    /// So many that nothing more is asked for until they are asked for again.
    fn is_full(&self) -> bool {
        self.blocks.len() >= MOST
    }

    fn wait_ms(&self) -> u64 {
        self.patience_ms.unwrap_or(RETRY_MS)
    }

    /// The source has read so many bytes.
    pub(super) fn note_read(&mut self, length: u64) {
        self.read += length.div_ceil(u64::from(BLOCK_SIZE));
        self.in_a_row = 0;
    }

    /// Asks for some of them again, if it is time.
    pub(super) fn try_again(&mut self, cursor: &mut u64, now: Time) {
        let goes_well = self.probing.is_some() && self.read > self.failed;
        if !goes_well && self.retry_at.is_none_or(|due| due > now) {
            return;
        }
        let patience = match self.probing {
            Some(_) if self.read > 0 => RETRY_MS,
            _ => (self.wait_ms() * 2).min(LONGEST_RETRY_MS),
        };
        let (count, from) = match self.probing {
            Some((count, from)) if goes_well => (count.saturating_mul(2), from),
            Some((_, from)) => (PROBES, from),
            None => (PROBES, 0),
        };
        if self.is_full() {
            // Such a source has failed; but what comes behind may be readable.
            *cursor = self.blocks.last().map_or(0, |last| last + 1);
            *self = Self {
                patience_ms: Some(patience),
                ..Self::default()
            };
            return;
        }
        let later = self.blocks.range(from..).chain(self.blocks.range(..from));
        let asked: Vec<u64> = later.take(count).copied().collect();
        for offset in &asked {
            self.blocks.remove(offset);
        }
        let next = asked.last().map_or(0, |last| last + 1);
        self.careful.clear();
        self.probing = (!asked.is_empty()).then_some((count, next));
        (self.in_a_row, self.read, self.failed) = (0, 0, 0);
        self.patience_ms = Some(patience);
        self.retry_at = (!self.blocks.is_empty()).then(|| now.plus_ms(patience));
        *cursor = 0;
    }
}

impl<B: Clone> Volume<B> {
    /// The source cannot read this part of what it was asked for.
    pub(crate) fn resync_refused(
        &mut self,
        node: NodeId,
        id: u64,
        part: ByteRange,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        let Some(target) = &mut peer.target else {
            return Ok(());
        };
        let Some(asked) = target.outstanding.get_mut(&id) else {
            return Ok(());
        };
        if !asked.takes(part, false) {
            return Err("that something cannot be read which nobody asked for");
        }
        asked.left = asked.left.saturating_sub(u64::from(part.length));
        if asked.left == 0 {
            let (whole, asked) = (u64::from(asked.range.length), asked.asked);
            target.outstanding.remove(&id);
            target.outstanding_bytes -= whole;
            let options = &peer.resync_options;
            target.window.answered(asked, whole, options, cx.now);
        }
        // Asked for again when everything under way has been answered, and not twice.
        let is_first = target.left_out.retry_at.is_none();
        target.left_out.add(part, &peer.bitmap, cx.now);
        if is_first && target.left_out.retry_at.is_some() {
            let text = alloc::format!(
                "the source of the resync cannot read {}: left out, and asked for again in {} s",
                part.offset,
                target.left_out.wait_ms() / 1000
            );
            cx.report(Level::Error, Some(node), Some(self.number), text);
        }
        self.unsettled = true;
        Ok(())
    }
}

/// After so many blocks (256 MiB) the rest waits until it is time to ask for them again: such a
/// source has failed, and what is remembered of it is bounded.
const MOST: usize = 65_536;

/// After so many blocks in a row that cannot be read, whole requests are left out.
const SINGLE: usize = 64;

/// How many blocks are asked for again at a time.
const PROBES: usize = 32;

/// How long to wait before the source is asked again for what it could not read.
const RETRY_MS: u64 = 10_000;

/// The longest such wait: each attempt costs a failing disk seconds per place, and people who have
/// put in the cable again do not want to wait longer.
const LONGEST_RETRY_MS: u64 = 40_000;

#[cfg(test)]
mod tests;
