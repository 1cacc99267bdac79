//! Making a range read as zeroes, in the cheapest way the disk can.
//!
//! Giving the space back, zeroing without writing, and writing zeroes: tried in this order, each
//! refusal remembered by the disk. A plain discard is never used, for what it leaves behind is
//! not defined and two replicas would differ.

use std::rc::Rc;

use rbd_protocol::ids::ByteRange;
use rustix::io::Errno;

use super::buffer::{Buffer, Pool};
use super::disk::Disk;
use super::operation::{Operation, as_u64};

/// How far the zeroing of a range has come.
#[derive(Debug)]
pub(super) struct Progress {
    range: ByteRange,
    /// Durable when finished.
    fua: bool,
    /// Give the space back.
    discard: bool,
    /// Where writing zeroes goes on.
    written_to: u64,
    stage: Stage,
    zeroes: Option<Buffer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Zeroing,
    Syncing,
    Done,
}

impl Progress {
    pub(super) fn new(range: ByteRange, fua: bool, discard: bool) -> Self {
        let stage = if range.length == 0 {
            Stage::Done
        } else {
            Stage::Zeroing
        };
        Self {
            range,
            fua,
            discard,
            written_to: range.offset,
            stage,
            zeroes: None,
        }
    }

    /// What to do next; nothing if the range is zero.
    pub(super) fn next(&mut self, disk: &Disk, pool: &Pool) -> Option<Operation> {
        let file = Rc::clone(&disk.data);
        match self.stage {
            Stage::Done => return None,
            Stage::Syncing => return Some(Operation::Sync { file }),
            Stage::Zeroing => {}
        }
        let offset = self.range.offset;
        let length = u64::from(self.range.length);
        if self.discard && !disk.cannot_punch.get() {
            return Some(Operation::Allocate {
                file,
                mode: PUNCH,
                offset,
                length,
            });
        }
        if !disk.cannot_zero.get() {
            return Some(Operation::Allocate {
                file,
                mode: ZERO,
                offset,
                length,
            });
        }
        let left = self.range.end() - self.written_to;
        let end = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let buffer = self.zeroes.get_or_insert_with(|| pool.zeroes(end)).clone();
        let offset = self.written_to;
        Some(Operation::Write {
            file,
            offset,
            buffer,
            done: 0,
            end,
            durable: false,
        })
    }

    /// The operation has done its work.
    pub(super) fn succeeded(
        &mut self,
        operation: &Operation,
        disk: &Disk,
        pool: &Pool,
    ) -> Option<Operation> {
        let mut wrote_all = true;
        if let Operation::Write { end, .. } = operation {
            self.written_to += as_u64(*end);
            wrote_all = self.written_to >= self.range.end();
        }
        if wrote_all {
            self.stage = match self.stage {
                Stage::Zeroing if self.fua => Stage::Syncing,
                Stage::Zeroing | Stage::Syncing | Stage::Done => Stage::Done,
            };
        }
        self.next(disk, pool)
    }

    /// The operation failed: if the disk just cannot do it this way, here is another.
    pub(super) fn refused(
        &mut self,
        error: Errno,
        operation: &Operation,
        disk: &Disk,
        pool: &Pool,
    ) -> Option<Operation> {
        let Operation::Allocate { mode, .. } = operation else {
            return None;
        };
        let cannot = [
            Errno::OPNOTSUPP,
            Errno::INVAL,
            Errno::NODEV,
            Errno::NOSYS,
            Errno::PERM,
        ];
        if !cannot.contains(&error) {
            return None;
        }
        let known = if *mode == PUNCH {
            &disk.cannot_punch
        } else {
            &disk.cannot_zero
        };
        known.set(true);
        self.next(disk, pool)
    }
}

/// Whether all of it is zero. What is not is mostly told by its first bytes.
pub(super) fn is_zero(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// The file keeps its size: a volume must not shrink.
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// How much is written at once where zeroes have to be written.
const PIECE: usize = 1 << 20;
