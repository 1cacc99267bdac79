//! Lines of the product's sources and how often each was run, read from lcov's format.
//!
//! Tests are no part of it: a test that ran covers itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Per file, relative to the workspace's root, the lines that could run, and how often they did.
#[derive(Debug, Default)]
pub(super) struct Lines {
    files: BTreeMap<String, BTreeMap<usize, u64>>,
}

impl Lines {
    /// Reads `SF:` (a file) and `DA:` (a line of it) records; the others repeat them in sum.
    pub(super) fn read(lcov: &str, root: &Path) -> Self {
        let mut files: BTreeMap<String, BTreeMap<usize, u64>> = BTreeMap::new();
        let mut file = None;
        for record in lcov.lines() {
            if let Some(path) = record.strip_prefix("SF:") {
                let relative = Path::new(path).strip_prefix(root).ok();
                file = relative
                    .and_then(Path::to_str)
                    .filter(|path| is_product(path))
                    .map(str::to_owned);
            } else if let (Some(path), Some(line)) = (&file, record.strip_prefix("DA:")) {
                let mut numbers = line.split(',').map(str::parse::<u64>);
                if let (Some(Ok(number)), Some(Ok(count))) = (numbers.next(), numbers.next()) {
                    let number = usize::try_from(number).unwrap_or(usize::MAX);
                    *files
                        .entry(path.clone())
                        .or_default()
                        .entry(number)
                        .or_default() += count;
                }
            }
        }
        Self { files }
    }

    /// Lines of a crate that could run, and those that did.
    fn of_crate(&self, directory: &str) -> (usize, usize) {
        let files = self.files_of(directory).map(|(_, lines)| lines);
        files.fold((0, 0), |(all, run), lines| {
            (all + lines.len(), run + covered(lines))
        })
    }

    fn files_of<'a>(
        &'a self,
        directory: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a BTreeMap<usize, u64>)> {
        let is_in = move |path: &str| path.split('/').next() == Some(directory);
        self.files.iter().filter(move |(path, _)| is_in(path))
    }

    /// A row for each file, and one for each crate.
    pub(super) fn table(&self, crates: &[&str]) -> String {
        let mut text = format!("{:<50} {:>6} {:>8}\n", "file", "lines", "covered");
        for directory in crates {
            for (path, lines) in self.files_of(directory) {
                row(&mut text, path, lines.len(), covered(lines));
            }
        }
        for directory in crates {
            let (all, run) = self.of_crate(directory);
            row(&mut text, &format!("{directory}: all"), all, run);
        }
        text
    }

    /// The lines nobody ran, with their text, of files whose path holds `part`.
    pub(super) fn uncovered(&self, root: &Path, crates: &[&str], part: &str) -> String {
        let mut text = String::new();
        for directory in crates {
            let files = self.files_of(directory);
            for (path, lines) in files.filter(|(path, _)| path.contains(part)) {
                let source = fs::read_to_string(root.join(path)).unwrap_or_default();
                let source: Vec<&str> = source.lines().collect();
                for number in lines.iter().filter(|(_, count)| **count == 0) {
                    let number = *number.0;
                    let line = number.checked_sub(1).and_then(|index| source.get(index));
                    let line = line.unwrap_or(&"");
                    text += &format!("{path}:{number}: {line}\n");
                }
            }
        }
        text
    }

    /// An error when one of the crates is below the share of lines asked for.
    pub(super) fn verdict(&self, crates: &[&str], wanted: f64) -> Result<(), String> {
        let mut short = Vec::new();
        for directory in crates {
            let (all, run) = self.of_crate(directory);
            // No lines at all means that something is wrong with the measurement.
            if all == 0 || percent(run, all) < wanted {
                short.push(format!("{directory} has {:.2} %", percent(run, all)));
            }
        }
        match short.as_slice() {
            [] => Ok(()),
            short => Err(format!("below {wanted} %: {}", short.join(", "))),
        }
    }
}

/// Whether a file is the product's and not a test of it.
fn is_product(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_test = name == "tests.rs" || name.ends_with("_tests.rs") || path.contains("/tests/");
    path.contains("/src/") && !is_test
}

fn covered(lines: &BTreeMap<usize, u64>) -> usize {
    lines.values().filter(|count| **count > 0).count()
}

fn row(text: &mut String, name: &str, all: usize, run: usize) {
    let share = percent(run, all);
    *text += &format!("{name:<50} {all:>6} {run:>8} {share:>7.2} %\n");
}

fn percent(part: usize, whole: usize) -> f64 {
    let number = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    if whole == 0 {
        return 0.0;
    }
    100.0 * number(part) / number(whole)
}
