//! One mutant: its file, and whether the text it replaces is still there.
//!
//! The files are TOML, of which only what they need is read: strings on one line in double quotes,
//! texts of many lines between triple single quotes (the line break before the closing ones is not
//! part of the text), and `[[edit]]`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A defect put in on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The file's name without its ending.
    pub(super) name: String,
    /// What is wrong, in a sentence.
    pub(super) story: String,
    /// Ids of what it violates.
    pub(super) invariants: String,
    /// Who must find it.
    pub(super) finder: Finder,
    /// What happened elsewhere that it imitates: rows of the list in `docs/reliability/zoo.md`.
    pub(super) like: String,
    /// What is replaced by what.
    pub(super) edits: Vec<Edit>,
}

/// Who must find a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finder {
    /// The simulation, with this profile.
    Simulation { profile: String },
    /// Tests of one crate whose names contain this.
    Test { package: String, filter: String },
}

/// One replacement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    /// Below the workspace's root.
    pub(super) file: PathBuf,
    /// Occurs there exactly once.
    pub(super) find: String,
    /// Takes its place.
    pub(super) replace: String,
}

/// The mutants that are found, or those that are not yet, in the order of their names.
pub(super) fn load_all(root: &Path, unfound: bool) -> Result<Vec<Mutant>, String> {
    let directory = root.join(if unfound { UNFOUND } else { DIRECTORY });
    if unfound && !directory.exists() {
        return Ok(Vec::new()); // all have been found
    }
    let entries =
        fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

/// What keeps mutants from being applied to the sources as they are: one line each. This is what
/// keeps the zoo from rotting between its runs.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mutants = match everything(root) {
        Ok(mutants) => mutants,
        Err(message) => return vec![message],
    };
    let mut complaints = Vec::new();
    for mutant in &mutants {
        if let Err(message) = mutant.apply(root) {
            complaints.push(message);
        }
    }
    complaints
}

/// The name of every mutant, and the ids of what it violates.
pub(crate) fn violated(root: &Path) -> Result<Vec<(String, String)>, String> {
    let mutants = everything(root)?;
    let pair = |mutant: Mutant| (mutant.name, mutant.invariants);
    Ok(mutants.into_iter().map(pair).collect())
}

fn everything(root: &Path) -> Result<Vec<Mutant>, String> {
    let mut mutants = load_all(root, false)?;
    mutants.extend(load_all(root, true)?);
    Ok(mutants)
}

impl Mutant {
    /// The changed files, with their new content.
    pub(super) fn apply(&self, root: &Path) -> Result<Vec<(PathBuf, String)>, String> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for edit in &self.edits {
            let complain = |what: &str| {
                let (name, file) = (&self.name, edit.file.display());
                Err(format!("{DIRECTORY}/{name}.toml: {file}: {what}"))
            };
            let at = files.iter().position(|(path, _)| *path == edit.file);
            let text = match at.map(|at| files.remove(at)) {
                Some((_, text)) => text,
                None => match fs::read_to_string(root.join(&edit.file)) {
                    Ok(text) => text,
                    Err(error) => return complain(&error.to_string()),
                },
            };
            match text.matches(&edit.find).count() {
                1 => {}
                0 => return complain("what it replaces is not there any more"),
                _ => return complain("what it replaces is there more than once"),
            }
            let changed = text.replace(&edit.find, &edit.replace);
            if changed == text {
                return complain("replaces a text by itself");
            }
            files.push((edit.file.clone(), changed));
        }
        Ok(files)
    }

    /// Reads a mutant's file.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut mutant = Self {
            name: name.to_owned(),
            story: String::new(),
            invariants: String::new(),
            like: String::new(),
            finder: Finder::Simulation {
                profile: String::new(),
            },
            edits: Vec::new(),
        };
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if line.trim() == "[[edit]]" {
                mutant.edits.push(Edit::default());
                continue;
            }
            let (key, value) = line
                .split_once(" = ")
                .ok_or_else(|| format!("not `key = value`: {line}"))?;
            let value = if value.trim() == QUOTES {
                let mut long = String::new();
                loop {
                    let line = lines
                        .next()
                        .ok_or_else(|| format!("{key}: the closing {QUOTES} is missing"))?;
                    if line == QUOTES {
                        break long;
                    }
                    if !long.is_empty() {
                        long.push('\n');
                    }
                    long.push_str(line);
                }
            } else {
                value
                    .trim()
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'))
                    .ok_or_else(|| format!("{key}: not a string in double quotes"))?
                    .to_owned()
            };
            mutant.set(key, value)?;
        }
        mutant.complete()
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        match (key, self.edits.last_mut()) {
            ("story", None) => self.story = value,
            ("invariants", None) => self.invariants = value,
            ("like", None) => self.like = value,
            ("finder", None) => self.finder = Finder::parse(&value)?,
            ("file", Some(edit)) => edit.file = value.into(),
            ("find", Some(edit)) => edit.find = value,
            ("replace", Some(edit)) => edit.replace = value,
            _ => return Err(format!("unknown key '{key}' here")),
        }
        Ok(())
    }

    fn complete(self) -> Result<Self, String> {
        let lacks = |what: &str| Err(format!("lacks {what}"));
        if self.story.is_empty() {
            return lacks("a story");
        }
        if self.invariants.is_empty() {
            return lacks("invariants");
        }
        if matches!(&self.finder, Finder::Simulation { profile } if profile.is_empty()) {
            return lacks("a finder");
        }
        if self.edits.is_empty() || self.edits.iter().any(|edit| edit.find.is_empty()) {
            return lacks("a text to find");
        }
        let inside =
            |edit: &Edit| edit.file.starts_with("engine") || edit.file.starts_with("protocol");
        if !self.edits.iter().all(inside) {
            return Err("changes something else than the engine and the protocol".to_owned());
        }
        Ok(self)
    }
}

impl Finder {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(test) = text.strip_prefix("test: ") else {
            return Ok(Self::Simulation {
                profile: text.to_owned(),
            });
        };
        let (package, filter) = test
            .split_once(' ')
            .ok_or("a test finder is `test: PACKAGE FILTER`")?;
        Ok(Self::Test {
            package: package.to_owned(),
            filter: filter.to_owned(),
        })
    }
}

impl fmt::Display for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulation { profile } => f.pad(profile),
            Self::Test { package, filter } => write!(f, "test {package} {filter}"),
        }
    }
}

fn load(path: &Path) -> Result<Mutant, String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Mutant::parse(&name, &text).map_err(|error| format!("{DIRECTORY}/{name}.toml: {error}"))
}

const DIRECTORY: &str = "tests/zoo";
const UNFOUND: &str = "tests/zoo/unfound";
const QUOTES: &str = "'''";
