//! The committed inputs: files in `corpus/TARGET/`, small, each of them worth something.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the inputs of a target are.
#[must_use]
pub fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// Its inputs with their file names, sorted by name.
///
/// # Errors
/// When the directory or a file in it cannot be read.
pub fn read(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory(target))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs.push((name, fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}
