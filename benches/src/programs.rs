//! Where this program and those it measures are, and what their files lie on.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// Where `rbdd` and `rbdadm` are, built for release first if cargo started this program.
pub(crate) fn build(given: Option<&Path>) -> Result<PathBuf, String> {
    let directory = match given {
        Some(directory) => directory.to_path_buf(),
        None => own_directory()?,
    };
    if let (None, Some(cargo), Some(manifest)) = (
        given,
        env::var_os("CARGO"),
        env::var_os("CARGO_MANIFEST_DIR"),
    ) {
        eprintln!("building rbdd and rbdadm for release");
        let mut command = Command::new(cargo);
        command
            .args(["build", "--release", "--quiet"])
            .args(["--package", "rbd-replicator", "--package", "rbdadm"])
            .current_dir(manifest);
        process::succeed(&mut command, BUILD_DEADLINE)?;
    }
    for program in ["rbdd", "rbdadm"] {
        if !directory.join(program).is_file() {
            return Err(format!(
                "{program} is not in {}; build it with \
                 `cargo build --release --package rbd-replicator --package rbdadm`",
                directory.display()
            ));
        }
    }
    Ok(directory)
}

/// The directory of this program: on a disk, writable by who built it, and ignored by git.
pub(crate) fn own_directory() -> Result<PathBuf, String> {
    let program =
        env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))?;
    let directory = program.parent().ok_or("my own program is nowhere")?;
    Ok(directory.to_path_buf())
}

/// What kind of file system a directory is on, in words.
pub(crate) fn file_system(directory: &Path) -> String {
    let mut command = Command::new("stat");
    command
        .args(["--file-system", "--format=%T"])
        .arg(directory);
    let said = process::succeed(&mut command, Duration::from_secs(10));
    // One magic number stands for all three.
    said.map_or_else(
        |_| "an unknown file system".to_owned(),
        |text| text.trim().replace("ext2/ext3", "ext4"),
    )
}

const BUILD_DEADLINE: Duration = Duration::from_secs(1800);
