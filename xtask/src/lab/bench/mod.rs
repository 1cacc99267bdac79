//! `cargo xtask bench lab`: our kernel device beside DRBD and RAID 1 over NBD, in two machines of
//! the lab.
//!
//! A script measures (`tests/lab/tests/bench-pair`) and writes one line for each measurement; here
//! the lab is started and the lines become medians and ratios. No figure makes it fail.

mod report;
#[cfg(test)]
mod tests;

use std::fs;

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
    let files = programs(&workspace)?;
    let path = workspace.target_directory.join("bench-lab");
    fs::write(&path, "").map_err(|error| format!("{}: {error}", path.display()))?;
    let words = [
        ("BENCH_SAMPLES", path.display().to_string()),
        ("BENCH_ROUNDS", order.rounds.to_string()),
        ("BENCH_SECONDS", order.seconds.to_string()),
        ("BENCH_MEGABYTES", order.megabytes.to_string()),
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
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let mut order = Order {
        rounds: 5,
        seconds: 6,
        megabytes: 1024,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let (place, least) = match word.as_str() {
            "--rounds" => (&mut order.rounds, 1),
            // One of the two machines is looked at for a second less.
            "--seconds" => (&mut order.seconds, 3),
            // The ends of the disks are not compared.
            "--size" => (&mut order.megabytes, 64),
            _ => return Err(format!("{word}: {USAGE}")),
        };
        let value = words.next().and_then(|value| value.parse().ok());
        *place = value
            .filter(|value| *value >= least)
            .ok_or_else(|| format!("{word} takes a number, at least {least}"))?;
    }
    Ok(order)
}

const USAGE: &str = "bench lab takes --rounds N, --seconds N and --size MEGABYTES";

const SCRIPT: &str = "bench-pair";
