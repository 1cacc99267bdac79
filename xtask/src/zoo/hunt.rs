//! Looking for a mutant: seed after seed, until something is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process;

/// A mutant that has been built.
#[derive(Debug)]
pub(super) enum Prey {
    /// The simulation with the mutant in it.
    Simulation(PathBuf),
    /// The tests have been run already.
    Tested { failed: bool, output: String },
}

/// How the hunt for a mutant ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Something was wrong.
    Found {
        /// With this profile, or in tests.
        profile: String,
        /// At the seed of this number, counted from one; 0 for tests.
        seeds: u64,
        /// What was wrong.
        what: String,
        /// How long it took to look.
        time: Duration,
    },
    /// Nothing was.
    Missed {
        /// In so many seeds of each profile.
        seeds: u64,
    },
    /// It could not be looked for.
    Broken(String),
}

impl Prey {
    /// Looks for it in the profiles in turn; what finds it in the fewest seeds counts.
    pub(super) fn hunt(&self, profiles: &[String], seeds: u64) -> Outcome {
        let program = match self {
            Self::Simulation(program) => program,
            Self::Tested { failed: false, .. } => return Outcome::Missed { seeds: 0 },
            Self::Tested { output, .. } => {
                return Outcome::Found {
                    profile: "test".to_owned(),
                    seeds: 0,
                    what: failed_test(output),
                    time: Duration::ZERO,
                };
            }
        };
        let mut best: Option<Outcome> = None;
        let mut limit = seeds;
        for profile in profiles {
            match hunt_in(program, profile, limit) {
                found @ Outcome::Found { seeds, .. } => {
                    limit = seeds - 1;
                    best = Some(found);
                }
                Outcome::Missed { .. } => {}
                broken @ Outcome::Broken(_) => return broken,
            }
        }
        best.unwrap_or(Outcome::Missed { seeds })
    }
}

fn hunt_in(program: &Path, profile: &str, seeds: u64) -> Outcome {
    let start = Instant::now();
    let found = |seeds, what: &str| Outcome::Found {
        profile: profile.to_owned(),
        seeds,
        what: what.to_owned(),
        time: start.elapsed(),
    };
    let mut from = 0;
    while from < seeds {
        // Most are found soon; the later ones are worth looking for in longer runs.
        let to = (from * 4).max(CHUNK).min(seeds);
        let mut command = Command::new(program);
        command.args(["--profile", profile, "--seeds", &format!("{from}..{to}")]);
        let Ok(answer) = process::capture(&mut command, deadline(to - from)) else {
            return found(to, "the simulation does not end");
        };
        match answer.status.code() {
            Some(0) => from = to,
            Some(2) => {
                let (seed, what) = failed_seed(&answer.stdout);
                return found(seed.unwrap_or(from) + 1, &what);
            }
            Some(_) => return Outcome::Broken(answer.stderr.trim().to_owned()),
            None => return found(to, "the simulation dies"),
        }
    }
    Outcome::Missed { seeds }
}

/// The seed a run of the simulation failed at, and what was wrong.
pub(super) fn failed_seed(output: &str) -> (Option<u64>, String) {
    let line = output.lines().find(|line| line.starts_with("seed "));
    let (seed, text) = line
        .and_then(|line| line.strip_prefix("seed "))
        .and_then(|line| line.split_once(": "))
        .unwrap_or_default();
    // Behind the time it was noticed at.
    let what = text
        .strip_prefix("at ")
        .and_then(|text| text.split_once(": "))
        .map_or(text, |(_, what)| what);
    (seed.parse().ok(), what.to_owned())
}

/// The first test that failed, as the list at the end names it.
pub(super) fn failed_test(output: &str) -> String {
    let mut lines = output.lines().rev();
    let names = lines.by_ref().take_while(|line| *line != "failures:");
    let first = names.filter(|line| line.starts_with("    ")).last();
    first.map_or("a test", str::trim).to_owned()
}

/// After which a run of so many seeds that has not ended is taken for one that never will.
fn deadline(seeds: u64) -> Duration {
    Duration::from_secs(60) + Duration::from_millis(300 * seeds)
}

/// How many seeds are run first.
const CHUNK: u64 = 50;
