//! `cargo xtask campaign`: fresh seeds of the simulation for as long as wanted, and a row in the
//! ledger (`docs/reliability/ledger.md`) that says what they were and what came of them.
//!
//! The row is written whether or not something was found, and only at the end.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::process;
use crate::workspace::{self, Workspace};

/// Runs seeds of every profile in turn.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (minutes, from) = parse(arguments)?;
    let workspace = Workspace::load()?;
    let commit = commit()?;
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "rbd-tests"]);
    process::run(build.args(["--bin", "rbd-simulate"]))?;
    let program = workspace.release_directory().join("rbd-simulate");
    let start = Instant::now();
    let first = from.unwrap_or_else(fresh_seed);
    let mut seed = first;
    let mut sum = Sum::default();
    'campaign: loop {
        for profile in PROFILES {
            let seeds = format!("{seed}..{}", seed + SEEDS_AT_ONCE);
            let mut command = Command::new(&program);
            command.args([
                "--profile",
                profile,
                "--go-on",
                "--figures",
                "--seeds",
                &seeds,
            ]);
            let answer = process::capture(&mut command, DEADLINE)?;
            let failed = answer
                .stdout
                .lines()
                .filter(|line| line.starts_with("seed "));
            for line in failed {
                println!("profile {profile}, {line}");
            }
            sum.add(&answer.stdout)?;
            seed += SEEDS_AT_ONCE;
            if start.elapsed() >= Duration::from_secs(60 * minutes) {
                break 'campaign;
            }
        }
        println!("{} seeds, {} failed", sum.seeds, sum.failed);
    }
    let row = sum.row(&commit, first, start.elapsed());
    println!("{row}");
    let path = workspace.root.join(LEDGER);
    let text = fs::read_to_string(&path).map_err(|error| format!("{LEDGER}: {error}"))?;
    fs::write(&path, add_row(&text, &row)?).map_err(|error| format!("{LEDGER}: {error}"))?;
    match sum.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} seeds failed; they are listed above")),
    }
}

/// What has been counted.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    failed: u64,
    events: u64,
    operations: u64,
    virtual_ms: u64,
    faults: BTreeMap<String, u64>,
    marks: BTreeMap<String, u64>,
}

impl Sum {
    /// Adds the figures in what a run has printed.
    fn add(&mut self, output: &str) -> Result<(), String> {
        let line = output.lines().find(|line| line.starts_with('{'));
        let line = line.ok_or("the simulation printed no figures")?;
        let figures: Value =
            serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
        let number = |key: &str| figures[key].as_u64().unwrap_or(0);
        self.seeds += number("seeds");
        self.failed += number("failed");
        self.events += number("events");
        self.operations += number("operations");
        self.virtual_ms += number("virtual_ms");
        for (kind, count) in figures["faults"].as_object().into_iter().flatten() {
            *self.faults.entry(kind.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        for mark in figures["marks"].as_array().into_iter().flatten() {
            let name = mark[0].as_str().unwrap_or_default().to_owned();
            *self.marks.entry(name).or_default() += mark[1].as_u64().unwrap_or(0);
        }
        Ok(())
    }

    fn row(&self, commit: &str, first: u64, time: Duration) -> String {
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let hit = self.marks.values().filter(|count| **count > 0).count();
        format!(
            "| {commit} | {first} | {} | {} | {} | {} | {} h | {} | {hit} of {} | {} min |",
            self.seeds,
            self.failed,
            self.events,
            self.operations,
            self.virtual_ms / 3_600_000,
            faults.join(", "),
            self.marks.len(),
            time.as_secs() / 60,
        )
    }
}

/// The ledger with one more row below its table, which ends the file.
fn add_row(text: &str, row: &str) -> Result<String, String> {
    let text = text.trim_end();
    if !text
        .lines()
        .last()
        .is_some_and(|line| line.starts_with('|'))
    {
        return Err(format!("{LEDGER} does not end in a table"));
    }
    Ok(format!("{text}\n{row}\n"))
}

fn parse(arguments: &[String]) -> Result<(u64, Option<u64>), String> {
    let (mut minutes, mut from) = (10, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("{argument} of campaign needs a number"))?;
        match argument.as_str() {
            "--minutes" => minutes = value,
            "--from" => from = Some(value),
            other => return Err(format!("unknown option '{other}' of campaign")),
        }
    }
    Ok((minutes, from))
}

/// A seed nobody has run: later campaigns begin where none of the earlier ones can have ended.
fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs() * SEEDS_IN_A_SECOND
}

/// The commit the sources are of; with a mark when they have been changed since.
fn commit() -> Result<String, String> {
    let mut command = Command::new("git");
    command.current_dir(workspace::root());
    command.args(["describe", "--always", "--dirty=+", "--exclude=*"]);
    let answer = process::capture(&mut command, DEADLINE)?;
    Ok(answer.stdout.trim().to_owned())
}

const LEDGER: &str = "docs/reliability/ledger.md";

/// Every profile, the ones with more faults more often.
const PROFILES: [&str; 13] = [
    "swarm",
    "power",
    "network",
    "disk",
    "swarm",
    "rivals",
    "power",
    "calm",
    "swarm",
    "scrub",
    "growth",
    "dual-faults",
    "volumes",
];

/// How many seeds are run before the time is looked at.
const SEEDS_AT_ONCE: u64 = 500;

/// More than any machine runs.
const SEEDS_IN_A_SECOND: u64 = 100_000;

/// A run of so many seeds takes a minute or two.
const DEADLINE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::{Sum, add_row, parse};
    use std::time::Duration;

    #[test]
    fn figures_of_several_runs_are_added_up() {
        let mut sum = Sum::default();
        let output = "seed 3: at 1: bad\n{\"seeds\":2,\"failed\":1,\"events\":7,\
                      \"faults\":{\"Cut\":4},\"marks\":[[\"BothDown\",0]]}\nmore\n";
        for _ in 0..2 {
            sum.add(output).expect("there are figures");
        }
        let row = sum.row("abc", 5, Duration::from_secs(120));
        assert_eq!(
            row,
            "| abc | 5 | 4 | 2 | 14 | 0 | 0 h | Cut 8 | 0 of 1 | 2 min |"
        );
        assert!(sum.add("nothing").is_err());
    }

    #[test]
    fn a_row_goes_below_the_table_that_ends_the_ledger() {
        assert_eq!(
            add_row("# L\n|---|\n", "| 1 |"),
            Ok("# L\n|---|\n| 1 |\n".into())
        );
        assert!(add_row("# L\n", "| 1 |").is_err());
    }

    #[test]
    fn options_need_numbers() {
        assert_eq!(parse(&["--minutes".into(), "3".into()]), Ok((3, None)));
        assert!(parse(&["--minutes".into()]).is_err());
    }
}
