//! The directory a guest shares with this machine: programs and tests in, results out.
//!
//! What the guests are, and what becomes of the results, is not known here.

use std::fs;
use std::path::{Path, PathBuf};

/// What guests see of this machine; gone when dropped.
pub(super) struct Share {
    pub(super) directory: PathBuf,
}

impl Share {
    /// A share with these files in its `bin`, the tests in `tests`, udev's rules in `udev`, what a
    /// cluster manager needs in `cluster`, the recipes in `operating`, and an empty `out`.
    pub(super) fn new(cache: &Path, lab: &Path, files: &[PathBuf]) -> Result<Self, String> {
        let directory = cache.join(format!("share-{}", std::process::id()));
        let share = Self { directory };
        share
            .fill(lab, files)
            .map_err(|error| format!("{}: {error}", share.directory.display()))?;
        Ok(share)
    }

    fn fill(&self, lab: &Path, files: &[PathBuf]) -> std::io::Result<()> {
        for part in ["bin", "tests", "udev", "cluster", "operating", "out"] {
            fs::create_dir_all(self.directory.join(part))?;
        }
        for file in files {
            let name = file.file_name().unwrap_or_default();
            fs::copy(file, self.directory.join("bin").join(name))?;
        }
        self.copy(&lab.join("tests"), "tests")?;
        let tree = lab.join("../..");
        self.copy(&tree.join("cluster/udev"), "udev")?;
        for part in ["cluster/ocf", "cluster/handlers", "tests/cluster"] {
            self.copy(&tree.join(part), "cluster")?;
        }
        self.copy(&tree.join("docs/operating"), "operating")?;
        for program in ["guest-init", "fence"] {
            fs::copy(lab.join(program), self.directory.join(program))?;
        }
        Ok(())
    }

    /// Copies the files of a directory to one of the share.
    fn copy(&self, from: &Path, to: &str) -> std::io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(
                entry.path(),
                self.directory.join(to).join(entry.file_name()),
            )?;
        }
        Ok(())
    }

    /// A file of this size, of which nothing is there until it is written.
    pub(super) fn empty_file(&self, name: &str, bytes: u64) -> Result<(), String> {
        let path = self.directory.join(name);
        let made = fs::File::create(&path).and_then(|file| file.set_len(bytes));
        made.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// How the guest says its test has ended.
    pub(super) fn code(&self) -> Option<i32> {
        let text = fs::read_to_string(self.directory.join("out/code")).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("xtask lab: {}: {error}", self.directory.display());
        }
    }
}
