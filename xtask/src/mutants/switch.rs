//! Which mutant runs: the number in `RBD_MUTANT`, and none without it. With the name of a file in
//! `RBD_MUTANT_NOTES`, none runs, and each function that is come to is noted there, once.
//!
//! This file is no part of xtask. It is put into a copy of `protocol`, where the woven bodies of
//! both crates ask it.

extern crate std;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io::Write;

static ACTIVE: AtomicU32 = AtomicU32::new(UNKNOWN);
static NOTED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// The number of the mutant that runs; another one when it is what nobody has changed. `function`
/// is where the program is.
#[inline]
pub fn active_in(function: u32) -> u32 {
    match ACTIVE.load(Ordering::Relaxed) {
        UNKNOWN => read(function),
        NOTES => note(function),
        known => known,
    }
}

#[cold]
fn read(function: u32) -> u32 {
    let text = std::env::var("RBD_MUTANT").unwrap_or_default();
    let known = match std::env::var_os("RBD_MUTANT_NOTES") {
        Some(_) => NOTES,
        None => text.parse().unwrap_or(0),
    };
    ACTIVE.store(known, Ordering::Relaxed);
    active_in(function)
}

#[cold]
fn note(function: u32) -> u32 {
    let bit = 1 << (function % 64);
    let word = &NOTED[function as usize / 64 % WORDS];
    if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        let file = std::env::var_os("RBD_MUTANT_NOTES").unwrap_or_default();
        let mut options = std::fs::OpenOptions::new();
        let file = options.append(true).create(true).open(file);
        let mut file = file.expect("the file for notes can be opened");
        let line = std::format!("{function}\n");
        file.write_all(line.as_bytes())
            .expect("the file for notes can be written");
    }
    NOTES
}

const UNKNOWN: u32 = u32::MAX;
const NOTES: u32 = u32::MAX - 1;

/// Of 64 functions each: for more mutants than there are.
const WORDS: usize = 1_024;
