//! Proof that `protocol` and `engine` know no clock, file, socket, thread or chance.
//!
//! Building them for a target that has no operating system is the proof. Where that target is
//! not installed, and beside it, their source text is searched for what must not be there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::step::Verdict;
use super::tidy::{is_test, source_files};
use crate::process;
use crate::workspace::{self, Workspace};

/// Searches the sources, then builds for the bare target if that can be done here.
pub(super) fn check(workspace: &Workspace) -> Verdict {
    let mut found = Vec::new();
    for (_, directory) in PURE {
        found.extend(crate_complaints(&workspace.root.join(directory)));
    }
    let sources = Verdict::of_complaints(&found);
    if sources != Verdict::Passed {
        return sources;
    }
    if !target_is_installed() {
        return Verdict::Skipped(format!(
            "target {TARGET} is not installed; sources are clean"
        ));
    }
    let mut command = workspace::cargo();
    command.args(["build", "--quiet", "--target", TARGET]);
    for (package, _) in PURE {
        command.args(["--package", package]);
    }
    Verdict::of(process::run(&mut command))
}

fn crate_complaints(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in source_files(&directory.join("src"), &["rs"]) {
        let Ok(text) = fs::read_to_string(&path) else {
            found.push(format!("{}: cannot be read", path.display()));
            continue;
        };
        if path.ends_with("src/lib.rs") && !text.lines().any(|line| line.trim() == "#![no_std]") {
            found.push(format!("{}: #![no_std] is missing", path.display()));
        }
        // Where the working copy itself lies says nothing about the file.
        if !is_test(path.strip_prefix(directory).unwrap_or(&path)) {
            found.extend(source_complaints(&path, &text));
        }
    }
    found
}

/// What a pure source must not say, outside comments and test-only items.
pub(super) fn source_complaints(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut test_item = TestItem::default();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if test_item.covers(code) {
            continue;
        }
        for forbidden in FORBIDDEN {
            if contains_word(code, forbidden) {
                found.push(format!("{}:{}: {forbidden}", path.display(), index + 1));
            }
        }
    }
    found
}

/// Follows an item marked `#[cfg(test)]` to its end.
#[derive(Debug, Default)]
struct TestItem {
    inside: bool,
    depth: usize,
}

impl TestItem {
    fn covers(&mut self, code: &str) -> bool {
        if !self.inside {
            self.inside = code.trim_start().starts_with("#[cfg(test)]");
            self.depth = 0;
            return self.inside;
        }
        for c in code.chars() {
            match c {
                '{' => self.depth += 1,
                '}' => self.depth = self.depth.saturating_sub(1),
                ';' => {}
                _ => continue,
            }
            if self.depth == 0 {
                self.inside = false;
            }
        }
        true
    }
}

/// Whether `word` occurs in `text` and is not merely a part of a longer name.
pub(super) fn contains_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let open_end = !word.ends_with(part_of_name);
        !before.is_some_and(part_of_name) && (open_end || !after.is_some_and(part_of_name))
    })
}

fn target_is_installed() -> bool {
    // rustc names the directory whether or not it is there.
    let mut rustc = std::process::Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    process::capture(&mut rustc, RUSTC_DEADLINE)
        .is_ok_and(|answer| answer.status.success() && PathBuf::from(answer.stdout.trim()).is_dir())
}

const PURE: &[(&str, &str)] = &[("rbd-protocol", "protocol"), ("rbd-engine", "engine")];
const FORBIDDEN: &[&str] = &["extern crate std", "std::", "HashMap", "HashSet"];
const TARGET: &str = "x86_64-unknown-none";
const RUSTC_DEADLINE: Duration = Duration::from_secs(30);
