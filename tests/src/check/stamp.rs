//! Sectors that say where they belong and which write they are from.
//!
//! A sector that is stale, shifted, torn, from another run or damaged in a single bit is told
//! from a good one, because all of it follows from three numbers in its first bytes.

/// What can be said of a sector's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Exactly what this version of the sector holds.
    Version(u32),
    /// Nothing but zeroes.
    Zero,
    /// Anything else, in words.
    Wrong(String),
}

/// Fills one sector with its content as of `version`.
pub fn fill(run: u64, sector: u64, version: u32, out: &mut [u8]) {
    let (head, rest) = out.split_at_mut(HEAD);
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&run.to_le_bytes());
    head[16..24].copy_from_slice(&sector.to_le_bytes());
    head[24..32].copy_from_slice(&u64::from(version).to_le_bytes());
    let mut state = mix(run ^ mix(sector ^ mix(u64::from(version))));
    for word in rest.chunks_mut(8) {
        state = state.wrapping_add(STEP);
        word.copy_from_slice(&mix(state).to_le_bytes()[..word.len()]);
    }
}

/// Tells what a sector holds.
#[must_use]
pub fn look_at(run: u64, sector: u64, bytes: &[u8]) -> Found {
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Zero;
    }
    let number = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    if bytes[..8] != MAGIC {
        return Found::Wrong(format!("no stamp, but {:02x?}…", &bytes[..16]));
    }
    if number(8) != run {
        return Found::Wrong(format!("a stamp of run {:#x}", number(8)));
    }
    if number(16) != sector {
        return Found::Wrong(format!("what belongs to sector {}", number(16)));
    }
    let Ok(version) = u32::try_from(number(24)) else {
        return Found::Wrong(format!("version {}", number(24)));
    };
    let mut expected = [0; SECTOR];
    fill(run, sector, version, &mut expected);
    match bytes.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Found::Version(version),
        Some(at) => Found::Wrong(format!("version {version}, damaged at byte {at}")),
    }
}

/// The finalizer of splitmix64: every input bit changes about half of the output bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes of a sector.
pub const SECTOR: usize = 512;

const HEAD: usize = 32;
const MAGIC: [u8; 8] = *b"rbdstamp";
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
