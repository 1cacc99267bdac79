//! What became of the mutants, for people, for documents and for programs.

use serde_json::{Value, json};

use super::hunt::Outcome;
use super::mutant::Mutant;
use crate::process;

/// One line for the terminal.
pub(super) fn line(mutant: &Mutant, outcome: &Outcome) -> String {
    let (name, finder) = (&mutant.name, mutant.finder.to_string());
    let (count, what) = match outcome {
        Outcome::Found {
            profile,
            seeds,
            what,
            time,
        } => (
            seeds_in_words(*seeds),
            format!("{profile}: {} ({})", cut(what, 90), process::seconds(*time)),
        ),
        Outcome::Missed { seeds } => ("-".to_owned(), format!("NOT FOUND in {seeds} seeds")),
        Outcome::Broken(why) => ("-".to_owned(), format!("BROKEN: {why}")),
    };
    let finder = finder.split(' ').next().unwrap_or_default();
    format!("{name:<36} {finder:<10} {count:>6}  {what}")
}

/// The rows of the table in `docs/reliability/zoo.md`.
pub(super) fn markdown(outcomes: &[(&Mutant, Outcome)]) -> String {
    let mut text = String::from(
        "| Mutant | What is broken | Violates | Found by | Seeds | First seen as |\n\
         |---|---|---|---|---:|---|\n",
    );
    for (mutant, outcome) in outcomes {
        let (by, seeds, what) = match outcome {
            Outcome::Found {
                profile,
                seeds,
                what,
                ..
            } => (profile.as_str(), seeds_in_words(*seeds), category(what)),
            Outcome::Missed { .. } => ("nobody", String::new(), String::new()),
            Outcome::Broken(_) => ("cannot be built", String::new(), String::new()),
        };
        let Mutant {
            name,
            story,
            invariants,
            ..
        } = mutant;
        text += &format!("| `{name}` | {story} | {invariants} | {by} | {seeds} | {what} |\n");
    }
    text
}

/// Everything, for programs.
pub(super) fn json(outcomes: &[(&Mutant, Outcome)]) -> String {
    let rows = outcomes.iter().map(|(mutant, outcome)| {
        let mut row = json!({
            "name": mutant.name,
            "story": mutant.story,
            "invariants": mutant.invariants,
            "like": mutant.like,
            "finder": mutant.finder.to_string(),
        });
        match outcome {
            Outcome::Found {
                profile,
                seeds,
                what,
                time,
            } => {
                row["found_by"] = json!(profile);
                row["seeds"] = json!(seeds);
                row["what"] = json!(what);
                row["seconds"] = json!(time.as_secs_f64());
            }
            Outcome::Missed { seeds } => row["missed_in_seeds"] = json!(seeds),
            Outcome::Broken(why) => row["broken"] = json!(why),
        }
        row
    });
    let rows: Vec<Value> = rows.collect();
    format!("{:#}\n", Value::from(rows))
}

/// The sum of it; an error when a mutant got away.
pub(super) fn verdict(outcomes: &[(&Mutant, Outcome)], limit: u64) -> Result<(), String> {
    let mut needed: Vec<u64> = Vec::new();
    let mut away = Vec::new();
    for (mutant, outcome) in outcomes {
        match outcome {
            Outcome::Found { seeds, .. } => needed.push(*seeds),
            Outcome::Missed { .. } => away.push(format!("{} was not found", mutant.name)),
            Outcome::Broken(why) => away.push(format!("{}: {why}", mutant.name)),
        }
    }
    let simulated = needed.iter().filter(|seeds| **seeds > 0);
    println!(
        "{} of {} mutants found, by the simulation in {} seeds at the median, {} at most",
        needed.len(),
        outcomes.len(),
        median(simulated.clone().copied().collect()),
        simulated.max().unwrap_or(&0)
    );
    if away.is_empty() {
        return Ok(());
    }
    Err(format!(
        "within {limit} seeds not all were found:\n  {}",
        away.join("\n  ")
    ))
}

pub(super) fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

/// Which check a message comes from, without what belongs to the one seed only.
pub(super) fn category(what: &str) -> String {
    let known = [
        ("pair-check", "pair-check"),
        ("read returned", "registers"),
        ("both nodes say they are in sync", "replicas"),
        ("both nodes are Primary", "two Primaries"),
        ("A6: ", "disk: overlapping writes"),
        (
            "written twice at once",
            "disk: metadata block twice at once",
        ),
        ("is not possible on this disk", "disk: impossible range"),
        ("never answered", "healing: unanswered"),
        ("not healed", "healing: no end"),
        ("never idle", "healing: never idle"),
        ("does not end", "no end"),
        ("completed twice", "answered twice"),
        ("answered twice", "answered twice"),
        ("cannot attach", "attach"),
        ("cannot be read", "metadata"),
        ("attach refused", "attach"),
        ("failed: ", "a client's error"),
    ];
    if let Some(panic) = what.strip_prefix("panic: ") {
        let first = panic.lines().next().unwrap_or_default();
        return format!("assertion: {}", cut(first, 60));
    }
    known
        .iter()
        .find(|(mark, _)| what.contains(mark))
        .map_or_else(|| cut(what, 60), |(_, name)| (*name).to_owned())
}

fn seeds_in_words(seeds: u64) -> String {
    if seeds == 0 {
        return "test".to_owned();
    }
    seeds.to_string()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
