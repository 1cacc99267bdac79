//! The files that serve as disks: filled before they are measured, and compared afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Makes a new file, every byte of it written and on the disk: the first write to a hole would cost
/// an allocation. All files of a run hold the same.
pub(crate) fn fill(path: &Path, bytes: u64) -> Result<(), String> {
    let cannot = |error| format!("cannot fill {}: {error}", path.display());
    let mut file = File::create_new(path).map_err(cannot)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let block: Vec<u8> = (0..FILL_BYTES / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        let part = block.get(..length).unwrap_or(&block);
        file.write_all(part).map_err(cannot)?;
        left -= part.len() as u64;
    }
    file.sync_all().map_err(cannot)?;
    Ok(())
}

/// Where the first `bytes` of two files differ first.
pub(crate) fn first_difference(files: &[PathBuf; 2], bytes: u64) -> Result<Option<u64>, String> {
    let open = |path: &PathBuf| {
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))
    };
    let mut readers = [open(&files[0])?, open(&files[1])?];
    let mut blocks = [vec![0; FILL_BYTES], vec![0; FILL_BYTES]];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(FILL_BYTES, |left| left.min(FILL_BYTES));
        for (reader, block) in readers.iter_mut().zip(&mut blocks) {
            block.truncate(length);
            reader
                .read_exact(block)
                .map_err(|error| format!("cannot read a replica at {at}: {error}"))?;
        }
        let [first, second] = &blocks;
        if let Some(offset) = first.iter().zip(second).position(|(a, b)| a != b) {
            return Ok(Some(at + offset as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

/// How many bytes there are in blocks of which the two files' first `bytes` hold different ones.
pub(crate) fn different_bytes(files: &[PathBuf; 2], bytes: u64) -> Result<u64, String> {
    let open = |path: &PathBuf| {
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))
    };
    let mut readers = [open(&files[0])?, open(&files[1])?];
    let mut blocks = [vec![0; FILL_BYTES], vec![0; FILL_BYTES]];
    let (mut at, mut different) = (0, 0);
    while at < bytes {
        let length = usize::try_from(bytes - at).map_or(FILL_BYTES, |left| left.min(FILL_BYTES));
        for (reader, block) in readers.iter_mut().zip(&mut blocks) {
            block.truncate(length);
            reader
                .read_exact(block)
                .map_err(|error| format!("cannot read a replica at {at}: {error}"))?;
        }
        let [first, second] = &blocks;
        let pairs = first.chunks(BLOCK_BYTES).zip(second.chunks(BLOCK_BYTES));
        let lengths = pairs.filter(|(a, b)| a != b).map(|(a, _)| a.len() as u64);
        different += lengths.sum::<u64>();
        at += length as u64;
    }
    Ok(different)
}

const FILL_BYTES: usize = 1 << 20;

/// What one bit of a bitmap stands for.
const BLOCK_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
