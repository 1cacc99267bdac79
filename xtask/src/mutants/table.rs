//! What became of the mutants, for people and for programs.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::list::{JUDGED, Mutant};
use super::results::{Outcome, Results};

/// How many mutants ended how, and which of them nothing has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    mutants: usize,
    left_out: usize,
    judged: usize,
    broken: usize,
    tested: usize,
    simulated: usize,
    endless: usize,
    unknown: usize,
    /// File, line, and what is replaced.
    missed: Vec<(String, usize, String)>,
}

impl Table {
    /// Counts them.
    pub(super) fn new(
        mutants: &[&Mutant],
        left_out: &BTreeMap<u32, &'static str>,
        judged: &HashSet<String>,
        results: &Results,
        seeds: u64,
    ) -> Self {
        let mut table = Self::default();
        for mutant in mutants {
            table.mutants += 1;
            let outcome = results.of(&mutant.name, seeds);
            let count = match outcome {
                _ if left_out.contains_key(&mutant.id) => &mut table.left_out,
                _ if judged.contains(&mutant.lasting_name) => &mut table.judged,
                Some(Outcome::Broken) => &mut table.broken,
                Some(Outcome::Tested { .. }) => &mut table.tested,
                Some(Outcome::Simulated { .. }) => &mut table.simulated,
                Some(Outcome::Endless { .. }) => &mut table.endless,
                Some(Outcome::Missed { .. }) => {
                    table.missed.push(missed(mutant));
                    continue;
                }
                None => &mut table.unknown,
            };
            *count += 1;
        }
        table.missed.sort();
        table
    }

    /// The table, and below it those that nothing has found.
    pub(super) fn text(&self) -> String {
        let rows = [
            ("mutants", self.mutants),
            ("left out: constants, const fn, impl Trait", self.left_out),
            ("not buildable", self.broken),
            ("judged by a person", self.judged),
            ("found by unit tests", self.tested),
            ("found by simulation", self.simulated),
            ("found by a timeout", self.endless),
            ("found by neither", self.missed.len()),
            ("not yet run", self.unknown),
        ];
        let mut text = String::new();
        for (what, count) in rows {
            text += &format!("{what:<44}{count:>6}\n");
        }
        for (file, line, what) in &self.missed {
            text += &format!("{file}:{line}:{what}\n");
        }
        text
    }

    /// An error when a mutant got away.
    pub(super) fn verdict(&self) -> Result<(), String> {
        match self.missed.len() {
            0 => Ok(()),
            1 => Err(format!(
                "one mutant was found by nothing and is not in {JUDGED}"
            )),
            some => Err(format!(
                "{some} mutants were found by nothing and are not in {JUDGED}"
            )),
        }
    }
}

/// Where it is, and the end of its lasting name.
fn missed(mutant: &Mutant) -> (String, usize, String) {
    let what = mutant.lasting_name.strip_prefix(&mutant.file);
    let what = what
        .and_then(|what| what.strip_prefix(':'))
        .unwrap_or_default();
    (mutant.file.clone(), mutant.span.start.line, what.to_owned())
}

/// Everything, for programs.
pub(super) fn json(
    mutants: &[&Mutant],
    left_out: &BTreeMap<u32, &'static str>,
    judged: &HashSet<String>,
    results: &Results,
    seeds: u64,
) -> String {
    let rows = mutants.iter().map(|mutant| {
        let mut row = match (left_out.get(&mutant.id), results.of(&mutant.name, seeds)) {
            (Some(reason), _) => json!({"is": "left out", "reason": reason}),
            (None, Some(outcome)) => outcome.to_json(&mutant.name),
            (None, None) => json!({"is": "not yet run"}),
        };
        row["name"] = json!(mutant.name);
        row["lasting_name"] = json!(mutant.lasting_name);
        row["judged"] = json!(judged.contains(&mutant.lasting_name));
        row
    });
    let rows: Vec<Value> = rows.collect();
    format!("{:#}\n", Value::from(rows))
}
