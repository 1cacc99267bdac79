//! The log that the kernel's dm-log-writes target keeps of a disk: every write in the order in
//! which it became durable, with the flushes and the marks between them.
//!
//! Applying it step by step to an empty disk gives each state that a loss of power could have left
//! at a flush. What is in those states is not judged here.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A log that is read.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    sector_bytes: u64,
    entries: u64,
}

/// Where in a log one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many entries are behind.
    pub entry: u64,
    /// The sector of the next one.
    pub sector: u64,
}

/// Why applying has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Everything up to here is durable: a flush, or a write that is durable by itself.
    Flush,
    /// Somebody has written this into the log.
    Mark(String),
    /// There is no more.
    End,
}

impl WriteLog {
    /// Reads how much there is.
    ///
    /// # Errors
    /// When it cannot be read, or is no such log.
    pub fn open(file: File) -> io::Result<Self> {
        let mut block = [0; 28];
        file.read_exact_at(&mut block, 0)?;
        let sector_bytes = u64::from(u32::from_le_bytes(bytes(&block, 24)));
        let known = word(&block, 0) == MAGIC && word(&block, 8) == VERSION;
        if !known || !(512..=4096).contains(&sector_bytes) {
            return Err(damaged("this is no log of dm-log-writes"));
        }
        let entries = word(&block, 16);
        Ok(Self {
            file,
            sector_bytes,
            entries,
        })
    }

    /// Applies entries to the disk from a position on, until something tells to stop.
    ///
    /// # Errors
    /// When the log cannot be read or the disk not be written.
    pub fn apply(&self, disk: &File, mut at: Position) -> io::Result<(Position, Stop)> {
        while at.entry < self.entries {
            let mut block = vec![0; 512];
            self.file
                .read_exact_at(&mut block, at.sector * self.sector_bytes)?;
            let entry = Entry {
                sector: word(&block, 0),
                sectors: word(&block, 8),
                flags: word(&block, 16),
            };
            at.entry += 1;
            at.sector += 1;
            if entry.flags & MARK != 0 {
                let length = usize::try_from(word(&block, 24)).unwrap_or(usize::MAX);
                let text = block[ENTRY_BYTES..].get(..length);
                let text = text.ok_or_else(|| damaged("a mark is longer than its sector"))?;
                let text = String::from_utf8_lossy(text).into_owned();
                return Ok((at, Stop::Mark(text)));
            }
            at.sector += self.write(disk, &entry, at.sector)?;
            if entry.flags & (FLUSH | FUA) != 0 {
                return Ok((at, Stop::Flush));
            }
        }
        Ok((at, Stop::End))
    }

    /// Does to the disk what the entry says, and returns how many sectors of the log held the data.
    fn write(&self, disk: &File, entry: &Entry, data_at: u64) -> io::Result<u64> {
        let is_discard = entry.flags & DISCARD != 0;
        let mut left = entry.sectors * self.sector_bytes;
        let mut to = entry.sector * self.sector_bytes;
        let mut from = data_at * self.sector_bytes;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            // What is discarded reads as zeroes, as it does from the disks under our own.
            if !is_discard {
                self.file.read_exact_at(&mut piece[..length], from)?;
            }
            disk.write_all_at(&piece[..length], to)?;
            left -= length as u64;
            to += length as u64;
            from += length as u64;
        }
        Ok(if is_discard { 0 } else { entry.sectors })
    }
}

impl Position {
    /// The first entry stands behind the sector that describes the log.
    pub const START: Self = Self {
        entry: 0,
        sector: 1,
    };
}

struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
}

fn word(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(block, at))
}

fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[at..at + N]);
    bytes
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const ENTRY_BYTES: usize = 32;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// How much is copied at once.
const PIECE: usize = 1 << 20;
