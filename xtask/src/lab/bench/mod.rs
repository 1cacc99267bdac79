//! `cargo xtask bench lab`: our kernel device beside DRBD and RAID 1 over NBD, in two machines of
//! the lab.
//!
//! A script measures (`tests/lab/tests/bench-pair`) and writes one line for each measurement; here
//! the lab is started and the lines become medians and ratios. No figure makes it fail.

mod report;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use super::{cache, missing, pair, programs, up};
use crate::workspace;

/// Measures and prints the report.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let order = parse(arguments)?;
    if let Some(reason) = missing().or_else(|| pair::missing().map(str::to_owned)) {
        return Err(reason);
    }
    let workspace = workspace::Workspace::load()?;
    let lab = workspace.root.join("tests/lab");
    let cache = cache(&workspace.release_directory());
    up(&lab, &cache)?;
    let mut files = programs(&workspace)?;
    if let Some(other) = &order.other {
        // Under the name by which the script starts it.
        let copy = workspace.target_directory.join(OTHER);
        let copied = fs::copy(other, &copy);
        copied.map_err(|error| format!("{}: {error}", other.display()))?;
        files.push(copy);
    }
    let path = workspace.target_directory.join("bench-lab");
    fs::write(&path, "").map_err(|error| format!("{}: {error}", path.display()))?;
    let words = [
        ("BENCH_SAMPLES", path.display().to_string()),
        ("BENCH_ROUNDS", order.rounds.to_string()),
        ("BENCH_SECONDS", order.seconds.to_string()),
        ("BENCH_MEGABYTES", order.megabytes.to_string()),
        ("BENCH_TARGETS", order.targets.join(" ")),
        ("BENCH_JOBS", order.jobs.join(" ")),
    ];
    pair::run_with(&cache, &lab, &files, SCRIPT, &pair::MEASURED, &words)?;
    let samples = report::read(&super::read(&path)?)?;
    print!("{}", report::markdown(&samples));
    println!("\nEvery measurement is a line of {}.", path.display());
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Order {
    /// How often each is measured, after a first time that is not looked at.
    rounds: u32,
    /// How long each time.
    seconds: u32,
    /// The size of each disk.
    megabytes: u32,
    targets: Vec<String>,
    jobs: Vec<String>,
    /// Another build of `rbdd`, measured beside this one.
    other: Option<PathBuf>,
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let mut order = Order {
        rounds: 5,
        seconds: 6,
        megabytes: 1024,
        targets: report::TARGETS.map(str::to_owned).into(),
        jobs: report::JOBS.map(str::to_owned).into(),
        other: None,
    };
    order.targets.retain(|target| target != OTHER_TARGET);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next();
        let value = value.ok_or_else(|| format!("{word}: {USAGE}"))?;
        match word.as_str() {
            "--rounds" => order.rounds = at_least(1, word, value)?,
            // One of the two machines is looked at for a second less.
            "--seconds" => order.seconds = at_least(3, word, value)?,
            // The ends of the disks are not compared.
            "--size" => order.megabytes = at_least(64, word, value)?,
            "--targets" => order.targets = some_of(&report::TARGETS, value)?,
            "--jobs" => order.jobs = some_of(&report::JOBS, value)?,
            "--other" => order.other = Some(PathBuf::from(value)),
            _ => return Err(format!("{word}: {USAGE}")),
        }
    }
    let is_listed = order.targets.iter().any(|target| target == OTHER_TARGET);
    match order.other {
        Some(_) if !is_listed => order.targets.push(OTHER_TARGET.to_owned()),
        None if is_listed => return Err(format!("{OTHER_TARGET} is measured with --other FILE")),
        Some(_) | None => {}
    }
    Ok(order)
}

fn at_least(least: u32, word: &str, value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("{word} takes a number, at least {least}"))
}

/// Names that are all known, separated by commas.
fn some_of(known: &[&str], value: &str) -> Result<Vec<String>, String> {
    let names = value.split(',').map(str::to_owned);
    let names: Vec<String> = names.collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("no {name}; there are: {}", known.join(", "))),
        None => Ok(names),
    }
}

const USAGE: &str = "bench lab takes --rounds N, --seconds N, --size MEGABYTES, --targets NAME,…, \
                     --jobs NAME,… and --other RBDD";

const SCRIPT: &str = "bench-pair";

/// What the other build is called where the script starts it.
const OTHER: &str = "rbdd-other";

/// And as a target.
const OTHER_TARGET: &str = "rbd-other";
