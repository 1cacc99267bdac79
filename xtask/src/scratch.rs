//! A copy of the workspace below `target/`, in which sources may be broken on purpose.
//!
//! It keeps what it has built, so that the next build costs what has changed. The working copy
//! itself is only ever read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::source_files;
use crate::workspace::{self, Workspace};

/// Where the copy is and where it is built.
#[derive(Debug)]
pub(crate) struct ScratchCopy {
    /// The copied sources.
    pub(crate) source: PathBuf,
    /// Where Cargo puts what it builds of them.
    pub(crate) target: PathBuf,
}

impl ScratchCopy {
    /// Names the places; nothing is copied yet.
    pub(crate) fn new(place: &Path) -> Self {
        Self {
            source: place.join("source"),
            target: place.join("target"),
        }
    }

    /// Copies what has changed since the last time, with these texts instead of some files'.
    pub(crate) fn fill(
        &self,
        workspace: &Workspace,
        instead: &BTreeMap<PathBuf, String>,
    ) -> Result<(), String> {
        for path in source_files(&self.source, &[]) {
            let shown = path.strip_prefix(&self.source).unwrap_or(&path);
            if !workspace.root.join(shown).exists() && !instead.contains_key(shown) {
                fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
            }
        }
        for path in source_files(&workspace.root, &[]) {
            let shown = path.strip_prefix(&workspace.root).unwrap_or(&path);
            if !instead.contains_key(shown) {
                let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
                put(&self.source.join(shown), &bytes)?;
            }
        }
        self.replace(instead)
    }

    /// Writes these texts into the copy.
    pub(crate) fn replace(&self, instead: &BTreeMap<PathBuf, String>) -> Result<(), String> {
        for (shown, text) in instead {
            put(&self.source.join(shown), text.as_bytes())?;
        }
        Ok(())
    }

    /// A Cargo that works in the copy.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = workspace::cargo();
        command.current_dir(&self.source);
        command.env("CARGO_TARGET_DIR", &self.target);
        // Lints are for people; broken code may leave a variable unused.
        command.env("RUSTFLAGS", "--cap-lints=allow");
        command
    }
}

/// Writes a file unless it already says so: Cargo goes by the time of the last change.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
    }
    fs::write(path, bytes).map_err(|error| cannot("write", path, &error))
}

/// What is said when a file cannot be worked with.
pub(crate) fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}

/// The profile of `Cargo.toml` broken sources are built with: quick to build, and to run.
pub(crate) const PROFILE: &str = "zoo";

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Path, ScratchCopy, Workspace, fs};

    #[test]
    fn a_copy_has_other_texts_where_they_are_given_and_nothing_that_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("work");
        fs::create_dir_all(&root).expect("a directory in it");
        for (name, text) in [("kept", "1"), ("changed", "2")] {
            fs::write(root.join(name), text).expect("a file");
        }
        let copy = ScratchCopy::new(&directory.path().join("scratch"));
        fs::create_dir_all(&copy.source).expect("a directory in it");
        fs::write(copy.source.join("gone"), "4").expect("a file");
        let workspace = Workspace {
            target_directory: root.join("target"),
            root,
            packages: Vec::new(),
        };
        let texts = [("changed", "3"), ("new/one", "5")];
        let instead: BTreeMap<_, _> = texts.map(|(name, text)| (name.into(), text.into())).into();
        copy.fill(&workspace, &instead).expect("it is copied");
        copy.fill(&workspace, &instead).expect("it is copied again");
        let read = |name: &str| fs::read_to_string(copy.source.join(name)).ok();
        assert_eq!(read("kept").as_deref(), Some("1"));
        assert_eq!(read("changed").as_deref(), Some("3"));
        assert_eq!(read("new/one").as_deref(), Some("5"));
        assert_eq!(read("gone"), None);
        let untouched = fs::read_to_string(workspace.root.join(Path::new("changed")));
        assert_eq!(untouched.ok().as_deref(), Some("2"));
    }
}
