//! `cargo xtask zoo`: breaks the engine on purpose, one mutant at a time, and sees who notices.
//!
//! A mutant is a file in `tests/zoo`: a story, what it violates, the profile of the simulation (or
//! the test) that must find it, and a few replacements of text. The product knows nothing of it:
//! the sources are copied to a scratch directory, changed there, and built there. While one mutant
//! is being looked for, the next one is built.
//!
//! Checks that are not the simulation's count only where a mutant names a test as its finder.

mod hunt;
mod mutant;
mod scratch;
mod table;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use crate::workspace::Workspace;
use hunt::{Outcome, Prey};
use mutant::{Finder, Mutant};
pub(crate) use mutant::{check, violated};
use scratch::Scratch;

/// Breaks and hunts; an error when a mutant is not found or is none any more.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::load()?;
    let mutants: Vec<Mutant> = mutant::load_all(&workspace.root, options.unfound)?
        .into_iter()
        .filter(|mutant| options.wants(&mutant.name))
        .collect();
    if mutants.is_empty() {
        return Err("no mutant has such a name; they are in tests/zoo".to_owned());
    }
    if options.list {
        for mutant in &mutants {
            println!("{:<36} {:<10} {}", mutant.name, mutant.finder, mutant.story);
        }
        return Ok(());
    }
    let outcomes = hunt_all(&workspace, &mutants, &options)?;
    if let Some(path) = &options.json {
        write(path, &table::json(&outcomes))?;
    }
    if let Some(path) = &options.table {
        write(path, &table::markdown(&outcomes))?;
    }
    table::verdict(&outcomes, options.seeds)
}

/// Builds on one thread what is looked for on this one.
fn hunt_all<'a>(
    workspace: &Workspace,
    mutants: &'a [Mutant],
    options: &Options,
) -> Result<Vec<(&'a Mutant, Outcome)>, String> {
    let mut scratch = Scratch::new(workspace)?;
    // One built mutant may wait while another is looked for.
    let (built, to_hunt) = mpsc::sync_channel::<(&Mutant, Result<Prey, String>)>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            for mutant in mutants {
                let prey = scratch.build(mutant);
                if built.send((mutant, prey)).is_err() {
                    return;
                }
            }
        });
        let mut outcomes = Vec::new();
        for (mutant, prey) in to_hunt {
            let outcome = match prey {
                Ok(prey) => {
                    let mut profiles = options.profiles.clone();
                    if profiles.is_empty()
                        && let Finder::Simulation { profile } = &mutant.finder
                    {
                        profiles.push(profile.clone());
                    }
                    prey.hunt(&profiles, options.seeds)
                }
                Err(message) => Outcome::Broken(message),
            };
            println!("{}", table::line(mutant, &outcome));
            outcomes.push((mutant, outcome));
        }
        Ok(outcomes)
    })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    names: Vec<String>,
    seeds: u64,
    list: bool,
    /// Those nobody has found so far.
    unfound: bool,
    /// Instead of the profile each mutant names.
    profiles: Vec<String>,
    json: Option<PathBuf>,
    table: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            names: Vec::new(),
            seeds: SEEDS,
            list: false,
            unfound: false,
            profiles: Vec::new(),
            json: None,
            table: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} of zoo needs a value"))
            };
            match argument.as_str() {
                "--list" => options.list = true,
                "--unfound" => options.unfound = true,
                "--seeds" => {
                    let text = value()?;
                    options.seeds = text
                        .parse()
                        .map_err(|_| format!("'{text}' is not a number of seeds"))?;
                }
                "--profile" => options.profiles.push(value()?.clone()),
                "--json" => options.json = Some(value()?.into()),
                "--table" => options.table = Some(value()?.into()),
                other if other.starts_with('-') => {
                    return Err(format!("unknown option '{other}' of zoo"));
                }
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }

    /// Whether a mutant was asked for, by its name or the beginning of it.
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|asked| name.starts_with(asked))
    }
}

/// Within how many seeds a mutant must be found.
const SEEDS: u64 = 5_000;
