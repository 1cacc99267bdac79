//! Byte by byte comparison of two disks.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Where the first `length` bytes of two files differ, if they do.
///
/// # Errors
/// When one of them cannot be read or is shorter.
pub fn first_difference(left: &Path, right: &Path, length: u64) -> io::Result<Option<u64>> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
    let mut position = 0;
    while position < length {
        let count = usize::try_from(length - position)
            .unwrap_or(PIECE)
            .min(PIECE);
        let [a, b] = &mut buffers;
        left.read_exact(&mut a[..count])?;
        right.read_exact(&mut b[..count])?;
        if let Some(at) = (0..count).find(|at| a[*at] != b[*at]) {
            return Ok(Some(position + at as u64));
        }
        position += count as u64;
    }
    Ok(None)
}

const PIECE: usize = 1 << 20;
