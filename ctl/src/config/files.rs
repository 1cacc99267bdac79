//! The files of a configuration: reading one, and finding those an `include` pattern names.
//!
//! [`Files`] is the only door to the file system, so that tests can offer files from memory.
//! Nothing here looks into a file.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// What reading a configuration needs of a file system.
pub trait Files {
    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// One name for a file however it was reached, so that no file is read twice.
    fn identity(&self, path: &Path) -> PathBuf;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineFiles;

/// Files that exist only in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Files for MachineFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            // A name that is not text cannot match a pattern that is.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }
}

impl MemoryFiles {
    /// Adds or replaces a file.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        let path = self.identity(&path.into());
        self.files.insert(path, content.into());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let content = self.files.get(&self.identity(path));
        let content = content.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let length = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .min(content.len());
        Ok(content[..length].to_vec())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = self.identity(directory);
        let below = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&directory).ok());
        let first = below.filter_map(|path| path.components().next());
        Ok(first
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect())
    }

    fn identity(&self, path: &Path) -> PathBuf {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    plain.pop();
                }
                Component::RootDir | Component::Normal(_) | Component::Prefix(_) => {
                    plain.push(component);
                }
            }
        }
        plain
    }
}

/// Whether an include names files by a pattern rather than one file literally.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files a pattern names, sorted by name; empty when there is none or a directory on the
/// way cannot be listed.
pub(crate) fn matching(files: &dyn Files, base: &Path, pattern: &str) -> Vec<PathBuf> {
    let start = if pattern.starts_with('/') {
        PathBuf::from("/")
    } else {
        base.to_owned()
    };
    let mut found = vec![start];
    for part in pattern
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if is_pattern(part) {
            found = found
                .iter()
                .flat_map(|path| children(files, path, part))
                .collect();
        } else {
            for path in &mut found {
                path.push(part);
            }
        }
        found.truncate(MOST_MATCHES);
    }
    found
}

fn children(files: &dyn Files, directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let mut names = files.list(here).unwrap_or_default();
    let hidden = pattern.starts_with('.');
    names.retain(|name| (hidden || !name.starts_with('.')) && matches_pattern(pattern, name));
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Shell matching of one path component: `*`, `?`, `[a-z]`, `[!a-z]`.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stood and how much of the name it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, read));
            at += 1;
        } else if let Some(width) = matches_one(&pattern[at..], name[read]) {
            at += width;
            read += 1;
        } else if let Some((star_at, swallowed)) = star {
            star = Some((star_at, swallowed + 1));
            at = star_at + 1;
            read = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// How many characters of the pattern one character of the name uses up, if it matches.
fn matches_one(pattern: &[char], character: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let close = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let (negated, set) = match &pattern[1..close] {
                ['!' | '^', rest @ ..] => (true, rest),
                set => (false, set),
            };
            (in_set(set, character) != negated).then_some(close + 1)
        }
        literal => (*literal == character).then_some(1),
    }
}

fn in_set(set: &[char], character: char) -> bool {
    match set {
        [low, '-', high, rest @ ..] => {
            (*low..=*high).contains(&character) || in_set(rest, character)
        }
        [one, rest @ ..] => *one == character || in_set(rest, character),
        [] => false,
    }
}

/// Files one pattern may name; the rest is not looked at.
const MOST_MATCHES: usize = 10_000;
