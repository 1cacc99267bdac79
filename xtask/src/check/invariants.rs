//! The list of invariants against what checks them and against the mutants that violate them.
//!
//! It knows the shape of the tables in `docs/reliability/invariants.md`, nothing of their meaning.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::step::Verdict;
use crate::zoo;

/// Every invariant says who checks it, or that nobody does yet; every mutant violates known ones.
pub(super) fn check(root: &Path) -> Verdict {
    let path = root.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Verdict::Failed(format!("{FILE}: {error}")),
    };
    let invariants = invariants(&text);
    let mut complaints = unchecked(&invariants);
    match zoo::violated(root) {
        Ok(mutants) => complaints.extend(unknown(&invariants, &mutants)),
        Err(message) => complaints.push(message),
    }
    Verdict::of_complaints(&complaints)
}

/// Each id with what the last column of its row says.
pub(super) fn invariants(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (Some(ids), Some(checked)) = (cells.get(1), cells.iter().rev().nth(1)) else {
            continue;
        };
        for id in ids_of(ids) {
            found.insert(id, (*checked).to_owned());
        }
    }
    found
}

/// One id, or several: `E6–E8`.
fn ids_of(text: &str) -> Vec<String> {
    let number = |id: &str| {
        let mut letters = id.chars();
        let group = letters.next().filter(char::is_ascii_uppercase)?;
        Some((group, letters.as_str().parse::<u32>().ok()?))
    };
    let (first, last) = text.split_once('–').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some((group, first)), Some((other, last))) if group == other => {
            (first..=last).map(|id| format!("{group}{id}")).collect()
        }
        _ => Vec::new(),
    }
}

fn unchecked(invariants: &BTreeMap<String, String>) -> Vec<String> {
    if invariants.is_empty() {
        return vec![format!("{FILE}: no invariant is found in its tables")];
    }
    invariants
        .iter()
        .filter(|(_, checked)| checked.is_empty() || *checked == "–")
        .map(|(id, _)| format!("{FILE}: {id}: says neither who checks it nor that nobody does"))
        .collect()
}

fn unknown(invariants: &BTreeMap<String, String>, mutants: &[(String, String)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, violated) in mutants {
        for id in violated.split(',').map(str::trim) {
            if !invariants.contains_key(id) {
                complaints.push(format!("tests/zoo/{name}.toml: there is no invariant {id}"));
            }
        }
    }
    complaints
}

const FILE: &str = "docs/reliability/invariants.md";
