//! Rules about the text of our files that neither rustfmt nor clippy knows.
//!
//! It never judges meaning; each rule is one that a script can decide without doubt.

use std::fs;
use std::path::{Path, PathBuf};

use super::purity::contains_word;
use super::step::Verdict;

/// Applies every rule to every file of the workspace.
pub(super) fn check(root: &Path) -> Verdict {
    let private = private_paths(root);
    let mut found = Vec::new();
    for path in source_files(root, TEXT_ENDINGS) {
        let shown = path.strip_prefix(root).unwrap_or(&path);
        let Some(text) = fs::read(&path).ok().and_then(|bytes| as_text(shown, bytes)) else {
            found.push(format!("{}: is not readable text", shown.display()));
            continue;
        };
        if shown.extension().is_some_and(|ending| ending == "rs") {
            found.extend(rust_complaints(shown, &text));
        }
        found.extend(path_complaints(shown, &text, &private));
    }
    Verdict::of_complaints(&found)
}

/// A file's text, if it has one. What tests feed to a parser need not be UTF-8.
pub(super) fn as_text(path: &Path, bytes: Vec<u8>) -> Option<String> {
    let is_fixture = is_test(path) && path.extension().is_none_or(|ending| ending != "rs");
    String::from_utf8(bytes).map_or_else(
        |error| is_fixture.then(|| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Some,
    )
}

/// The rules for Rust sources.
pub(super) fn rust_complaints(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |line: usize, what: String| {
        found.push(format!("{}:{line}: {what}", path.display()));
    };
    let attribute = |line: &&str| line.trim().is_empty() || line.starts_with("#![");
    if !text
        .lines()
        .find(|line| !attribute(line))
        .is_some_and(|line| line.starts_with("//!"))
    {
        complain(
            1,
            "the //! header that says what this file is for is missing".to_owned(),
        );
    }
    let lines = text.lines().count();
    if lines > MOST_LINES && !is_test(path) {
        complain(
            lines,
            format!("{lines} lines, at most {MOST_LINES}: look for the seam"),
        );
    }
    for (index, line) in text.lines().enumerate() {
        let width = line.chars().count();
        if width > MOST_COLUMNS && !line.contains("://") {
            complain(
                index + 1,
                format!("{width} columns, at most {MOST_COLUMNS}"),
            );
        }
        for mark in UNFINISHED {
            if contains_word(line, mark) {
                complain(
                    index + 1,
                    format!("{mark} is for work that is not finished"),
                );
            }
        }
    }
    found
}

/// No file may name a place that exists on its author's machine only.
pub(super) fn path_complaints(path: &Path, text: &str, private: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for place in private {
            if begins_a_path(line, place) {
                found.push(format!(
                    "{}:{}: {place} is a place on somebody's own machine",
                    path.display(),
                    index + 1
                ));
            }
        }
    }
    found
}

/// Home directories, and the place this very working copy is in.
fn private_paths(root: &Path) -> Vec<String> {
    // Split, lest this file complain about itself.
    let mut places = vec![
        ["/ho", "me/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/Us", "ers/"].concat(),
    ];
    let components: Vec<String> = root
        .components()
        .skip(1)
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if let [first, second, ..] = components.as_slice()
        && !PUBLIC_PLACES.contains(&first.as_str())
    {
        places.push(format!("/{first}/{second}"));
    }
    places
}

/// Whether `place` occurs in the line as the beginning of an absolute path.
fn begins_a_path(line: &str, place: &str) -> bool {
    let inside_a_path = |c: char| c.is_alphanumeric() || "_-./$}".contains(c);
    line.match_indices(place)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(inside_a_path))
}

/// Whether a path belongs to tests, which may be long and may use what production may not.
pub(super) fn is_test(path: &Path) -> bool {
    path.components().any(|component| {
        let name = component.as_os_str().to_string_lossy();
        name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs")
    })
}

/// Every file below a directory whose name has one of the endings (all when none is given),
/// in a stable order; what is built or belongs to git is left out.
pub(crate) fn source_files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            if path.is_symlink() || LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            let ending = name.rsplit('.').next().unwrap_or_default();
            if path.is_dir() {
                directories.push(path);
            } else if endings.is_empty() || endings.contains(&ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

const TEXT_ENDINGS: &[&str] = &[
    "rs", "toml", "md", "sh", "run", "conf", "res", "service", "txt",
];
const LEFT_OUT: &[&str] = &[".git", "target"];
const MOST_LINES: usize = 500;
const MOST_COLUMNS: usize = 100;

/// Marks of unfinished work, split so that this file does not bear them.
const UNFINISHED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!"),
];

/// Roots under which a working copy says nothing about its author.
const PUBLIC_PLACES: &[&str] = &["tmp", "usr", "var", "etc", "run", "dev", "opt"];
