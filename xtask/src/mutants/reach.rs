//! Which tests and which profiles of the simulation ever come to a function, and how long they
//! take: only those can find a mutant of it.
//!
//! To find out, each runs once without any mutant. Where something is wrong even then, nothing
//! that is found would mean anything, so that ends everything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::build::Programs;
use super::hunt::{Asked, DEADLINE, PROFILES, simulation, tests};
use crate::process;

/// By function: who comes to it.
#[derive(Debug, Default)]
pub(super) struct Reach {
    tests: BTreeMap<u32, Vec<Test>>,
    /// Numbers of profiles in the order they are tried in, and how long their seeds take.
    profiles: BTreeMap<u32, Vec<(usize, Duration)>>,
}

/// One unit test, the quickest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    pub(super) time: Duration,
    /// The program it is in.
    pub(super) program: String,
    pub(super) name: String,
}

/// Tests of one program that are run together, and how long that takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) program: String,
    pub(super) names: Vec<String>,
    pub(super) time: Duration,
}

/// What can be run once.
enum Runner {
    Test(Test),
    Profile(usize),
}

impl Reach {
    /// Runs everything once, on all cores. `place` is where notes are written meanwhile.
    pub(super) fn measure(programs: &Programs, place: &Path, seeds: u64) -> Result<Self, String> {
        let profiles = if seeds == 0 { 0 } else { PROFILES.len() };
        let mut runners: Vec<Runner> = (0..profiles).map(Runner::Profile).collect();
        for (program, (path, _)) in &programs.tests {
            let answer = process::capture(Command::new(path).arg("--list"), DEADLINE)?;
            let names = answer.stdout.lines();
            runners.extend(names.filter_map(|line| {
                Some(Runner::Test(Test {
                    time: Duration::ZERO,
                    program: program.clone(),
                    name: line.strip_suffix(": test")?.to_owned(),
                }))
            }));
        }
        let next = AtomicUsize::new(0);
        let reach = Mutex::new(Ok(Self::default()));
        let work = || {
            while let Some(runner) = runners.get(next.fetch_add(1, Ordering::Relaxed)) {
                let notes = place.join(format!("notes.{:?}", thread::current().id()));
                let run = runner.run(programs, &notes, seeds);
                let mut reach = reach.lock().expect("no thread panics with it");
                match (run, reach.as_mut()) {
                    (Ok((functions, time)), Ok(reach)) => reach.add(runner, &functions, time),
                    (Err(message), _) => *reach = Err(message),
                    (_, Err(_)) => return,
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        let mut reach = reach.into_inner().expect("no thread panics with it")?;
        reach.tests.values_mut().for_each(|tests| tests.sort());
        reach.profiles.values_mut().for_each(|all| all.sort());
        Ok(reach)
    }

    fn add(&mut self, runner: &Runner, functions: &[u32], time: Duration) {
        for function in functions {
            match runner {
                Runner::Test(test) => {
                    let test = Test {
                        time,
                        ..test.clone()
                    };
                    self.tests.entry(*function).or_default().push(test);
                }
                Runner::Profile(profile) => {
                    let all = self.profiles.entry(*function).or_default();
                    all.push((*profile, time));
                }
            }
        }
    }

    /// The tests that come to a function: a few quick ones first, then all others.
    pub(super) fn batches(&self, function: u32) -> Vec<Batch> {
        let tests = self.tests.get(&function).map_or(&[][..], Vec::as_slice);
        let mut batches: Vec<Batch> = Vec::new();
        let (quick, others) = tests.split_at(tests.len().min(QUICK));
        for tests in [quick, others] {
            let first = batches.len();
            for test in tests {
                let mut of_turn = batches[first..].iter_mut();
                match of_turn.find(|batch| batch.program == test.program) {
                    Some(batch) => {
                        batch.names.push(test.name.clone());
                        batch.time += test.time;
                    }
                    None => batches.push(Batch {
                        program: test.program.clone(),
                        names: vec![test.name.clone()],
                        time: test.time,
                    }),
                }
            }
        }
        batches
    }

    /// The profiles that come to a function, and how long their seeds take.
    pub(super) fn profiles(&self, function: u32) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = self.profiles.get(&function).into_iter().flatten();
        all.map(|(profile, time)| (PROFILES[*profile], *time))
    }
}

impl Runner {
    /// Which functions it comes to, and how long that takes.
    fn run(
        &self,
        programs: &Programs,
        notes: &Path,
        seeds: u64,
    ) -> Result<(Vec<u32>, Duration), String> {
        // There is none yet, or one of what ran before.
        drop(fs::remove_file(notes));
        let asked = Asked::Notes(notes);
        let mut command = match self {
            Self::Test(test) => {
                let names = std::slice::from_ref(&test.name);
                tests(programs, &test.program, names, &asked, UNLIMITED)?
            }
            Self::Profile(profile) => {
                simulation(programs, PROFILES[*profile], seeds, &asked, UNLIMITED)
            }
        };
        let start = Instant::now();
        let answer = process::capture(&mut command, UNLIMITED)?;
        let time = start.elapsed();
        if !answer.status.success() {
            let line = process::show(&command);
            return Err(format!("without any mutant `{line}` fails already"));
        }
        let text = fs::read_to_string(notes).unwrap_or_default();
        drop(fs::remove_file(notes));
        Ok((
            text.lines().filter_map(|line| line.parse().ok()).collect(),
            time,
        ))
    }
}

/// How many tests are run before all others: most mutants are found by any test.
const QUICK: usize = 20;

/// More than anything takes that is not broken.
const UNLIMITED: Duration = Duration::from_secs(7_200);

#[cfg(test)]
impl Reach {
    /// One in which these tests come to a function.
    pub(super) fn of_tests(function: u32, tests: Vec<Test>) -> Self {
        Self {
            tests: BTreeMap::from([(function, tests)]),
            profiles: BTreeMap::new(),
        }
    }
}
