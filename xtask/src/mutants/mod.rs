//! `cargo xtask mutants`: every change cargo-mutants can think of in `protocol` and `engine`, and
//! who notices: the unit tests, or a few seeds of each profile of the simulation.
//!
//! Thousands of builds would take days, so there is one, of all mutants: in a copy of the sources
//! every function's body stands once per mutant, and `RBD_MUTANT` says which of them runs. What
//! has been found out is kept in `target/mutants` for as long as the code is the same.
//!
//! The zoo asks whether the simulation finds mistakes a person has thought of; this asks which
//! lines nobody would miss. It is no part of the tests, and changes no source.

mod build;
mod hunt;
mod list;
mod reach;
mod results;
mod table;
mod weave;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace::Workspace;
use build::{Loom, Programs};
use list::Mutant;
use reach::Reach;
use results::{Outcome, Results};
use table::Table;

/// Looks for all that were asked for; an error when one gets away.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::load()?;
    let all = list::load()?;
    let judged: HashSet<String> = list::judged(&workspace.root)?.into_iter().collect();
    for name in &judged {
        if !all.iter().any(|mutant| mutant.lasting_name == *name) {
            println!("{}: there is no mutant '{name}'", list::JUDGED);
        }
    }
    let mutants: Vec<&Mutant> = all.iter().filter(|mutant| options.wants(mutant)).collect();
    if mutants.is_empty() {
        return Err("no mutant is in such a file".to_owned());
    }
    let mut loom = Loom::new(&workspace, &mutants)?;
    let left_out = loom.left_out()?;
    if options.list {
        for mutant in &mutants {
            match left_out.get(&mutant.id) {
                Some(reason) => println!("{} (left out: {reason})", mutant.name),
                None => println!("{}", mutant.name),
            }
        }
        return Ok(());
    }
    let place = workspace.target_directory.join("mutants");
    let mut results = Results::open(
        &place.join("results.jsonl"),
        &results::fingerprint(&workspace.root)?,
    )?;
    let known = |mutant: &Mutant| results.of(&mutant.name, options.seeds);
    for mutant in &mutants {
        if known(mutant) == Some(&Outcome::Broken) {
            loom.broken.insert(mutant.id);
        }
    }
    // All are woven all the same: what is built stays as it is from run to run.
    let mut to_run = mutants.clone();
    to_run.retain(|mutant| {
        known(mutant).is_none()
            && !left_out.contains_key(&mutant.id)
            && !judged.contains(&mutant.lasting_name)
    });
    if !to_run.is_empty() {
        println!("building {} mutants", mutants.len());
        let programs = loom.build(&workspace, options.seeds > 0)?;
        for mutant in &to_run {
            if loom.broken.contains(&mutant.id) {
                results.add(&mutant.name, Outcome::Broken)?;
            }
        }
        to_run.retain(|mutant| !loom.broken.contains(&mutant.id));
        println!("{} are to be run", to_run.len());
        let reach = Reach::measure(&programs, &place, options.seeds)?;
        results = hunt_all(&programs, &reach, &to_run, &options, results)?;
    }
    if let Some(path) = &options.json {
        let text = table::json(&mutants, &left_out, &judged, &results, options.seeds);
        fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let table = Table::new(&mutants, &left_out, &judged, &results, options.seeds);
    print!("{}", table.text());
    table.verdict()
}

/// Looks for the mutants on all cores, until there are none left or the time is over.
fn hunt_all(
    programs: &Programs,
    reach: &Reach,
    mutants: &[&Mutant],
    options: &Options,
    results: Results,
) -> Result<Results, String> {
    let mut mutants = mutants.to_vec();
    // Scattered, so that a run cut short has seen some of every file.
    mutants.sort_by_key(|mutant| mutant.id.wrapping_mul(SCATTER));
    // What all tests have missed, and only fewer seeds: it needs the tests no more.
    let is_tested = |mutant: &&&Mutant| results.of(&mutant.name, 0).is_some();
    let tested: HashSet<u32> = mutants.iter().filter(is_tested).map(|one| one.id).collect();
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Ok(results));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let is_over = options.time.is_some_and(|time| start.elapsed() >= time);
            let Some(mutant) = mutants.get(index).filter(|_| !is_over) else {
                return;
            };
            if index > 0 && index.is_multiple_of(PROGRESS) {
                println!("{index} of {}", mutants.len());
            }
            let skip_tests = tested.contains(&mutant.id);
            let outcome = hunt::hunt(programs, reach, mutant.id, options.seeds, skip_tests);
            if let Ok(Outcome::Missed { .. }) = &outcome {
                println!("found by neither: {}", mutant.name);
            }
            let mut results = results.lock().expect("no thread panics with the results");
            let Ok(known) = results.as_mut() else {
                return;
            };
            let kept = outcome.and_then(|outcome| known.add(&mutant.name, outcome));
            if let Err(message) = kept {
                *results = Err(message);
            }
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    results
        .into_inner()
        .expect("no thread panics with the results")
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// `protocol` or `engine`, if only one of them.
    part: Option<String>,
    /// Only files with one of these in their path; all if there are none.
    files: Vec<String>,
    /// Of each profile of the simulation; with none, unit tests only.
    seeds: u64,
    /// After which no other mutant is begun.
    time: Option<Duration>,
    list: bool,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            part: None,
            files: Vec::new(),
            seeds: SEEDS,
            time: None,
            list: false,
            json: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--list" {
                options.list = true;
                continue;
            }
            if !OPTIONS.contains(&argument.as_str()) {
                return Err(format!("unknown option '{argument}' of mutants"));
            }
            let value = arguments.next();
            let value = value.ok_or_else(|| format!("{argument} of mutants needs a value"))?;
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_| format!("{argument} of mutants needs a number"))
            };
            match argument.as_str() {
                "--part" if !PARTS.contains(&value.as_str()) => {
                    return Err(format!("'{value}' is not one of {}", PARTS.join(", ")));
                }
                "--part" => options.part = Some(value.clone()),
                "--file" => options.files.push(value.clone()),
                "--seeds" => options.seeds = number()?,
                "--minutes" => options.time = Some(Duration::from_secs(60 * number()?)),
                _ => options.json = Some(value.into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, mutant: &Mutant) -> bool {
        let part = mutant.file.split('/').next();
        self.part.as_deref().is_none_or(|asked| Some(asked) == part)
            && (self.files.is_empty() || self.files.iter().any(|asked| mutant.file.contains(asked)))
    }
}

const PARTS: [&str; 2] = ["protocol", "engine"];

/// Those that need a value.
const OPTIONS: [&str; 5] = ["--part", "--file", "--seeds", "--minutes", "--json"];

/// Of each profile of the simulation: what is found at all is mostly found by the first of them.
const SEEDS: u64 = 40;

/// Odd, so that different numbers stay different.
const SCATTER: u32 = 0x9E37_79B1;

/// After how many mutants it is said how many there are.
const PROGRESS: usize = 100;
